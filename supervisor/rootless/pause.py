"""`pause.pid`: a process that does nothing but live in a user's namespaces, where the kernel has no handles.

The file has the process's pid and its start time, so that a pid that is another's by now leads nowhere; so does a
file that is none. Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from supervisor.kernel import namespaces
from supervisor.rootless.files import read_own, write_own
from supervisor.rootless.handles import Found

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "end", "find", "is_missing", "start", "watch"]

NAME = "pause.pid"
_PROGRAMS = (
    *(
        (f"{directory}/catatonit", "-P")
        for directory in ("/usr/libexec/podman", "/usr/bin", "/usr/local/bin")
    ),
    ("/bin/sleep", "infinity"),
)
"""What does nothing and takes little, the best first."""
_START_TIME = 19
"""Place in /proc/PID/stat, counted after the command's name."""


def start(directory: str) -> str:
    """A pause process in the namespaces of this one, and the file that tells where it is. Why it will end with
    whatever this process belongs to, or an empty string."""
    from supervisor.rootless import scope  # only where there is no other way of keeping namespaces

    argv = next((argv for argv in _PROGRAMS if os.access(argv[0], os.X_OK)), _PROGRAMS[-1])
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    pid = os.posix_spawn(argv[0], argv, {}, file_actions=nothing, setsid=True, setsigmask=[])
    try:
        write_own(f"{directory}/{NAME}", f"{pid} {_begun(pid)}\n")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    return scope.move(pid, os.path.dirname(directory))


@contextlib.contextmanager
def find(directory: str) -> Iterator[Found | None]:
    """The namespaces of the process that the file names, if that is the one, and this user's."""
    pid = _pid(directory)
    opened: list[int] = []
    with contextlib.suppress(OSError):
        for kind in ("user", "mnt") if pid else ():
            opened.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - it may fail halfway
    try:
        # Asked again once they are open: they are of the process that was meant.
        ours = len(opened) == 2 and _pid(directory) == pid and namespaces.owner_of(opened[0]) == os.geteuid()
        yield Found(*opened) if ours else None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def is_missing(directory: str) -> bool:
    """There should be one, and it has ended."""
    return os.path.lexists(f"{directory}/{NAME}") and not _pid(directory)


def watch(directory: str) -> int:
    """A descriptor that is readable once the process has ended; -1: there is none."""
    pid = _pid(directory)
    try:
        descriptor = os.pidfd_open(pid) if pid else -1
    except OSError:
        return -1
    if descriptor >= 0 and _pid(directory) != pid:
        os.close(descriptor)
        return -1
    return descriptor


def end(directory: str) -> None:
    """No pause process any more."""
    pid = _pid(directory)
    if pid:
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if _pid(directory) == pid:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{directory}/{NAME}")


def _pid(directory: str) -> int:
    """0: the file names no process that lives."""
    words = read_own(f"{directory}/{NAME}").split()
    try:
        pid, begun = (int(word) for word in words)
    except ValueError:
        return 0
    return pid if pid > 1 and begun and _begun(pid) == begun else 0


def _begun(pid: int) -> int:
    """Clock ticks since boot; 0: there is no such process, or nothing of it but its exit status."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    fields = text[text.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[_START_TIME])
