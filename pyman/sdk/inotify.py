"""Waking up when a log file grows: the one system call that Python lacks here, through ctypes."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Self

__all__ = ["Watch"]

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")


class Watch:
    """Readable once one of the files that were added has been written to."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._check(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, descriptor: int) -> int:
        """Watch the file behind an open descriptor, whatever its name is by now; the number is for `remove`."""
        path = f"/proc/self/fd/{descriptor}".encode()
        number: int = self._libc.inotify_add_watch(self._descriptor, path, _IN_MODIFY)
        self._check(number)
        return number

    def remove(self, number: int) -> None:
        self._libc.inotify_rm_watch(self._descriptor, number)

    def drain(self) -> None:
        """Forget what has been told: look at the files after this."""
        try:
            while len(os.read(self._descriptor, 64 * _EVENT.size)) >= 32 * _EVENT.size:
                pass
        except BlockingIOError:
            pass

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
