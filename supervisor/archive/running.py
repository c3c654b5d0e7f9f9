"""Archive programs from the daemon's side: started, listened to, ended.

The daemon's loop takes a few lines at a time and never waits; what a program prints is bounded, and believed as far as
a program may be that reads what strangers have made.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import trio

from pyman.errors import StorageFailed
from supervisor.archive.failures import KINDS
from supervisor.kernel import children, files
from supervisor.kernel.background import background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["run"]

_T = TypeVar("_T")
_Message = TypeVar("_Message")

_CHUNK = 1 << 16
_ANSWER_LIMIT = 64 << 20
"""Bytes of one line: a list of all that a container has changed is one."""
_LARGE = 1 << 17
"""Bytes of an answer that is not read in the event loop."""
_COMPLAINT_LIMIT = 1 << 14
_GRACE = 2.0
"""Seconds that a program has to end when it is asked to."""
_PROGRAM = (sys.executable, "-I", "-X", "utf8", "-m")

_limiter = trio.CapacityLimiter(2)


async def run(
    name: str,
    job: dict[str, Any],
    fds: Sequence[int] = (),
    *,
    kind: type[_T],
    doing: str,
    report: Callable[[int], None] | None = None,
    gently: bool = False,
) -> _T:
    """What the program `supervisor.archive.<name>` answers to a job; `fds` keep their numbers in it.

    `kind`: what its answer is. `doing`: what an error says of it ("unpack the layer"). `report` is called with the bytes so far, ten times a second
    at most. Cancellation kills the program and returns when it is gone. Raises what the program reports: ArchiveRefused,
    DigestMismatch, DiskFull, StorageFailed.

    `gently`: it takes something back when it ends early, and gets time for that. It never stands still either: one that
    is stopped cannot end with the daemon but by SIGKILL.
    """
    with ExitStack() as ours:
        text = marshal.dumps({**job, "parent": os.getpid()})
        question = os.memfd_create(f"pyman-{name}", os.MFD_CLOEXEC)
        ours.callback(os.close, question)
        os.write(question, text)
        os.lseek(question, 0, os.SEEK_SET)
        with ExitStack() as theirs:
            answers = _pipe(ours, theirs)
            complaints = _pipe(ours, theirs)
            argv = [*_PROGRAM, f"supervisor.archive.{name}"]
            try:
                child = await children.spawn(
                    argv, pass_fds=tuple(fds), stdin=question, stdout=answers[1], stderr=complaints[1]
                )
            except OSError as error:
                raise files.storage_error(error, "start", argv[0]) from error
        heard = _Heard(kind, doing, report)
        try:
            with nullcontext() if gently else background.program(child):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_read, answers[0], heard.answer)
                    nursery.start_soon(_read, complaints[0], heard.complaint)
                await child.wait()
        finally:
            if gently and child.send_signal(signal.SIGTERM):
                with trio.move_on_after(_GRACE, shield=True):
                    await child.wait()
            await child.kill()
    if heard.size > _LARGE:
        # Cancelled or not, it takes no longer than the list is long.
        return await trio.to_thread.run_sync(heard.result, child.returncode, limiter=_limiter)
    return heard.result(child.returncode)


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read_end)
    theirs.callback(os.close, write_end)
    os.set_blocking(read_end, False)
    return read_end, write_end


async def _read(fd: int, heard: Callable[[bytes], None]) -> None:
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            continue
        if not data:
            return
        heard(data)


class _Progress(msgspec.Struct):
    progress: int


class _Error(msgspec.Struct):
    code: str
    message: str
    hint: str = ""
    subject: str = ""


class _Answer(msgspec.Struct, Generic[_T]):
    done: _T | None = None
    error: _Error | None = None


class _Heard(Generic[_T]):
    def __init__(self, kind: type[_T], doing: str, report: Callable[[int], None] | None) -> None:
        self._kind = kind
        self._doing = doing
        self._report = report
        self._line = bytearray()
        self._last = b""
        self._complaint = b""

    @property
    def size(self) -> int:
        return len(self._last)

    def answer(self, data: bytes) -> None:
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._line += piece
            self._said(bytes(self._line))
            self._line.clear()
        self._line += rest
        if len(self._line) > _ANSWER_LIMIT:
            raise StorageFailed(f"cannot {self._doing}: its program says too much")

    def _said(self, line: bytes) -> None:
        if not line.startswith(b'{"progress":'):
            self._last = line
        elif self._report is not None:
            self._report(self._decoded(line, _Progress).progress)

    def _decoded(self, line: bytes, kind: type[_Message]) -> _Message:
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise StorageFailed(f"cannot {self._doing}: its program says what is not understood") from error

    def complaint(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-_COMPLAINT_LIMIT:]

    def result(self, returncode: int | None) -> _T:
        last: _Answer[_T] = _Answer()
        if self._last:
            last = self._decoded(self._last, _Answer[self._kind])  # type: ignore[name-defined]
        if last.done is not None and returncode == 0:
            return last.done
        if (error := last.error) is not None and error.code in KINDS:
            raise KINDS[error.code](error.message, subject=error.subject, hint=error.hint)
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else "nothing was said"
        ending = f"a signal ({-returncode})" if returncode and returncode < 0 else f"exit status {returncode}"
        raise StorageFailed(f"cannot {self._doing}: its program ended with {ending}: {reason}")
