"""The one door for child processes.

Rules: every child of this process starts here, in the event loop's thread, and is registered in the same
step: there is no moment in which it exists and is unknown. (Those of `begun` exist before there is a loop, and
before orphans are looked for. What begins in another network namespace is launched by a thread that is in it, and
waits at a gate until it is known: `gated`.) A registered child is waited for by whoever started it, by its own pid.
Everything else that is a child — a process whose parent ended, or one that was `launch`ed to outlive this
process — is an orphan, and `reap_orphans` collects it, again by its own pid.
Waiting for "any child" is never done: it would take exit statuses from those who wait for them.

Children get a process group of their own (a session only if they are to outlive us: on a busy machine the
scheduler makes the first steps of a new session 2 ms slower), a small clean environment, and no descriptor
that was not asked for. Starting one holds the loop for about 0.2 ms (vfork); it needs one wait of the loop,
whatever it prints.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import DeadlineExceeded, InternalError
from supervisor.kernel.begun import CLEAN_ENVIRONMENT
from supervisor.kernel.process import Pidfd, ProcessRef, ref_of
from supervisor.kernel.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor.kernel.begun import Begun

__all__ = [
    "CLEAN_ENVIRONMENT",
    "Child",
    "Completed",
    "collect",
    "launch",
    "of_this_process",
    "reap_orphans",
    "run",
    "spawn",
]

_CHUNK = 1 << 16
_KILL_PATIENCE = 1.0
"""Seconds that a killed child is waited for; one stuck in the kernel is left to `reap_orphans`."""

_registered: set[int] = set()


class Completed(msgspec.Struct, frozen=True):
    """How a child ended. `returncode` is its exit code, or minus the signal that ended it."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Child:
    """A running child. Somebody has to `wait` for it, or `release` it to the orphan reaper."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ref = ref_of(pid) or ProcessRef(pid, 0)
        self.pidfd = Pidfd(os.pidfd_open(pid), self.ref)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its return code, reaping it, if it has ended."""
        if self.returncode is None and self.pid in _registered:
            status = _reap(self.pid)  # ChildProcessError would mean that somebody broke the rules above
            if status is not None:
                self.returncode = _return_code(status)
                self.release()
        return self.returncode

    async def wait(self) -> int:
        """Its return code. Cancelling the wait leaves the child alone."""
        while (code := self.poll()) is None:
            await self.pidfd.wait()
        return code

    def send_signal(self, number: int) -> bool:
        """False: it has been waited for."""
        return self.pid in _registered and self.pidfd.send_signal(number)

    async def kill(self) -> None:
        """End it and its process group with SIGKILL and reap it; also while being cancelled."""
        if self.poll() is not None or self.pid not in _registered:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        self.pidfd.send_signal(signal.SIGKILL)
        with trio.CancelScope(deadline=trio.current_time() + _KILL_PATIENCE, shield=True):
            await self.wait()
        self.release()

    def release(self) -> None:
        """Stop being the one who waits."""
        _registered.discard(self.pid)
        self.pidfd.close()


def _return_code(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _reap(pid: int) -> int | None:
    """The wait status of exactly that child; None while it runs. ChildProcessError: it is not a child."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None


def _start(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str,
    pass_fds: Sequence[int],
    streams: tuple[int, int, int],
    *,
    own_session: bool = False,
) -> int:
    process = subprocess.Popen(
        argv,
        env=dict(CLEAN_ENVIRONMENT if env is None else env),
        cwd=cwd,
        pass_fds=pass_fds,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        start_new_session=own_session,
        process_group=None if own_session else 0,
    )
    # The object's own bookkeeping must neither warn about the child nor wait for it: that is done here.
    process.returncode = 0
    return process.pid


def _or_null(*fds: int | None) -> tuple[int, int, int]:
    stdin, stdout, stderr = (subprocess.DEVNULL if fd is None else fd for fd in fds)
    return stdin, stdout, stderr


def launch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> ProcessRef:
    """Start a process that is meant to outlive this one; it is an orphan from the beginning.

    Streams that are not given are /dev/null. OSError: the program cannot be executed.
    """
    pid = _start(argv, env, cwd, pass_fds, _or_null(stdin, stdout, stderr), own_session=True)
    try:
        ref = ref_of(pid)
    except OSError:  # no descriptor left to look at it: what nobody can name must not stay
        os.kill(pid, signal.SIGKILL)
        raise
    if ref is None:
        raise InternalError(
            f"cannot find child {pid} right after its start: somebody else waits for children"
        )
    return ref


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Child:
    """Start a registered child. Streams that are not given are /dev/null. OSError: it cannot be executed."""
    await trio.lowlevel.checkpoint_if_cancelled()
    return _spawn_now(argv, env, cwd, pass_fds, _or_null(stdin, stdout, stderr))


def _spawn_now(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str,
    pass_fds: Sequence[int],
    streams: tuple[int, int, int],
) -> Child:
    return _registered_child(_start(argv, env, cwd, pass_fds, streams))


def _registered_child(pid: int) -> Child:
    _registered.add(pid)
    try:
        return Child(pid)
    except OSError:  # no descriptor left for the pidfd: an unwatched child must not stay
        _registered.discard(pid)
        os.killpg(pid, signal.SIGKILL)
        raise


async def run(
    argv: Sequence[str],
    *,
    deadline: float,
    input: bytes = b"",  # noqa: A002 - the word subprocess uses
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    pass_fds: Sequence[int] = (),
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    max_output: int = 1 << 20,
    on_kill: Callable[[int], object] | None = None,
) -> Completed:
    """Run a program to its end, collecting what it prints on streams that are not given as descriptors.

    `deadline` is in seconds from now; when it passes, the child and its process group are killed and
    DeadlineExceeded is raised. Cancellation kills them too. Output past `max_output` bytes a stream is
    read and dropped. Output ends when the child does, even if a descendant still holds the stream.
    `on_kill` is told the child's pid just before it is killed. OSError: the program cannot be executed.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    with ExitStack() as ours:
        pipes = _Pipes(ours, max_output)
        with ExitStack() as theirs:
            streams = (
                (pipes.source(theirs, input) if input else subprocess.DEVNULL) if stdin is None else stdin,
                pipes.sink(theirs) if stdout is None else stdout,
                pipes.sink(theirs) if stderr is None else stderr,
            )
            child = _spawn_now(argv, env, cwd, pass_fds, streams)
        return await _completed(child, pipes, argv, (streams[1], streams[2]), deadline, on_kill)


async def collect(begun: Begun, *, deadline: float, max_output: int = 1 << 20) -> Completed:
    """As `run`, for a program that has been begun before there was a loop; once. `deadline`: from now."""
    if begun.error is not None:
        raise begun.error
    if not begun.take():
        raise InternalError(f"cannot wait twice for '{' '.join(begun.argv[:2])}'")
    with ExitStack() as ours:
        pipes = _Pipes(ours, max_output)
        pipes.adopt(begun.stdout)
        pipes.adopt(begun.stderr)
        child = _registered_child(begun.pid)
        return await _completed(child, pipes, begun.argv, (begun.stdout, begun.stderr), deadline)


async def _completed(
    child: Child,
    pipes: _Pipes,
    argv: Sequence[str],
    outputs: tuple[int, int],
    deadline: float,
    on_kill: Callable[[int], object] | None = None,
) -> Completed:
    try:
        with trio.move_on_after(deadline):
            await pipes.pump(child)
    finally:
        if on_kill is not None and child.poll() is None:
            on_kill(child.pid)
        await child.kill()
    if not pipes.finished or child.returncode is None:
        raise DeadlineExceeded(
            f"cannot wait any longer for '{' '.join(argv[:2])}': it has not ended within {deadline:g} s",
            subject=argv[0],
        )
    out, err = (pipes.taken(number) for number in outputs)
    return Completed(child.returncode, out, err)


class _Pipes:
    """The parent's ends of a child's pipes, all watched by one wait."""

    def __init__(self, stack: ExitStack, limit: int) -> None:
        self._stack = stack
        self._limit = limit
        self._ready = stack.enter_context(Readiness())
        self._sinks: dict[int, bytearray] = {}
        self._sink_of: dict[int, int] = {}
        self._source = -1
        self._input = memoryview(b"")
        self.finished = False

    def _pipe(self, theirs: ExitStack, *, we_write: bool) -> tuple[int, int]:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        ours, other = (write_end, read_end) if we_write else (read_end, write_end)
        theirs.callback(os.close, other)
        self._stack.callback(self._close, ours)
        os.set_blocking(ours, False)
        return ours, other

    def _close(self, fd: int) -> None:
        if fd in self._sinks or fd == self._source:
            self._ready.discard(fd)
            os.close(fd)

    def source(self, theirs: ExitStack, data: bytes) -> int:
        self._source, other = self._pipe(theirs, we_write=True)
        self._input = memoryview(data)
        self._ready.add(self._source, write=True)
        return other

    def sink(self, theirs: ExitStack) -> int:
        ours, other = self._pipe(theirs, we_write=False)
        self._sinks[ours] = bytearray()
        self._sink_of[other] = ours
        self._ready.add(ours)
        return other

    def adopt(self, ours: int) -> None:
        """The end of a pipe that is there already."""
        self._stack.callback(self._close, ours)
        os.set_blocking(ours, False)
        self._sinks[ours] = bytearray()
        self._sink_of[ours] = ours
        self._ready.add(ours)

    def taken(self, other: int) -> bytes:
        """What came through the pipe whose other end had this number; nothing for a stream of the caller's."""
        return bytes(self._sinks[self._sink_of[other]]) if other in self._sink_of else b""

    async def pump(self, child: Child) -> None:
        """Move data until the child has ended and what it left in the pipes is read."""
        self._ready.add(child.pidfd.fd)
        while child.returncode is None:
            for fd in await self._ready.wait():
                if fd == child.pidfd.fd:
                    self._ready.discard(fd)
                    child.poll()
                elif fd == self._source:
                    self._write()
                elif not self._read(fd):
                    self._ready.discard(fd)
        for fd in self._sinks:
            for _ in range(math.ceil(self._limit / _CHUNK)):  # a descendant may go on writing
                if not self._read(fd):
                    break
        self.finished = True

    def _write(self) -> None:
        try:
            self._input = self._input[os.write(self._source, self._input[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input = memoryview(b"")
        if not self._input:
            self._close(self._source)
            self._source = -1

    def _read(self, fd: int) -> bool:
        """False: nothing there now, or nothing any more."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        kept = self._sinks[fd]
        kept += chunk[: self._limit - len(kept)]
        return bool(chunk)


async def reap_orphans(
    on_reaped: Callable[[ProcessRef, int], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Collect children that nobody registered, for ever; `on_reaped` is told each and its wait status.

    Needs the main thread (it listens for SIGCHLD). The callback runs between two steps of the loop and
    must neither block nor raise.
    """
    with trio.open_signal_receiver(signal.SIGCHLD) as arrivals:
        task_status.started()
        _sweep(on_reaped)
        async for _ in arrivals:
            _sweep(on_reaped)


def _sweep(on_reaped: Callable[[ProcessRef, int], None]) -> None:
    """Without a descriptor to look with, nothing is collected now: the next child that ends asks again."""
    with suppress(OSError):
        for pid in of_this_process():
            if pid not in _registered and _ended(pid):
                # Who it was is looked up before: afterwards the pid may be another's.
                ref = ref_of(pid) or ProcessRef(pid, 0)
                status = _reap(pid)
                if status is not None:
                    on_reaped(ref, status)


def _ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody broke the rules above; it is none of the others' concern
        return False


def of_this_process() -> list[int]:
    """Every child of this process; the kernel lists them by the thread that they belong to."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/self/task/{task}/children", "rb") as file,
        ):
            found.extend(map(int, file.read().split()))
    return found
