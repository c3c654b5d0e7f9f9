"""Starting a monitor so that a supervisor killed between any two steps leaves nothing that its successor
cannot finish or end.

The steps: `make_fifos`, `spawn_monitor` (conmon runs and waits), record its pid and start time, `release` (it
goes on and calls the OCI runtime), `read_sync` (what came of it); and a cgroup of its own meanwhile. Rules:

- The pipes are FIFOs in the bundle that conmon holds open for reading and writing: it never sees an end of
  file or a broken pipe, whoever dies. A successor opens them by their names.
- conmon forks into the background only after its start byte, so nothing would know its pid in time; it is
  therefore started as `--sync`, is the monitor from the beginning, and its pid is known at once. It is
  nobody's registered child: `reap_orphans` collects it, or the process that inherits it.
- The answer is read without being taken from the FIFO, so that it can be read again by a successor.
- Its standard error goes to `conmon.log` in the bundle until it lets go of it: what it says when it fails
  early (a log file that cannot be opened) is said nowhere else.
- Its environment is a small clean one, its working directory the bundle; TMPDIR is the bundle as well,
  because that is where it puts the console socket.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from pyman.errors import ConmonFailed, ConmonNotFound, DeadlineExceeded, InvalidArgument
from supervisor.conmon import placing
from supervisor.kernel import children, files, pipes
from supervisor.kernel.process import kill, open_pidfd, ref_of
from supervisor.kernel.readiness import Readiness

if TYPE_CHECKING:
    from supervisor.conmon.find import Conmon
    from supervisor.kernel.process import ProcessRef

__all__ = [
    "MonitorRequest",
    "Passed",
    "RuntimeRefused",
    "end_monitor",
    "find_monitor",
    "make_fifos",
    "read_sync",
    "release",
    "spawn_monitor",
    "wait_ready",
    "waits",
]

_SYNC, _START, _READY = "sync", "start", "ready"
_ERRORS = "conmon.log"
_FILE_DRIVERS = {"k8s-file", "json-file"}

_kept: dict[str, tuple[ProcessRef, int]] = {}
"""Bundle to its monitor and our own end of its sync FIFO, from spawn to read: conmon may end in between."""


class RuntimeRefused(Exception):
    """The OCI runtime did not create the container (or exec session). `message` is its standard error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Passed(NamedTuple):
    """Descriptors of a caller that become a container's, or a command's. They are only lent."""

    stdio: tuple[int, int, int] | None = None
    """With the log driver passthrough: its standard descriptors. None may be a terminal."""
    preserved: tuple[tuple[int, int], ...] = ()
    """Further ones: the number in the container, from 3 on, and the descriptor."""


class MonitorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor: of a container, or, if `exec_id` is set, of an exec session in it."""

    id: str
    """The container's, also for an exec session."""
    name: str = ""
    bundle: str
    """A directory of the monitor's own: FIFOs, attach socket; for a container also config.json."""
    pid_file: str
    """The OCI runtime writes the pid of the container's init here."""
    conmon_pid_file: str
    persist_dir: str
    """conmon writes `exit` and `oom` here."""
    exit_dir: str = ""
    """conmon also writes a file named after the container here; never given for an exec session."""
    socket_dir: str = ""
    """Where conmon leaves a link to the bundle, named after the id; empty: nowhere, and nothing needs it."""
    runtime_path: str
    runtime_args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    """Added to the clean environment of conmon and the OCI runtime, as XDG_RUNTIME_DIR for a user's."""
    systemd_cgroup: bool = False
    no_pivot: bool = False
    no_new_keyring: bool = False
    log_driver: str = "none"
    """k8s-file, json-file (the same), none, passthrough."""
    log_path: str = ""
    log_tag: str = ""
    notify_socket: str = ""
    """A service manager's, to which conmon passes on that the container is ready; empty: to none."""
    sync_log: bool = False
    """fsync the log at its end and before every new file."""
    terminal: bool = False
    stdin: bool = False
    leave_stdin_open: bool = False
    """Keep the container's standard input open when an attached client ends its own."""
    timeout: int = 0
    """Seconds after which conmon kills the container; 0: never."""
    log_level: str = "error"
    passed: Passed = Passed()
    held: tuple[int, ...] = ()
    """Descriptors that conmon has as long as it lives, and does nothing with."""
    exec_id: str = ""
    process_spec: str = ""
    """Path of the process to execute, for an exec session."""
    attach: bool = False
    """An exec session that waits until somebody has attached; see `conmon.execs`."""


def make_fifos(bundle: str) -> None:
    """New FIFOs for one monitor. What an earlier one left in them is gone with the old ones."""
    for name in (_SYNC, _START, _READY):
        path = os.path.join(bundle, name)
        try:
            pipes.make_fifo(path)
        except OSError as error:
            raise files.storage_error(error, "make", path) from error


async def spawn_monitor(conmon: Conmon, request: MonitorRequest) -> ProcessRef:
    """Start conmon. It waits for `release` before it does anything.

    Raises ConmonNotFound, InvalidArgument, DiskFull or StorageFailed; no process is left then.
    """
    argv = _argv(conmon, request)
    await trio.lowlevel.checkpoint()
    with ExitStack() as stack:
        monitor = _launch(argv, request, stack)
    try:
        files.write_atomic(request.conmon_pid_file, f"{monitor.pid}".encode(), 0o644)
        _keep(request.bundle, monitor)
    except BaseException:
        kill(monitor)
        raise
    return monitor


def _launch(argv: list[str], request: MonitorRequest, stack: ExitStack) -> ProcessRef:
    def opened(name: str, flags: int) -> int:
        path = os.path.join(request.bundle, name)
        try:
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise files.storage_error(error, "open", path) from error
        stack.callback(os.close, fd)
        return fd

    environment = {**children.CLEAN_ENVIRONMENT, "TMPDIR": ".", **request.environment}
    pipes_of = {"_OCI_SYNCPIPE": _SYNC, "_OCI_STARTPIPE": _START}
    if request.attach:
        pipes_of["_OCI_ATTACHPIPE"] = _READY
    passed: list[int] = []
    for variable, name in pipes_of.items():
        passed.append(opened(name, os.O_RDWR))
        environment[variable] = str(passed[-1])
    if preserved := dict(request.passed.preserved):
        places: dict[int, int | None] = {
            number: preserved.get(number) for number in range(3, 1 + max(preserved))
        }
        for variable, descriptor in zip(pipes_of, passed, strict=True):
            number = 3 + len(places)
            places[number], environment[variable] = descriptor, str(number)
        argv = placing.command(places, argv)
        passed += preserved.values()
    # The container's numbers are not for these.
    lowest = 3 + max(preserved, default=0)
    held = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, lowest) for each in request.held]
    for each in held:
        stack.callback(os.close, each)
    stdin: int | None
    stdout: int | None
    if request.log_driver == "passthrough" and request.passed.stdio is not None:
        stdin, stdout, stderr = request.passed.stdio
    else:
        stdin, stdout = None, None
        stderr = opened(_ERRORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        return children.launch(
            argv,
            env=environment,
            cwd=request.bundle,
            pass_fds=[*passed, *held],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except OSError as error:
        raise ConmonNotFound(f"cannot execute '{argv[0]}': {error.strerror}", subject=argv[0]) from error


def _argv(conmon: Conmon, request: MonitorRequest) -> list[str]:
    argv = [
        *(conmon.path, "--api-version", "1", "--sync"),
        *("-c", request.id),
        *("-u", request.exec_id or request.id),
        *("-r", request.runtime_path),
        *("-b", request.bundle),
        *("-p", request.pid_file),
        *("--persist-dir", request.persist_dir),
        *("--log-level", request.log_level),
        *_log_arguments(request),
    ]
    if request.socket_dir:
        argv += ["--socket-dir-path", request.socket_dir]
    else:
        argv.append("--full-attach")
    if request.name:
        argv += ["-n", request.name]
    if request.exit_dir and not request.exec_id:
        argv += ["--exit-dir", request.exit_dir]
    if request.notify_socket:
        argv += ["--sdnotify-socket", request.notify_socket]
    if request.exec_id:
        argv += ["--exec", "--exec-process-spec", request.process_spec]
    if request.passed.preserved:
        number = max(number for number, _ in request.passed.preserved) - 2
        argv += ["--runtime-opt", "--preserve-fds", "--runtime-opt", str(number)]
    if request.timeout > 0:
        argv += ["--timeout", str(request.timeout)]
    flags = {
        "--exec-attach": bool(request.exec_id) and request.attach,
        "--terminal": request.terminal,
        # With a terminal, -i would close it for everybody when the first client goes.
        "--stdin": request.stdin and not request.terminal,
        "--leave-stdin-open": request.leave_stdin_open,
        "--systemd-cgroup": request.systemd_cgroup and not request.exec_id,
        "--no-pivot": request.no_pivot and not request.exec_id,
        "--no-new-keyring": request.no_new_keyring and not request.exec_id,
        "--no-sync-log": not request.sync_log,
    }
    argv += [flag for flag, wanted in flags.items() if wanted]
    for argument in request.runtime_args:
        argv += ["--runtime-arg", argument]
    return argv


def _log_arguments(request: MonitorRequest) -> list[str]:
    driver = request.log_driver
    if driver not in _FILE_DRIVERS:
        tag = ["--log-tag", request.log_tag] if driver == "journald" and request.log_tag else []
        return ["--log-path", driver or "none", *tag]
    if ":" in request.log_path:
        raise InvalidArgument(
            f"cannot log to '{request.log_path}': conmon does not write to a path with a colon",
            subject=request.log_path,
        )
    return ["--log-path", f"k8s-file:{request.log_path}"]


def release(request: MonitorRequest) -> bool:
    """Let the monitor go on. False: nobody waits; it has gone on already, or it is gone (`read_sync` tells)."""
    try:
        fd = os.open(os.path.join(request.bundle, _START), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: conmon closes it once it has read the byte
        return False
    try:
        os.write(fd, b"1")
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def waits(request: MonitorRequest) -> bool:
    """Whether the monitor has still to be released: neither container nor command exists before."""
    try:
        os.close(os.open(os.path.join(request.bundle, _START), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def read_sync(request: MonitorRequest, deadline: float, monitor: ProcessRef | None = None) -> int:
    """Wait until the OCI runtime is done; the pid of the container's init (or of the exec session's command).

    Can be repeated, also by another process, as long as the monitor lives; `monitor` may be left out then.
    Raises RuntimeRefused with what the OCI runtime said, ConmonFailed if conmon ended without a word, and
    DeadlineExceeded after `deadline` seconds.
    """
    try:
        answer = await _answer(request, _SYNC, deadline, monitor)
    finally:
        _drop(request.bundle)
    pid, message = answer
    if pid <= 0:
        raise RuntimeRefused(message)
    return pid


async def wait_ready(request: MonitorRequest, deadline: float, monitor: ProcessRef | None = None) -> None:
    """Wait until an exec session with `attach` can be attached to. Errors as `read_sync`."""
    await _answer(request, _READY, deadline, monitor)


async def _answer(
    request: MonitorRequest, name: str, deadline: float, monitor: ProcessRef | None
) -> tuple[int, str]:
    monitor = monitor or find_monitor(request)
    path = os.path.join(request.bundle, name)
    try:
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise files.storage_error(error, "open", path) from error
    with ExitStack() as stack:
        ready = stack.enter_context(Readiness())
        stack.callback(os.close, fifo)
        ready.add(fifo)
        pidfd = open_pidfd(monitor) if monitor else None
        if pidfd is not None:
            stack.enter_context(pidfd)
            ready.add(pidfd.fd)
        with trio.move_on_after(deadline) as scope:
            if pidfd is not None:
                await ready.wait()
        said = pipes.peek(fifo)
        if said:
            return _parse(said)
    if scope.cancelled_caught:
        raise DeadlineExceeded(
            f"cannot wait any longer for the monitor of '{request.id}': no answer within {deadline:g} s",
            subject=request.id,
        )
    raise ConmonFailed(
        f"cannot start the monitor of '{request.id}': {_last_words(request) or 'it ended without an answer'}",
        subject=request.id,
    )


def _parse(said: bytes) -> tuple[int, str]:
    line = said.decode("utf-8", "replace").split("\n", 1)[0]
    try:
        answer = json.loads(line, strict=False)
        return int(answer["data"]), str(answer.get("message") or "").strip()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConmonFailed(f"cannot understand the monitor's answer {line[:200]!r}") from error


def _last_words(request: MonitorRequest) -> str:
    """What conmon wrote to its standard error, without its prefix."""
    try:
        with open(os.path.join(request.bundle, _ERRORS), "rb") as file:
            text = file.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].rpartition("]: ")[2].strip() if lines else ""


def find_monitor(request: MonitorRequest) -> ProcessRef | None:
    """The monitor of this request, by its pid file or else by looking at every process; None: there is none.

    For a supervisor that was not the one which started it: in the first instants after its start a process
    has no command line to be known by. Looking at every process takes milliseconds.
    """
    if request.bundle in _kept:
        return _kept[request.bundle][0]
    with suppress(OSError, ValueError), open(request.conmon_pid_file, "rb") as file:
        pid = int(file.read(32))
        if _watches(pid, request.bundle):
            return ref_of(pid)
    found = [
        ref
        for entry in os.listdir("/proc")
        if entry.isdecimal() and _watches(int(entry), request.bundle) and (ref := ref_of(int(entry)))
    ]
    # conmon's own fork that is about to become the OCI runtime looks the same; it is the younger one.
    return min(found, key=lambda ref: ref.start_time, default=None)


def _watches(pid: int, bundle: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except OSError:
        return False
    wanted = [b"-b", os.fsencode(bundle)]
    at = arguments.index(b"-b") if b"-b" in arguments else len(arguments)
    return b"--api-version" in arguments and arguments[at : at + 2] == wanted


async def end_monitor(
    request: MonitorRequest, monitor: ProcessRef | None = None, *, deadline: float = 5.0
) -> None:
    """Kill the monitor, and with it an OCI runtime that is still at work, and wait until it has ended.

    For one that did not get as far as a running container. What the OCI runtime left is the caller's.
    Raises DeadlineExceeded if the kernel does not let it go within `deadline` seconds.
    """
    monitor = monitor or find_monitor(request)
    _drop(request.bundle)
    pidfd = open_pidfd(monitor) if monitor else None
    if pidfd is None:
        return
    with pidfd:
        pidfd.send_signal(signal.SIGKILL)
        with trio.move_on_after(deadline) as scope:
            await pidfd.wait()
    if scope.cancelled_caught:
        raise DeadlineExceeded(
            f"cannot end the monitor of '{request.id}': the kernel holds it", subject=request.id
        )


def _keep(bundle: str, monitor: ProcessRef) -> None:
    _drop(bundle)
    path = os.path.join(bundle, _SYNC)
    try:
        _kept[bundle] = monitor, os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise files.storage_error(error, "open", path) from error


def _drop(bundle: str) -> None:
    if bundle in _kept:
        os.close(_kept.pop(bundle)[1])
