"""What is in volumes, as tar archives: packed and unpacked by the confined programs, which see nothing but the volume.

An archive that goes into an empty volume is unpacked beside it and moved into it when it was whole: then one that is
refused leaves nothing. Into a volume with contents it goes straight, as it may replace some of them.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import PymanError, StorageFailed
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.kernel import files

if TYPE_CHECKING:
    from supervisor.runtime.volumes.book import Volumes
    from supervisor.runtime.volumes.entry import Entry

__all__ = ["pack", "unpack"]

_limiter = trio.CapacityLimiter(2)
"""Archives at once: each program is busy all the time."""
_OF_A_LAYER = "cannot unpack the layer: "


async def pack(book: Volumes, entry: Entry, out: int) -> None:
    """Write all that is in it to a descriptor. DiskFull, StorageFailed."""
    async with _limiter, book.held(entry) as path:
        await _directory(entry, path)
        await jobs.pack_tree(path, out)


async def unpack(book: Volumes, entry: Entry, source: int, *, rootless: bool) -> None:
    """Unpack an archive, compressed or not, from a descriptor. ArchiveRefused, DiskFull, StorageFailed."""
    async with _limiter, book.held(entry) as path:
        await _directory(entry, path)
        try:
            if entry.definition.needs_mount or await trio.to_thread.run_sync(_has_contents, path):
                await _extract(source, path, rootless=rootless)
                return
            await _apart(book, source, path, rootless=rootless)
        except PymanError as error:
            reason = error.message.removeprefix(_OF_A_LAYER)
            message = f"cannot import into volume '{entry.name}': {reason}"
            raise type(error)(message, subject=entry.name, hint=error.hint) from error


def _is_directory(path: str) -> bool:
    return os.path.isdir(path)


def _has_contents(path: str) -> bool:
    """StorageFailed."""
    try:
        return bool(os.listdir(path))
    except OSError as error:
        raise files.storage_error(error, "read", path) from error


async def _directory(entry: Entry, path: str) -> None:
    if not await trio.to_thread.run_sync(_is_directory, path):
        raise StorageFailed(
            f"cannot use volume '{entry.name}': its directory '{path}' is gone", subject=entry.name
        )


async def _extract(source: int, target: str, *, rootless: bool) -> None:
    await jobs.unpack(Feed(source), target, "", whiteouts="none", user_xattrs=rootless)


async def _apart(book: Volumes, source: int, path: str, *, rootless: bool) -> None:
    ground = book.ground
    staged = await trio.to_thread.run_sync(ground.stage, "new")
    try:
        await _extract(source, staged, rootless=rootless)
        await trio.to_thread.run_sync(partial(_moved, staged, path))
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(ground.drop, staged)
            book.discard(staged)


def _moved(staged: str, path: str) -> None:
    """Each entry; nothing that has come meanwhile is replaced. StorageFailed."""
    moved: list[str] = []
    try:
        for name in os.listdir(staged):
            files.rename_new(f"{staged}/{name}", f"{path}/{name}")
            moved.append(name)
    except OSError as error:
        for name in moved:
            os.rename(f"{path}/{name}", f"{staged}/{name}")
        raise files.storage_error(error, "import into", path) from error
