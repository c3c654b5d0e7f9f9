"""A tar archive written to a descriptor that the client has given: a file, or a pipe that somebody reads slowly.

Small members are written from here; layers are written by the program that packs them, which has the descriptor
itself (`stream`), or are copied by the kernel from a spooled file (`add_file`). Members come one after the other, also
where several are ready at once. A pipe is opened once more, so that
writing to it never waits and the client's own descriptor stays as it is; what cannot be opened so (a socket) is
written to in pieces that it has room for. No thread is held by a reader that has stopped.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from pyman.errors import DiskFull, StorageFailed
from supervisor.images.transports.folder import limiter
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pyman.errors import PymanError

__all__ = ["TarWriter"]

_BLOCK = 512
_RECORD = 20 * _BLOCK
_PIECE = 4096
"""What is ready for writing takes this much without waiting."""
_CHUNK = 4 << 20


class TarWriter:
    """`fd` stays the caller's. `name`: for messages. `release` it in any case."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        mode = os.fstat(fd).st_mode
        self._regular = stat.S_ISREG(mode)
        self._own = _reopened(fd) if stat.S_ISFIFO(mode) else -1
        self._out = self._own if self._own >= 0 else fd
        self._piece = _CHUNK if self._regular or self._own >= 0 else _PIECE
        self._written = 0
        self._turn = trio.Lock()

    def release(self) -> None:
        """Let go of what was opened; the archive is complete only after `close`."""
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    async def add_bytes(self, member: str, data: bytes) -> None:
        async with self._turn:
            await self._write(_header(member, len(data)) + data + _padding(len(data)))

    async def add_symlink(self, member: str, target: str) -> None:
        async with self._turn:
            await self._write(_header(member, 0, link=target))

    async def add_file(self, member: str, fd: int, size: int, report: Callable[[int], None]) -> None:
        """The first `size` bytes of a regular file."""
        async with self._turn:
            await self._add_file(member, fd, size, report)

    async def _add_file(self, member: str, fd: int, size: int, report: Callable[[int], None]) -> None:
        await self._write(_header(member, size))
        at = 0
        while at < size:
            await self._writable()
            # From a page's beginning: a pipe takes whole pages only.
            chunk = min(self._piece - at % _PIECE, size - at)
            copied = await trio.to_thread.run_sync(self._copy, fd, at, chunk, limiter=limiter)
            if copied < 0:
                raise StorageFailed(f"cannot write '{self.name}': '{member}' is shorter than it was")
            at += copied
            report(at)
        self._written += size
        await self._write(_padding(size))

    @asynccontextmanager
    async def stream(self, member: str, size: int) -> AsyncIterator[int]:
        """The descriptor, for somebody who writes exactly `size` bytes to it, and says so by ending the block."""
        async with self._turn:
            await self._write(_header(member, size))
            yield self._fd
            self._written += size
            await self._write(_padding(size))

    async def close(self) -> None:
        """The end of the archive, in whole records."""
        rest = -(self._written + 2 * _BLOCK) % _RECORD
        await self._write(bytes(2 * _BLOCK + rest))

    def _copy(self, fd: int, at: int, size: int) -> int:
        """Bytes; 0: there is no room now; -1: the file has ended."""
        try:
            return os.sendfile(self._out, fd, at, size) or -1
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise self._failed(error) from error
        # What the kernel cannot send to (a descriptor in append mode) is written to.
        return self._put(memoryview(os.pread(fd, size, at))) or -1

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        self._written += len(data)
        while rest:
            await self._writable()
            piece = rest[: self._piece]
            count = await trio.to_thread.run_sync(self._put, piece, limiter=limiter)
            rest = rest[count:]

    def _put(self, data: memoryview) -> int:
        try:
            return os.write(self._out, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._failed(error) from error

    async def _writable(self) -> None:
        if self._regular:
            return
        try:
            await trio.lowlevel.wait_writable(self._out)
        except PermissionError:
            await trio.lowlevel.checkpoint()  # such a file is always ready: /dev/null

    def _failed(self, error: OSError) -> PymanError:
        if error.errno == errno.EPIPE:
            return StorageFailed(f"cannot write '{self.name}': nobody reads it any more", subject=self.name)
        if error.errno == errno.EFBIG:
            return DiskFull(f"cannot write '{self.name}': {error.strerror}", subject=self.name)
        return storage_error(error, "write", self.name)


def _reopened(fd: int) -> int:
    """The same pipe under flags of our own; -1: it cannot be opened."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1


def _header(member: str, size: int, *, link: str = "") -> bytes:
    """As other engines' archives have it: read-only, root's, of no time."""
    info = tarfile.TarInfo(member)
    info.size = size
    info.mode = 0o777 if link else 0o444
    info.mtime = 0
    if link:
        info.type = tarfile.SYMTYPE
        info.linkname = link
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
