"""Descriptors of another process, taken out of it: the same sockets, not copies of what they are bound to; the same locks.

It takes the rights of a tracer. OSError ENOSYS: a kernel before 5.6; EPERM: the host forbids it (Yama).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import TYPE_CHECKING

from supervisor.kernel.process import open_pidfd

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef

__all__ = ["file_of", "sockets_of"]

_PIDFD_GETFD = 438
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_libc = ctypes.CDLL(None, use_errno=True)


def sockets_of(ref: ProcessRef) -> list[socket.socket]:
    """Those of the internet's families that exactly that process has, for the caller to close; none: it has ended."""
    pidfd = open_pidfd(ref)
    if pidfd is None:
        return []
    found: list[socket.socket] = []
    try:
        with pidfd:
            try:
                for name in _descriptors(ref.pid):
                    taken = _taken(pidfd.fd, name)
                    if taken is not None:
                        found.append(taken)
            except PermissionError:
                # Nobody but root may look at one that has ended and was not waited for.
                if not pidfd.exited():
                    raise
    except BaseException:
        for each in found:
            each.close()
        raise
    return found


def _descriptors(pid: int) -> list[int]:
    directory = f"/proc/{pid}/fd"
    try:
        names = sorted(map(int, os.listdir(directory)))
    except FileNotFoundError:  # it ends
        return []
    return [name for name in names if _target(f"{directory}/{name}").startswith("socket:")]


def file_of(ref: ProcessRef, path: str) -> int:
    """A descriptor that exactly that process has of a file, with its locks, for the caller to close; -1: there is none."""
    pidfd = open_pidfd(ref)
    if pidfd is None:
        return -1
    directory = f"/proc/{ref.pid}/fd"
    with pidfd:
        try:
            names = os.listdir(directory)
        except FileNotFoundError:  # it ends
            return -1
        for name in names:
            if _target(f"{directory}/{name}") == path:
                return _got(pidfd.fd, int(name))
    return -1


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # closed meanwhile, as somebody's who was attached
        return ""


def _got(pidfd: int, number: int) -> int:
    """-1: it is closed meanwhile, or the process ends."""
    descriptor = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if descriptor < 0:
        code = ctypes.get_errno()
        if code not in (errno.EBADF, errno.ESRCH):
            raise OSError(code, os.strerror(code))
    return int(descriptor)


def _taken(pidfd: int, number: int) -> socket.socket | None:
    descriptor = _got(pidfd, number)
    if descriptor < 0:
        return None
    taken = socket.socket(fileno=descriptor)
    if taken.family in _FAMILIES:
        return taken
    taken.close()
    return None
