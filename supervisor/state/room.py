"""Room on the disk: kept back, so that on a full one containers can still end, be stopped and be removed.

The write-ahead log gets its blocks before it needs them. What only makes more is refused while there is
little room left besides; everything else then goes into the log, which begins anew after each checkpoint.
Both are best effort: a file system that cannot reserve, or a disk that is full at the start, means that a
change may fail, as a whole.
"""

from __future__ import annotations

import ctypes
import os

from pyman.errors import DiskFull

__all__ = ["LITTLE", "keep_for", "require"]

LITTLE = 128 * 1024
"""Bytes that must be free for something new: it is going to need some for itself, too."""
_LOG = 6 * 1024 * 1024
"""Bytes for the log: what it may grow to between two checkpoints, and half as much again."""
_SHARE = 8
"""No more than this part of what is free."""
_KEEP_SIZE = 1

_libc = ctypes.CDLL(None, use_errno=True)


def keep_for(log: str) -> None:
    """Reserve blocks for the log, without changing its size. SQLite locks other files: this one may be opened
    and closed here."""
    try:
        fd = os.open(log, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        status = os.fstatvfs(fd)
        size = min(_LOG, status.f_bavail * status.f_frsize // _SHARE)
        _libc.fallocate(fd, _KEEP_SIZE, ctypes.c_longlong(0), ctypes.c_longlong(size))
    finally:
        os.close(fd)


def require(path: str, size: int) -> None:
    """DiskFull if there is too little room for something new of so many bytes. What does not fit must not be
    tried: the log would take all the room there is, and keep it."""
    try:
        status = os.statvfs(os.path.dirname(path))
    except OSError:
        return  # what is wrong shows when it is written to
    # Once in the log, once in the database.
    if status.f_bavail * status.f_frsize < LITTLE + 2 * size:
        raise DiskFull(
            f"cannot add to the state database '{path}': the disk is full",
            subject=path,
            hint="free some space, for example by removing containers; nothing was changed",
        )
