"""Images on disk as named files: the members of a directory, or of an archive (`archived`).

A `Files` is read by its members' names. Nothing outside is reached: a directory is opened once, its own name not
through a link, and its members below it; only regular files are members. Errors are ArchiveRefused for what is wrong
with the image, StorageFailed for what is wrong with the disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import trio

from pyman.errors import ArchiveRefused, DigestMismatch, InvalidArgument
from supervisor.archive.feed import Feed
from supervisor.kernel.files import open_beneath, storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    from pyman.errors import PymanError

__all__ = ["Files", "Folder", "absent", "hash_range", "limiter", "read_document", "read_range", "verified"]

T = TypeVar("T")
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 1 << 20
limiter = trio.CapacityLimiter(8)
"""For threads that read and write what images are made of."""


class Files(Protocol):
    """`name`: for people."""

    name: str

    async def size(self, member: str) -> int:
        """Bytes; -1: there is no such file."""

    async def read(self, member: str, limit: int) -> bytes:
        """ArchiveRefused: it is absent, or has more than `limit` bytes."""
        async with self.open(member) as feed:
            if feed.length > limit:
                raise ArchiveRefused(
                    f"cannot use '{self.name}': its '{member}' has {feed.length} bytes, {limit} are the most",
                    subject=self.name,
                )
            return await read_range(feed)

    def open(self, member: str) -> AbstractAsyncContextManager[Feed]:
        """A complete file, always with its length. ArchiveRefused: it is absent."""

    async def aclose(self) -> None: ...


async def read_document(files: Files, member: str, limit: int, kind: type[T]) -> T:
    """What a member in JSON says. ArchiveRefused: as `Files.read`, or it is damaged."""
    data = await files.read(member, limit)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveRefused(
            f"cannot use '{files.name}': its {member}: {error}", subject=files.name
        ) from None


def absent(files: str, member: str) -> ArchiveRefused:
    return ArchiveRefused(f"cannot use '{files}': it has no '{member}'", subject=files)


class Folder(Files):
    """A directory as `Files`."""

    def __init__(self, name: str, directory: int) -> None:
        self.name = name
        self._directory = directory

    @classmethod
    async def at(cls, path: str) -> Folder:
        """The directory at an absolute path. InvalidArgument: there is none, or it is a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = await trio.to_thread.run_sync(os.open, path, flags, limiter=limiter)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise InvalidArgument(f"cannot use '{path}': it is not a directory", subject=path) from error
            raise storage_error(error, "read", path) from error
        return cls(path, fd)

    async def size(self, member: str) -> int:
        fd, size = await trio.to_thread.run_sync(self._try_open, member, limiter=limiter)
        if fd >= 0:
            os.close(fd)
        return size

    @asynccontextmanager
    async def open(self, member: str) -> AsyncIterator[Feed]:
        fd, size = await trio.to_thread.run_sync(self._try_open, member, limiter=limiter)
        if fd < 0:
            raise absent(self.name, member)
        try:
            yield Feed(fd, 0, size)
        finally:
            os.close(fd)

    async def aclose(self) -> None:
        os.close(self._directory)

    def _try_open(self, member: str) -> tuple[int, int]:
        """A descriptor and the size; -1 each: there is no such regular file below the directory."""
        try:
            fd = open_beneath(self._directory, member, _OPEN)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENXIO):
                return -1, -1
            raise self._translated(error, member) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return -1, -1
        return fd, status.st_size

    def _translated(self, error: OSError, member: str) -> PymanError:
        return storage_error(error, "read", f"{self.name}/{member}")


async def read_range(feed: Feed) -> bytes:
    """The bytes of a complete feed. ArchiveRefused: it is shorter than its length."""
    return await trio.to_thread.run_sync(lambda: b"".join(_parts(feed)), limiter=limiter)


async def hash_range(feed: Feed) -> str:
    """The digest of a complete feed, hashed in a thread. ArchiveRefused: it is shorter than its length."""
    return await trio.to_thread.run_sync(_hash, feed, limiter=limiter)


def _hash(feed: Feed) -> str:
    hashed = hashlib.sha256()
    for part in _parts(feed):
        hashed.update(part)
    return f"sha256:{hashed.hexdigest()}"


def _parts(feed: Feed) -> Iterator[bytes]:
    """In a thread of Trio's."""
    at, end = feed.offset, feed.offset + feed.length
    while at < end:
        trio.from_thread.check_cancelled()
        try:
            part = os.pread(feed.fd, min(_CHUNK, end - at), at)
        except OSError as error:
            raise storage_error(error, "read", "the image") from error
        if not part:
            raise ArchiveRefused("cannot read the image: it ends too early")
        yield part
        at += len(part)


def verified(data: bytes, digest: str, of: str) -> bytes:
    """The data, if it is what the digest says. DigestMismatch."""
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise DigestMismatch(f"cannot use '{of}': a blob should be {digest} and is {found}", subject=of)
    return data
