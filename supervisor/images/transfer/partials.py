"""Blobs on their way here: files that are read while they grow, and that outlive a broken connection.

A blob is brought into a file that is called as its digest. A program reads it as it grows. When the blob has been
read and found right the file goes; when the transfer breaks, is cancelled, or the supervisor is killed, it stays, and
the next one who wants the blob goes on where it ends. What nobody has asked for in some days is removed.

Two who want the same blob at the same time fetch it once: the second one reads the file when the first has it whole.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import ArchiveRefused, DigestMismatch, PymanError, first_of
from supervisor.archive.feed import Feed
from supervisor.images.formats.manifests import check_digest
from supervisor.images.transports.folder import limiter
from supervisor.images.transports.spooling import let_go
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Fetch = Callable[[int, int], Awaitable[None]]
    """Brings the blob into the file, whose beginning may be there, and tells the pipe how far it has come. Both are
    descriptors, and stay open."""

__all__ = ["KEPT", "Partials"]

KEPT = 3 * 24 * 3600.0
"""Seconds that a part of a blob is kept for the next attempt."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class _Entry:
    def __init__(self) -> None:
        self.fetching = trio.Lock()
        self.users = 0
        self.whole = False
        self.read = False
        """Somebody has read it and found it right."""


class Partials:
    """One for an engine, in a directory of its own."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._entries: dict[str, _Entry] = {}

    def _path(self, digest: str) -> str:
        return f"{self._directory}/{check_digest(digest).partition(':')[2]}"

    @asynccontextmanager
    async def feed(self, digest: str, fetch: Fetch) -> AsyncGenerator[Feed, None]:
        """The blob, to be read while it comes. The context ends when it has been read.

        Raises what `fetch` raises; DiskFull, StorageFailed. DigestMismatch and ArchiveRefused of the reader mean that
        the file is of no use: it goes, and the next attempt begins anew.
        """
        path = self._path(digest)
        entry = self._entries.setdefault(digest, _Entry())
        entry.users += 1
        fd = -1
        try:
            fd = self._open(path)
            async with self._growing(entry, fd, fetch) as feed:
                yield feed
            entry.read = True
        except (ArchiveRefused, DigestMismatch):
            with suppress(OSError):
                os.unlink(path)
            entry.whole = False
            raise
        finally:
            entry.users -= 1
            if not entry.users:
                if self._entries.get(digest) is entry:
                    del self._entries[digest]
                if entry.read:
                    with suppress(OSError):
                        os.unlink(path)
            if fd >= 0:
                await let_go(fd)

    def _open(self, path: str) -> int:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return os.open(path, _FLAGS, 0o600)
        except OSError as error:
            raise storage_error(error, "write", path) from error

    @asynccontextmanager
    async def _growing(self, entry: _Entry, fd: int, fetch: Fetch) -> AsyncGenerator[Feed, None]:
        await entry.fetching.acquire()
        if entry.whole:
            entry.fetching.release()
            yield Feed(fd)
            return
        reading, writing = os.pipe2(os.O_CLOEXEC)

        async def bring() -> None:
            nonlocal writing
            try:
                await fetch(fd, writing)
                entry.whole = True
            finally:
                descriptor, writing = writing, -1
                os.close(descriptor)

        failure: PymanError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bring)
                yield Feed(fd, growth=reading)
        except* PymanError as group:
            failure = first_of(group)
        finally:
            entry.fetching.release()
            os.close(reading)
            if writing >= 0:  # cancelled before it began
                os.close(writing)
        if failure is not None:
            raise failure

    def size(self, digest: str) -> int:
        """Bytes of the blob that are here."""
        try:
            return os.stat(self._path(digest)).st_size
        except OSError:
            return 0

    async def clean(self, kept: float = KEPT) -> None:
        """Remove what nobody has asked for in so many seconds."""
        for name in await trio.to_thread.run_sync(self._old, kept, limiter=limiter):
            # Whether somebody has begun with it meanwhile is seen here, where nobody can begin before it is gone.
            if f"sha256:{name}" in self._entries:
                continue
            path = f"{self._directory}/{name}"
            with suppress(OSError):
                fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.unlink(path)
                finally:
                    await let_go(fd)

    def _old(self, kept: float) -> list[str]:
        found: list[str] = []
        with suppress(OSError), os.scandir(self._directory) as entries:
            for each in entries:
                with suppress(OSError):
                    if time.time() - each.stat(follow_symlinks=False).st_mtime >= kept:
                        found.append(each.name)
        return found
