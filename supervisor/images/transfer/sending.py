"""An image of the store written to a `Destination`: its layers, several at once, its configuration, its manifest.

A layer is sent only if the destination has none of the blobs that are known to hold it: the one that the image came
with, and those that were sent or met before. What has to be sent is packed by a program into a spooled file; an
archive that takes layers uncompressed has them packed straight into it. Where in the end nothing differs from the
manifest that the image has, that manifest is sent byte for byte, so that the digest stays the same.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from pyman.api.image import Progress
from pyman.errors import NotSupported, PymanError, StorageFailed, first_of
from supervisor.images.apart import apart
from supervisor.images.formats import manifests as m
from supervisor.images.formats.convert import FORMATS, converted, layer_type, with_layers
from supervisor.images.formats.manifests import decode_manifest, encode_manifest
from supervisor.images.transfer.blobinfo import Known
from supervisor.images.transfer.wishes import compression_for, level_for
from supervisor.images.transports.spooling import document, spool
from supervisor.images.transports.transport import Blob, RawManifest
from supervisor.storage.records import Layer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from supervisor.archive.jobs import Compression, Packed
    from supervisor.images.formats.manifests import Manifest
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.wishes import Wish
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Outgoing", "Receiver", "Sender", "compression_of", "outgoing"]

_AT_ONCE = 3
"""Layers of one image that are sent at the same time."""
packing = trio.CapacityLimiter(4)
"""Programs that pack into files, of all transfers; those that write to a client go at his pace, and do little."""
_FORMATS_BY_TYPE = {media_type: word for word, media_type in FORMATS.items()}


class Outgoing(msgspec.Struct, frozen=True):
    """An image as the store has it. `layers`: from the base upwards."""

    id: str
    manifest: RawManifest
    config: bytes
    layers: tuple[Layer, ...]
    directories: tuple[str, ...]
    """Of the layers, each with its `diff`."""
    tar_splits: tuple[str, ...]


class Receiver(Protocol):
    """A `Destination`, and what it prefers."""

    name: str
    manifest_types: tuple[str, ...]
    """That it takes, the preferred one first; empty: any."""
    compression: str
    """What layers are packed with unless something else is asked for."""
    streams: bool
    """Layers go through `stream`, uncompressed."""

    async def has(self, blob: Blob) -> bool: ...
    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None: ...
    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None: ...
    async def finish(self) -> None: ...
    async def aclose(self) -> None: ...


class Streaming(Receiver, Protocol):
    def stream(self, blob: Blob) -> AbstractAsyncContextManager[int]: ...


class Memory(Protocol):
    """What is remembered of blobs: see `blobinfo`."""

    def known(self, diff_id: str) -> Iterable[Known]: ...
    def learn(self, diff_id: str, known: Known) -> None: ...


class Pack(Protocol):
    """As `archive.jobs.pack`."""

    def __call__(
        self,
        diff: str,
        tar_split: str,
        out: int,
        *,
        compression: Compression,
        level: int | None,
        report: Callable[[int], None] | None,
    ) -> Awaitable[Packed]: ...


def outgoing(store: Store, image: Image) -> Outgoing:
    """Reads what is needed of an image; in a thread. StorageFailed, and errors of `decode`."""
    raw = RawManifest(store.big_data(image, "manifest"), "")
    manifest = decode_manifest(raw)
    layers = tuple(reversed(store.chain(image.top_layer)))
    return Outgoing(
        id=image.id,
        manifest=RawManifest(raw.data, manifest.media_type),
        config=store.big_data(image, manifest.config.digest),
        layers=layers,
        directories=tuple(store.directory(layer) for layer in layers),
        tar_splits=tuple(store.tar_split(layer) for layer in layers),
    )


def compression_of(blob: Blob, layer: Layer) -> str:
    """How a blob of a manifest is compressed. Docker's archives call what is not compressed gzip, too."""
    if blob.digest == layer.diff_id:
        return "none"
    if blob.media_type.endswith(("zstd", "zstd:chunked")):
        return "zstd"
    return "gzip" if "gzip" in blob.media_type else "none"


class Sender:
    """Sends one image after the other to one destination."""

    def __init__(
        self, destination: Receiver, wish: Wish, *, pack: Pack, memory: Memory, spool_in: str, board: Board
    ) -> None:
        self._to = destination
        self._wish = wish
        self._pack = pack
        self._memory = memory
        self._compression: Compression = "none"
        if not destination.streams:
            self._compression = compression_for(wish, destination.compression, destination.manifest_types)
        self._level = level_for(wish, self._compression)
        self._spool_in = spool_in
        """A directory of the file system that has room for layers."""
        self._board = board

    async def send(self, image: Outgoing, *, member: bool = False) -> RawManifest:
        """The manifest as it is there now. Errors of the destination; NotSupported, StorageFailed, DiskFull."""
        original = await apart(len(image.manifest.data), lambda: decode_manifest(image.manifest))
        wanted = self._manifest_type(original)
        bare = converted(msgspec.structs.replace(original, layers=()), wanted)
        self._board.say("Getting image source signatures")
        layers = await self._send_layers(image, original, wanted)
        await self._send_config(bare.config, image.config)
        self._board.say(f"Copying config {bare.config.digest}")
        unchanged = [blob.digest for blob in layers] == [blob.digest for blob in original.layers]
        same = unchanged and wanted == original.media_type
        raw = image.manifest if same else encode_manifest(with_layers(bare, layers))
        self._board.say("Writing manifest to image destination")
        await self._to.put_manifest(raw, member=member)
        return raw

    def _manifest_type(self, original: Manifest) -> str:
        types = self._to.manifest_types
        wanted = FORMATS.get(self._wish.format, "")
        if self._wish.format and not wanted:
            raise NotSupported(
                f"cannot write a manifest of the format '{self._wish.format}'", hint="oci and v2s2 are known"
            )
        if wanted and types and wanted not in types:
            raise NotSupported(
                f"cannot write the format '{self._wish.format}' to '{self._to.name}'",
                hint=f"it takes {_FORMATS_BY_TYPE.get(types[0], types[0])}",
            )
        if wanted:
            return wanted
        if self._compression == "zstd" and (not types or m.OCI_MANIFEST in types):
            return m.OCI_MANIFEST  # Docker's has no word for it
        return original.media_type if not types or original.media_type in types else types[0]

    async def _send_layers(self, image: Outgoing, original: Manifest, wanted: str) -> list[Blob]:
        """The blobs of the layers, from the base upwards; a layer that occurs twice is sent once."""
        described = original.layers if len(original.layers) == len(image.layers) else ()
        places: dict[str, int] = {}
        for number, layer in enumerate(image.layers):
            places.setdefault(layer.diff_id or layer.id, number)
        sent: dict[str, Blob] = {}
        slots = trio.CapacityLimiter(1 if self._to.streams else _AT_ONCE)

        async def one(key: str, number: int) -> None:
            async with slots:
                sent[key] = await self._send_layer(
                    image, number, described[number] if described else None, wanted
                )

        failed: list[PymanError] = []
        try:
            async with trio.open_nursery() as sending:
                for key, number in places.items():
                    sending.start_soon(one, key, number)
        except* PymanError as group:
            failed.append(first_of(group))
        if failed:
            raise failed[0]
        return [sent[layer.diff_id or layer.id] for layer in image.layers]

    async def _send_layer(self, image: Outgoing, number: int, described: Blob | None, wanted: str) -> Blob:
        layer = image.layers[number]
        for known in self._candidates(layer, described, wanted):
            blob = _described(known, described, wanted)
            if await self._to.has(blob):
                self._note(layer, "exists", known.size, known.size)
                return blob
        if not layer.diff_id or not image.tar_splits[number]:
            raise StorageFailed(
                f"cannot send the layer '{layer.id}': nothing says how its archive was made",
                subject=layer.id,
            )
        diff, tar_split = f"{image.directories[number]}/diff", image.tar_splits[number]
        if self._to.streams:
            return await self._stream(layer, diff, tar_split, wanted)
        return await self._spool(layer, diff, tar_split, wanted)

    def _candidates(self, layer: Layer, described: Blob | None, wanted: str) -> list[Known]:
        """Blobs that would do, the best first."""
        found: list[Known] = []
        if described is not None:
            found.append(Known(described.digest, described.size, compression_of(described, layer)))
        if layer.compressed_digest and layer.compressed_size > 0:
            found.append(Known(layer.compressed_digest, layer.compressed_size, layer.compressed_with))
        if layer.diff_id:
            known_ones = self._memory.known(layer.diff_id)
            found += sorted(known_ones, key=lambda known: known.compression != self._compression)
            if self._compression == "none" and layer.diff_size >= 0:
                found.append(Known(layer.diff_id, layer.diff_size, "none"))
        usable = ("gzip", "zstd", "none") if wanted == m.OCI_MANIFEST else ("gzip", "none")
        found = [known for known in found if known.compression in usable]
        if self._to.streams or self._wish.force:
            found = [known for known in found if known.compression == self._compression]
        elif self._wish.compression or self._wish.usual:
            found.sort(key=lambda known: known.compression != self._compression)
        return list({known.digest: known for known in found}.values())

    async def _stream(self, layer: Layer, diff: str, tar_split: str, wanted: str) -> Blob:
        to: Streaming = self._to  # type: ignore[assignment]  # its `streams` says so
        # Its archives call it gzip, whatever it is; readers go by what they find.
        media_type = m.DOCKER_LAYER if wanted == m.DOCKER_MANIFEST else m.OCI_LAYER
        blob = Blob(layer.diff_id, layer.diff_size, media_type)
        async with to.stream(blob) as out:
            await self._packed(layer, diff, tar_split, out, "none")
        self._note(layer, "done", layer.diff_size, layer.diff_size)
        return blob

    async def _spool(self, layer: Layer, diff: str, tar_split: str, wanted: str) -> Blob:
        compression = self._compression
        media_type = layer_type(wanted, compression)
        async with spool(self._spool_in) as fd:
            async with packing:
                packed = await self._packed(layer, diff, tar_split, fd, compression)
            blob = Blob(packed.digest, packed.size, media_type)

            def report(count: int) -> None:
                self._note(layer, "uploading", count, packed.size)

            report(0)
            await self._to.put_blob(blob, fd, report)
        self._memory.learn(layer.diff_id, Known(packed.digest, packed.size, compression))
        self._note(layer, "done", packed.size, packed.size)
        return blob

    async def _packed(
        self, layer: Layer, diff: str, tar_split: str, out: int, compression: Compression
    ) -> Packed:
        def report(count: int) -> None:
            self._note(layer, "packing", count, layer.diff_size)

        packed = await self._pack(
            diff, tar_split, out, compression=compression, level=self._level, report=report
        )
        if (packed.diff_id, packed.diff_size) != (layer.diff_id, layer.diff_size):
            raise StorageFailed(
                f"cannot send the layer '{layer.id}': its files are not what they were when it was stored",
                subject=layer.id,
                hint="something has changed them: pull or build the image anew",
            )
        return packed

    async def _send_config(self, blob: Blob, data: bytes) -> None:
        blob = msgspec.structs.replace(blob, size=len(data))
        if await self._to.has(blob):
            return
        with document(data) as fd:
            await self._to.put_blob(blob, fd, lambda _: None)

    def _note(self, layer: Layer, action: str, count: int, total: int) -> None:
        self._board.note(Progress(layer.diff_id or layer.id, action, count, total))


def _described(known: Known, described: Blob | None, wanted: str) -> Blob:
    """A known blob as a manifest of that type has it; as it stands in the image's own, if it is that one."""
    media_type = layer_type(wanted, known.compression)
    if described is not None and described.digest == known.digest:
        return Blob(known.digest, known.size, media_type, described.annotations)
    return Blob(known.digest, known.size, media_type)


@asynccontextmanager
async def closing(destination: Receiver) -> AsyncIterator[None]:
    """What was begun there is undone, unless it was finished; also while being cancelled."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_UP):
            await destination.aclose()


_CLEAN_UP = 30.0
"""Seconds."""
