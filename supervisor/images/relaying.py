"""An image passed on from a source to a destination as it is, without becoming one of the store."""

from __future__ import annotations

import os
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from pyman.api.image import Progress
from pyman.errors import ArchiveRefused, DigestMismatch, StorageFailed
from supervisor.archive.feed import Feed
from supervisor.images.apart import apart
from supervisor.images.folder import hash_range, limiter
from supervisor.images.manifests import decode_manifest
from supervisor.images.spooling import document, spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.images.progress import Board
    from supervisor.images.sending import Receiver
    from supervisor.images.transport import Blob, RawManifest, Source

__all__ = ["relay"]

_NUMBER = struct.Struct("<Q")
_CHUNK = 16 << 20


async def relay(
    source: Source, manifest: RawManifest, destination: Receiver, spool_in: str, board: Board
) -> RawManifest:
    """The manifest of one image and all that it names; what is there already is not read. Errors of both sides."""
    decoded = await apart(len(manifest.data), lambda: decode_manifest(manifest))
    for blob in {layer.digest: layer for layer in decoded.layers}.values():
        if await destination.has(blob):
            board.note(Progress(blob.digest, "exists", blob.size, blob.size))
        else:
            await _pass_on(source, blob, destination, spool_in, board)
    if not await destination.has(decoded.config):
        with document(await source.blob(decoded.config)) as fd:
            await destination.put_blob(decoded.config, fd, lambda _: None)
    await destination.put_manifest(manifest, member=True)
    return manifest


async def _pass_on(source: Source, blob: Blob, destination: Receiver, spool_in: str, board: Board) -> None:
    def coming(count: int) -> None:
        board.note(Progress(blob.digest, "downloading", count, blob.size))

    def going(count: int) -> None:
        board.note(Progress(blob.digest, "uploading", count, blob.size))

    async with source.layer(blob, coming) as begun:
        feed = await _complete(begun)
        if feed.length != blob.size:
            raise ArchiveRefused(
                f"cannot use '{source.name}': the blob {blob.digest} has {feed.length} bytes "
                f"instead of {blob.size}",
                subject=source.name,
            )
        if await hash_range(feed) != blob.digest:
            raise DigestMismatch(
                f"cannot use '{source.name}': a blob is not what its digest {blob.digest} says",
                subject=source.name,
            )
        async with _from_beginning(feed, spool_in) as (fd, copy):
            if copy:
                await trio.to_thread.run_sync(_copy, feed, fd, limiter=limiter)
            await destination.put_blob(blob, fd, going)
    board.note(Progress(blob.digest, "done", blob.size, blob.size))


async def _complete(feed: Feed) -> Feed:
    """The feed when its file has grown to its end. StorageFailed: whoever writes it has failed."""
    if feed.growth >= 0:
        os.set_blocking(feed.growth, False)
        told = b""
        while True:
            await trio.lowlevel.wait_readable(feed.growth)
            try:
                piece = os.read(feed.growth, 1 << 16)
            except BlockingIOError:
                continue
            if not piece:
                break
            told = (told + piece)[-2 * _NUMBER.size :]
        size = os.fstat(feed.fd).st_size
        if len(told) < _NUMBER.size or _NUMBER.unpack(told[-_NUMBER.size :])[0] != size:
            raise StorageFailed("cannot pass a layer on: it has not come to its end")
        return Feed(feed.fd, 0, size)
    if feed.length < 0:
        return Feed(feed.fd, feed.offset, os.fstat(feed.fd).st_size - feed.offset)
    return feed


@asynccontextmanager
async def _from_beginning(feed: Feed, spool_in: str) -> AsyncIterator[tuple[int, bool]]:
    """A file that begins with the feed's bytes, and whether they have to be copied there first."""
    if feed.offset == 0:
        yield feed.fd, False
        return
    async with spool(spool_in) as fd:
        yield fd, True


def _copy(feed: Feed, out: int) -> None:
    at, end = feed.offset, feed.offset + feed.length
    while at < end:
        trio.from_thread.check_cancelled()
        copied = os.sendfile(out, feed.fd, at, min(_CHUNK, end - at))
        if not copied:
            raise StorageFailed("cannot pass a layer on: its file has become shorter")
        at += copied
