"""Starting a supervisor where none answers; imported only then.

It must not belong to whoever happened to call first: it gets a session, a directory, an environment,
descriptors, signals, limits and cgroups of its own. Where systemd runs, its unit is started if it is
installed and the default supervisor is meant, else a transient scope; otherwise a double fork.

Of several callers one launches (a lock beside the socket) and the others find the socket afterwards. The
one that launches waits on a pipe until the supervisor says `ready`, or why it cannot start. Whoever has the
other end of the pipe is the supervisor, so its death is the end of the wait too. Nothing here polls.
Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time

try:
    # `signal` makes enumerations of the numbers, which takes longer than all of this.
    import _signal as signals  # type: ignore[import-not-found]
except ImportError:  # pragma: no cover - another Python
    import signal as signals

from pyman import headstart
from pyman.errors import ERRORS, AlreadyRunning, EngineUnavailable, PermissionDenied, StorageFailed
from pyman.wire import decode, encode, open_socket, runtime_directory, runtime_directory_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from pyman.errors import PymanError
    from pyman.wire import Selection

__all__ = ["CGROUP", "PATIENCE", "clean_environment", "command", "launch"]

PATIENCE = 60.0
"""Seconds that the supervisor gets to be ready: it may have thousands of containers to look at."""
CGROUP = "/pyman/supervisor"
LOG_LIMIT = 1 << 20
"""Bytes of an earlier supervisor's log that are kept beside the new one's."""

_SYSTEMD = "/run/systemd/system"
_KEPT = (
    "HOME",
    "USER",
    "LOGNAME",
    "PYMAN_NO_NS_HANDLES",
    "_CONTAINERS_USERNS_CONFIGURED",
    "_CONTAINERS_ROOTLESS_UID",
    "_CONTAINERS_ROOTLESS_GID",
    "LANG",
    "TZ",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "STORAGE_DRIVER",
    "STORAGE_OPTS",
    "DOCKER_CONFIG",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def launch(selection: Selection) -> None:
    """Start the selected supervisor and return when its socket accepts.

    Raises what the supervisor says of why it cannot start, or EngineUnavailable.
    """
    socket = selection.socket
    lock_path = socket.removesuffix(".sock") + ".launch"
    lock = _lock(lock_path)
    try:
        if _answers(socket):
            return
        try:
            _start(selection)
        except AlreadyRunning:
            # Another one that was started meanwhile by other means, or that has just made its sockets again.
            if not _answers(socket):
                raise
    finally:
        _unlock(lock, lock_path)
    if warning := runtime_directory_warning(selection.environ, selection.uid):
        sys.stderr.write(f"Warning: {warning}\n")


def command(selection: Selection) -> list[str]:
    """The supervisor's command line for these options, paths absolute."""
    return [*program(), *_options(selection)]


def program() -> list[str]:
    """By its file, which stands beside this package: what `-m` imports to find that takes 4 ms."""
    file = os.path.join(os.path.dirname(__file__), "../../supervisor/__main__.py")
    return [
        sys.executable,
        "-P",
        *([os.path.abspath(file)] if os.path.exists(file) else ["-m", "supervisor"]),
    ]


def _options(selection: Selection) -> list[str]:
    given = selection.given().items()
    return [*selection.options, *(f"--{name.replace('_', '-')}={value}" for name, value in given)]


def clean_environment(environ: Mapping[str, str], uid: int = 0) -> dict[str, str]:
    """What a supervisor needs of the caller's environment, and nothing that is the caller's own affair.

    A user who comes by su or from cron has no runtime directory in it, or another's: then it is the one that is used
    instead, where the user's service manager is found as well.
    """
    kept = {name: environ[name] for name in _KEPT if environ.get(name)}
    kept.update((name, value) for name, value in environ.items() if name.startswith("CONTAINERS_"))
    path = [entry for entry in environ.get("PATH", "").split(":") if entry.startswith("/")]
    kept["PATH"] = ":".join(path) or _DEFAULT_PATH
    kept.setdefault("LANG", "C.UTF-8")
    used = runtime_directory(environ, uid)
    if uid != 0 and kept.get("XDG_RUNTIME_DIR") != used:
        kept["XDG_RUNTIME_DIR"] = used
        kept.pop("DBUS_SESSION_BUS_ADDRESS", None)
    if environ.get("PYTHONPATH"):
        # Else a pyman that is found by it would not be found again.
        kept["PYTHONPATH"] = ":".join(os.path.abspath(e) for e in environ["PYTHONPATH"].split(":") if e)
    return kept


def _answers(socket: str) -> bool:
    try:
        open_socket(socket).close()
    except EngineUnavailable:
        return False
    return True


def _lock(path: str) -> int:
    """Wait for the lock of launchers. Its file is deleted by whoever held it, and then it is another one."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                return descriptor
            os.close(descriptor)
    except PermissionError as error:
        raise PermissionDenied(f"cannot open '{path}': {error.strerror}", subject=path) from error
    except OSError as error:
        raise StorageFailed(f"cannot open '{path}': {error.strerror}", subject=path) from error


def _unlock(descriptor: int, path: str) -> None:
    if _is_at(descriptor, path):
        os.unlink(path)
    os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        there = os.lstat(path)
    except OSError:
        return False
    ours = os.fstat(descriptor)
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _start(selection: Selection) -> None:
    if os.path.isdir(_SYSTEMD):
        if not selection.given() and not selection.options and _start_unit(selection):
            return
        if _detached(selection, scope=True):
            return
    if not _detached(selection, scope=False):
        log = _log_path(selection.socket)
        raise EngineUnavailable("cannot start a supervisor: it ended without a word", hint=f"see '{log}'")


# -- by systemd ---------------------------------------------------------------------------------


def _start_unit(selection: Selection) -> bool:
    """Start the installed unit; returns when the service is ready. False: there is none."""
    import subprocess

    systemctl = ["systemctl"] if selection.uid == 0 else ["systemctl", "--user"]
    environ = clean_environment(selection.environ, selection.uid)
    try:
        known = subprocess.run(
            [*systemctl, "cat", "pyman.socket", "pyman.service"],
            env=environ,
            capture_output=True,
            check=False,
        )
        if known.returncode != 0:
            return False
        done = subprocess.run(
            [*systemctl, "start", "pyman.socket", "pyman.service"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return False
    if done.returncode != 0:
        scope = "" if selection.uid == 0 else "--user "
        raise EngineUnavailable(
            f"cannot start the service pyman: {done.stderr.decode(errors='replace').strip()}",
            hint=f"'journalctl {scope}-u pyman' says why",
        )
    return True


def _scope(selection: Selection) -> list[str]:
    """What to put before a command so that systemd gives it a scope of its own; the process stays the same."""
    stem = os.path.basename(selection.socket).removesuffix(".sock")
    unit = f"pyman-{stem}-{os.getpid()}-{time.monotonic_ns()}"
    user = [] if selection.uid == 0 else ["--user"]
    return ["systemd-run", *user, "--scope", "--quiet", "--collect", f"--unit={unit}", "--"]


# -- by double fork -----------------------------------------------------------------------------


def _detached(selection: Selection, *, scope: bool) -> bool:
    """Start a supervisor that is nobody's child. False: nothing came of it and nobody said why."""
    readable, writable = os.pipe2(os.O_CLOEXEC)
    log = _open_log(_log_path(selection.socket))
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        child = os.fork()
        if child == 0:
            _first_child(selection, writable, log, scope=scope)
    finally:
        os.close(log)
        os.close(writable)
    try:
        os.waitpid(child, 0)
        return _await_report(readable, selection)
    finally:
        os.close(readable)


def _first_child(selection: Selection, report: int, log: int, *, scope: bool) -> NoReturn:
    """Leave the caller's session; the second fork makes sure that no terminal is ever acquired."""
    try:
        os.setsid()
        if os.fork() == 0:
            _become(selection, report, log, scope=scope)
    finally:
        os._exit(0)


def _become(selection: Selection, report: int, log: int, *, scope: bool) -> NoReturn:
    """Be the keeper. Its daemon is started before, where systemd does not have to make a scope for both."""
    words = [*command(selection), f"--report-fd={report}"]
    try:
        _own_cgroups()
        _own_signals_and_limits()
        os.chdir("/")
        os.umask(0o022)
        null = os.open(os.devnull, os.O_RDWR)
        for number, source in enumerate((null, null, log)):
            os.dup2(source, number)
        os.closerange(3, report)
        os.closerange(report + 1, 1 << 20)
        environ = clean_environment(selection.environ, selection.uid)
        if scope:
            words = [*_scope(selection), *words]
        else:
            pid, channel = headstart.spawn(program(), _options(selection), environ)
            os.set_inheritable(channel.fileno(), True)
            words.append(f"--daemon={pid}:{channel.fileno()}")
        os.set_inheritable(report, True)
        os.execvpe(words[0], words, environ)  # noqa: S606 - a list of words, as wanted
    except OSError as error:
        problem = {
            "code": "EngineUnavailable",
            "message": f"cannot start '{words[0]}': {error.strerror}",
        }
        os.write(report, encode(problem) + b"\n")
    finally:
        os._exit(127)


def _own_signals_and_limits() -> None:
    import resource

    for number in signals.valid_signals():
        try:
            signals.signal(number, signals.SIG_DFL)
        except OSError:
            continue  # SIGKILL, SIGSTOP, and the C library's own
    signals.pthread_sigmask(signals.SIG_SETMASK, ())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _own_cgroups() -> None:
    """Leave the caller's cgroups: they may be frozen, limited or ended with the caller.

    Into a cgroup of our own where processes are accounted by service (the v2 tree, name=systemd, pids,
    memory), to the root elsewhere. Only root may; what the kernel refuses stays as it is.
    """
    if os.geteuid() != 0:
        return
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        present = [line.rstrip("\n").split(":", 2) for line in file]
    for mount_point, controllers in _hierarchies():
        path = next((path for _, names, path in present if set(names.split(",")) == controllers), "/")
        if controllers & {"", "name=systemd", "pids", "memory"}:
            _enter(mount_point + CGROUP)
        elif path != "/":
            _enter(mount_point)


def _hierarchies() -> list[tuple[str, set[str]]]:
    """Mount point and controllers of each; the v2 tree has an empty name, as in /proc/self/cgroup."""
    options_of_v1 = {"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"}
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
            if kind == "cgroup2" and fields[4].startswith("/sys/fs/cgroup"):
                found.append((fields[4], {""}))
            elif kind == "cgroup":
                named = {option for option in options if not option.startswith("release_agent=")}
                found.append((fields[4], named - options_of_v1))
    return found


def _enter(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
            file.write("0")
    except OSError as error:
        os.write(2, f"cannot enter the cgroup '{directory}': {error.strerror}\n".encode())


def _log_path(socket: str) -> str:
    return socket.removesuffix(".sock") + ".log"


def _open_log(path: str) -> int:
    """Where the supervisor's standard error goes. It keeps the file small itself while it runs."""
    try:
        if os.lstat(path).st_size > LOG_LIMIT:
            os.rename(path, f"{path}.1")
    except FileNotFoundError:
        pass
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageFailed(f"cannot open the log '{path}': {error.strerror}", subject=path) from error


def _await_report(pipe: int, selection: Selection) -> bool:
    """Until the supervisor says how it went, or is dead. Raises what it says."""
    deadline = time.monotonic() + PATIENCE
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    line = b""
    while not line.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise EngineUnavailable(
                f"cannot use the supervisor: it is not ready after {PATIENCE:g} s",
                hint=f"see '{_log_path(selection.socket)}'",
            )
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            return False
        line += chunk
    if line == b"ready\n":
        return True
    raise _error(line, _log_path(selection.socket))


def _error(line: bytes, log: str) -> PymanError:
    said = decode(line)
    code, message, subject, hint = (
        str(said.get(key) or "") for key in ("code", "message", "subject", "hint")
    )
    kind = ERRORS.get(code, EngineUnavailable)
    if kind is EngineUnavailable and not hint:
        hint = f"see '{log}'"
    return kind(message, subject=subject, hint=hint)
