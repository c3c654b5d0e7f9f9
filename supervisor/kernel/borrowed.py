"""Sockets of another process, taken out of it: the same ones, not copies of what they are bound to.

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

__all__ = ["sockets_of"]

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
            for name in _descriptors(ref.pid):
                taken = _taken(pidfd.fd, name)
                if taken is not None:
                    found.append(taken)
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
    return [name for name in names if _is_socket(f"{directory}/{name}")]


def _is_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")
    except FileNotFoundError:  # closed meanwhile, as somebody's who was attached
        return False


def _taken(pidfd: int, number: int) -> socket.socket | None:
    descriptor = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if descriptor < 0:
        code = ctypes.get_errno()
        if code in (errno.EBADF, errno.ESRCH):  # closed meanwhile, or it ends
            return None
        raise OSError(code, os.strerror(code))
    taken = socket.socket(fileno=descriptor)
    if taken.family in _FAMILIES:
        return taken
    taken.close()
    return None
