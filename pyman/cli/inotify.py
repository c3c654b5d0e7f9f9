"""Waiting for files to change, and for a supervisor to come back, without looking again and again."""

from __future__ import annotations

import ctypes
import os
import select
import time

from pyman.errors import EngineUnavailable, StorageFailed
from pyman.wire import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.cli.context import Context
    from pyman.wire import Connection

__all__ = ["Inotify", "reconnect"]

IN_MODIFY, IN_ATTRIB, IN_MOVED_TO, IN_CREATE = 0x2, 0x4, 0x80, 0x100
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_AFTER_BIND = 2.0
"""Seconds from a socket's creation, which is seen, to its listening, which is not."""


class Inotify:
    """Watches; `fileno` is readable when one of them has something to tell. Raises StorageFailed."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._checked(self._library.inotify_init1(_NONBLOCK_CLOEXEC))

    def _checked(self, result: int) -> int:
        if result < 0:
            problem = ctypes.get_errno()
            raise StorageFailed(
                f"cannot watch files: {os.strerror(problem)}", hint="see /proc/sys/fs/inotify for the limits"
            )
        return result

    def fileno(self) -> int:
        return self._descriptor

    def add(self, path: str, mask: int) -> int:
        """The number of the watch."""
        return self._checked(self._library.inotify_add_watch(self._descriptor, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        self._library.inotify_rm_watch(self._descriptor, watch)

    def take(self) -> set[int]:
        """Watches that have something to tell; what it is does not matter here."""
        watches: set[int] = set()
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return watches
            at = 0
            while at < len(data):
                watches.add(int.from_bytes(data[at : at + 4], "little", signed=True))
                at += 16 + int.from_bytes(data[at + 12 : at + 16], "little")

    def close(self) -> None:
        os.close(self._descriptor)


def reconnect(ctx: Context) -> Connection:
    """The connection to the next supervisor, however long it takes to come; none is started."""
    selection = ctx.selection
    try:
        return connect(selection, start=False)
    except EngineUnavailable:
        ctx.warn("the supervisor went away: waiting for the next one")
    directory = os.path.dirname(selection.socket)
    watches = Inotify()
    try:
        until = 0.0
        while True:
            while not os.path.isdir(directory):
                directory = os.path.dirname(directory)
            number = watches.add(directory, IN_CREATE | IN_MOVED_TO | IN_ATTRIB)
            try:
                return connect(selection, start=False)
            except EngineUnavailable:
                pass
            poll = select.poll()
            poll.register(watches.fileno(), select.POLLIN)
            if poll.poll(20 if time.monotonic() < until else None):
                watches.take()
                until = time.monotonic() + _AFTER_BIND
            watches.remove(number)
            directory = os.path.dirname(selection.socket)
    finally:
        watches.close()
