"""Files that have no name and are gone with their descriptor: what is packed before it is sent."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from supervisor.images.transports.folder import limiter
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["document", "let_go", "spool"]

_UNSUPPORTED = (errno.EISDIR, errno.EOPNOTSUPP, errno.ENOENT)


@asynccontextmanager
async def spool(directory: str) -> AsyncIterator[int]:
    """A new file in a directory's file system. StorageFailed, DiskFull."""
    try:
        fd = _unnamed(directory)
    except OSError as error:
        raise storage_error(error, "write a temporary file in", directory) from error
    try:
        yield fd
    finally:
        await let_go(fd)


async def let_go(fd: int) -> None:
    """Close a file that has no name any more: its space is freed then, which takes a tenth of a second for half a
    gigabyte. Also while being cancelled."""
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(os.close, fd, limiter=limiter)


def _unnamed(directory: str) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    fd, path = tempfile.mkstemp(dir=directory)
    os.unlink(path)
    return fd


@contextmanager
def document(data: bytes) -> Iterator[int]:
    """A file in memory with this content: a configuration, to be sent like any blob."""
    fd = os.memfd_create("pyman-blob", os.MFD_CLOEXEC)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        yield fd
    finally:
        os.close(fd)
