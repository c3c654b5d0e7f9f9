"""Images passed on from a source to a destination, without becoming some of the store.

They go as they are, unless another format or another compression is asked for. A layer that is to be compressed
otherwise goes through a program, which verifies it, into a spooled file.
"""

from __future__ import annotations

import os
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.api.image import Progress
from pyman.errors import ArchiveRefused, DigestMismatch, StorageFailed
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.images.apart import apart
from supervisor.images.formats import manifests as m
from supervisor.images.formats.config import decode_config
from supervisor.images.formats.convert import FORMATS, compression_in, converted, layer_type, with_layers
from supervisor.images.formats.manifests import decode_manifest, encode_manifest
from supervisor.images.transfer.blobinfo import Known
from supervisor.images.transfer.sending import packing
from supervisor.images.transfer.wishes import compression_for, level_for
from supervisor.images.transports.folder import hash_range, limiter
from supervisor.images.transports.spooling import document, spool
from supervisor.images.transports.transport import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from supervisor.archive.jobs import Compression
    from supervisor.images.formats.manifests import Manifest
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.sending import Memory, Receiver
    from supervisor.images.transfer.wishes import Wish
    from supervisor.images.transports.transport import RawManifest, Source

__all__ = ["Relay"]

_NUMBER = struct.Struct("<Q")
_CHUNK = 16 << 20


class Relay:
    """Passes images on to one destination."""

    def __init__(
        self, destination: Receiver, wish: Wish, *, memory: Memory, spool_in: str, board: Board
    ) -> None:
        self._to = destination
        self._wish = wish
        self._memory = memory
        self._spool_in = spool_in
        self._board = board
        possible = compression_for(wish, destination.compression, destination.manifest_types)
        usual = wish.usual or ("gzip" if wish.force else "") if destination.compression == "gzip" else ""
        self._compression: Compression | None = possible if possible == (wish.compression or usual) else None
        """That is asked for, of whatever comes otherwise."""
        self._level = level_for(wish, possible)

    async def pass_on(self, source: Source, manifest: RawManifest) -> RawManifest:
        """The manifest of one image, as it is there now, and all that it names; what is there already is not read. Errors
        of both sides; NotSupported: the other format cannot say it."""
        decoded = await apart(len(manifest.data), lambda: decode_manifest(manifest))
        media_type = self._type(decoded)
        config = b""
        if not await self._to.has(decoded.config):
            config = await source.blob(decoded.config)
        diff_ids: Sequence[str] = ()
        layers: dict[str, Blob] = {}
        for number, layer in enumerate(decoded.layers):
            if layer.digest in layers:
                continue
            target = self._target(layer, media_type)
            there = await self._to.has(layer)
            if target is None or (there and not self._wish.force and _fits(layer, media_type)):
                await self._as_it_is(source, layer, there=there)
                layers[layer.digest] = _retyped(decoded, layer, media_type)
                continue
            if not diff_ids:
                config = config or await source.blob(decoded.config)
                diff_ids = await _diff_ids(config, source.name)
            diff_id = diff_ids[number] if number < len(diff_ids) else ""
            layers[layer.digest] = await self._otherwise(source, layer, diff_id, target, media_type)
        if config:
            with document(config) as fd:
                await self._to.put_blob(decoded.config, fd, lambda _: None)
        raw = manifest
        sent = [layers[layer.digest] for layer in decoded.layers]
        if media_type != decoded.media_type or sent != list(decoded.layers):
            bare = converted(msgspec.structs.replace(decoded, layers=()), media_type)
            raw = encode_manifest(with_layers(bare, sent))
        await self._to.put_manifest(raw, member=True)
        return raw

    def _type(self, decoded: Manifest) -> str:
        if not _is_image(decoded):
            return decoded.media_type
        if self._wish.format:
            return FORMATS[self._wish.format]
        return m.OCI_MANIFEST if self._compression == "zstd" else decoded.media_type

    def _target(self, layer: Blob, media_type: str) -> Compression | None:
        """What it is to be compressed with; None: it stays as it is."""
        present = compression_in(layer.media_type)
        if not present:
            return None
        wanted = self._compression or present
        if wanted == "zstd" and media_type == m.DOCKER_MANIFEST:
            wanted = "gzip"
        if wanted == present:
            return None
        return "none" if wanted == "none" else "zstd" if wanted == "zstd" else "gzip"

    async def _as_it_is(self, source: Source, layer: Blob, *, there: bool) -> None:
        if there:
            self._board.note(Progress(layer.digest, "exists", layer.size, layer.size))
        else:
            await _pass_on(source, layer, self._to, self._spool_in, self._board)

    async def _otherwise(
        self, source: Source, layer: Blob, diff_id: str, target: Compression, media_type: str
    ) -> Blob:
        kind = layer_type(media_type, target)
        for known in self._memory.known(diff_id) if diff_id else ():
            blob = Blob(known.digest, known.size, kind)
            if known.compression == target and await self._to.has(blob):
                self._board.note(Progress(layer.digest, "exists", layer.size, layer.size))
                return blob

        def coming(count: int) -> None:
            self._board.note(Progress(layer.digest, "packing", count, layer.size))

        def going(count: int) -> None:
            self._board.note(Progress(layer.digest, "uploading", count, blob.size))

        async with spool(self._spool_in) as fd:
            async with source.layer(layer, lambda _: None) as feed, packing:
                packed = await jobs.recompress(
                    feed,
                    fd,
                    digest=layer.digest,
                    size=layer.size,
                    compression=target,
                    level=self._level if target == self._compression else None,
                    report=coming,
                )
            if packed.diff_id != diff_id:
                raise DigestMismatch(
                    f"cannot use '{source.name}': the layer {layer.digest} is not what its configuration says",
                    subject=source.name,
                )
            blob = Blob(packed.digest, packed.size, kind)
            await self._to.put_blob(blob, fd, going)
        self._memory.learn(diff_id, Known(packed.digest, packed.size, target))
        self._board.note(Progress(layer.digest, "done", layer.size, layer.size))
        return blob


async def _diff_ids(config: bytes, name: str) -> Sequence[str]:
    read = await apart(len(config), lambda: decode_config(config, name))
    return read.diff_ids


def _is_image(manifest: Manifest) -> bool:
    return manifest.config.media_type in (m.OCI_CONFIG, m.DOCKER_CONFIG) and not manifest.artifact_type


def _fits(layer: Blob, media_type: str) -> bool:
    """A manifest of that type has a word for it."""
    return media_type == m.OCI_MANIFEST or compression_in(layer.media_type) != "zstd"


def _retyped(manifest: Manifest, layer: Blob, media_type: str) -> Blob:
    return converted(msgspec.structs.replace(manifest, layers=(layer,)), media_type).layers[0]


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
