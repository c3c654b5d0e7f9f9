"""Open file description locks: byte ranges of a file, held by a descriptor.

They conflict with other programs' POSIX locks on the same bytes, but belong to the descriptor and not to
the process: closing another descriptor of the file does not drop them, and they end when this one is closed
or its process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["OfdLock"]

_FLOCK = struct.Struct("hhqqi4x")


class OfdLock:
    """A lock file. `start` and `length` are in bytes; length 0 reaches to the end, however the file grows."""

    def __init__(self, path: str, *, mode: int = 0o600, fd: int = -1) -> None:
        """Opens the file, making it if needed. `fd`: one of it that is there, and is the lock's from now on. OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        self._fd = os.open(path, flags, mode) if fd < 0 else fd

    @property
    def fd(self) -> int:
        return self._fd

    def try_acquire(self, start: int = 0, length: int = 0, *, shared: bool = False) -> bool:
        """False: somebody else holds a conflicting lock. A range held already changes to what is asked."""
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            self._control(fcntl.F_OFD_SETLK, kind, start, length)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def acquire(self, start: int = 0, length: int = 0, *, shared: bool = False) -> None:
        """Wait for it, in the kernel: to be called in a thread."""
        self._control(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length)

    def release(self, start: int = 0, length: int = 0) -> None:
        self._control(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)

    def read(self, size: int = 4096) -> bytes:
        """What the holder wrote into the file."""
        return os.pread(self._fd, size, 0)

    def write(self, data: bytes) -> None:
        """Replace the file's content, as with one's pid."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def close(self) -> None:
        """Drops every range."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _control(self, operation: int, kind: int, start: int, length: int) -> None:
        fcntl.fcntl(self._fd, operation, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
