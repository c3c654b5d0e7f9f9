"""The bytes that a program works on: a part of a file, a file that is still being written, or a pipe.

They are counted and hashed on the way, and whoever waits is told how far it has come. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import select
import stat
import time

from pyman.errors import DigestMismatch, StorageFailed
from supervisor.archive.failures import Broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHUNK", "Source", "hasher"]

CHUNK = 1 << 17
"""Bytes that are read at once."""
_REPORT_EVERY = 0.1
"""Seconds between two reports."""
_ALGORITHMS = ("sha256", "sha384", "sha512")
_NUMBER = 8


def hasher(digest: str) -> hashlib._Hash:
    """For a digest like this (`sha256:…`); empty: SHA-256."""
    algorithm = digest.partition(":")[0] or "sha256"
    if algorithm not in _ALGORITHMS:
        raise DigestMismatch(f"cannot verify the digest '{digest}': pyman does not know '{algorithm}'")
    return hashlib.new(algorithm)


class Source:
    """Read once, in pieces, from a descriptor; see `Feed` for what the numbers mean."""

    def __init__(
        self,
        fd: int,
        offset: int,
        length: int,
        growth: int,
        *,
        digest: str = "",
        size: int = -1,
        report: Callable[[int], None] | None = None,
        hashed: bool = True,
    ) -> None:
        """`digest`, `size`: what all of it has to have; `report` is called with the bytes so far, now and then. `hashed`:
        somebody wants to know the digest."""
        self._fd = fd
        self._offset = offset
        self._length = length
        self._growth = growth
        self._known = 0
        self._wanted = digest
        self._wanted_size = size
        self._report = report
        self._reported = 0.0
        self._hash = hasher(digest)
        self._hashed = hashed
        self._file = stat.S_ISREG(os.fstat(fd).st_mode)
        self.size = 0
        self._begin = b""

    @property
    def digest(self) -> str:
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def start(self, size: int) -> bytes:
        """The first bytes, which come again in `chunks`."""
        while len(self._begin) < size and (piece := self._read()):
            self._begin += piece
        return self._begin[:size]

    def chunks(self) -> Iterator[bytes]:
        """All of it. DigestMismatch at the end, or as soon as it is longer than it may be; OSError."""
        update = self._hash.update
        first, self._begin = self._begin, b""
        while piece := first or self._read():
            first = b""
            if self._hashed:
                update(piece)
            self.size += len(piece)
            if 0 <= self._wanted_size < self.size:
                self._refuse(f"it is longer than {self._wanted_size} bytes")
            if self._report is not None and (now := time.monotonic()) - self._reported >= _REPORT_EVERY:
                self._reported = now
                self._report(self.size)
            yield piece
        if 0 <= self._wanted_size != self.size:
            self._refuse(f"it has {self.size} bytes, not {self._wanted_size}")
        if self._wanted and self._wanted != self.digest:
            self._refuse(f"its digest is {self.digest}, not {self._wanted}")

    def _refuse(self, why: str) -> None:
        raise DigestMismatch(f"cannot accept the data: {why}", subject=self._wanted)

    def _read(self) -> bytes:
        if not self._file:
            return _arrived(self._fd)
        have = self._have
        limit = CHUNK if self._length < 0 else min(CHUNK, self._length - have)
        if self._growth >= 0:
            limit = min(limit, self._grown(have) - have)
        if limit <= 0:
            return b""
        piece = os.pread(self._fd, limit, self._offset + have)
        if not piece and self._length >= 0:
            raise Broken(f"the file ends after {have} bytes, not {self._length}")
        return piece

    @property
    def _have(self) -> int:
        return self.size + len(self._begin)

    def _grown(self, have: int) -> int:
        """Wait until there is more than that, or all of it; how much there is."""
        while self._known <= have:
            data = os.read(self._growth, CHUNK - CHUNK % _NUMBER)
            if not data:
                self._finished()
                break
            while len(data) % _NUMBER:
                data += os.read(self._growth, _NUMBER - len(data) % _NUMBER) or b"\0"
            self._known = int.from_bytes(data[-_NUMBER:], "little")
        return self._known

    def _finished(self) -> None:
        complete = self._length if self._length >= 0 else os.fstat(self._fd).st_size - self._offset
        if self._known != complete:
            raise StorageFailed(f"cannot go on: the data ended after {self._known} bytes, before its end")
        self._growth = -1
        if self._length < 0:
            self._length = complete


def _arrived(fd: int) -> bytes:
    """From a pipe, which may be one that its maker does not want to wait for."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll()
