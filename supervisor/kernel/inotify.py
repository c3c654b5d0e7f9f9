"""inotify for Trio: being told of changes to files instead of looking."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "ATTRIB",
    "CLOSE_WRITE",
    "CREATE",
    "DELETE",
    "DELETE_SELF",
    "IGNORED",
    "MODIFY",
    "MOVED_FROM",
    "MOVED_TO",
    "MOVE_SELF",
    "ONESHOT",
    "ONLYDIR",
    "OVERFLOW",
    "Inotify",
    "Notice",
]

MODIFY = 0x002
ATTRIB = 0x004
CLOSE_WRITE = 0x008
MOVED_FROM = 0x040
MOVED_TO = 0x080
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
OVERFLOW = 0x4000
"""The kernel's queue was full: notices were lost (`watch` is -1)."""
IGNORED = 0x8000
"""The watch has ended: removed, its file gone, or a ONESHOT that fired."""
ONLYDIR = 0x1000000
ONESHOT = 0x80000000

_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Notice(NamedTuple):
    """`name` is the entry's, for a watch on a directory."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of notices; one task reads it."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "")

    def add(self, path: str, mask: int) -> int:
        """Watch a file or directory; the number of the watch. The same file gives the same number. OSError."""
        return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)), path)

    def remove(self, watch: int) -> None:
        """A watch that has ended already is not an error. Its notices may still be in the queue."""
        _libc.inotify_rm_watch(self._fd, watch)

    async def read(self) -> list[Notice]:
        """The next notices, at least one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                return _notices(os.read(self._fd, 1 << 16))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if trio.lowlevel.in_trio_run():
                trio.lowlevel.notify_closing(fd)
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _notices(data: bytes) -> list[Notice]:
    found = []
    at = 0
    while at < len(data):
        watch, mask, _cookie, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        found.append(Notice(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
        at += length
    return found
