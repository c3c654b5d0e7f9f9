"""An image of a store of layers as a source (`containers-storage:`): of this engine's, or of another graph root.

A store has no compressed layers any more: the manifest that is told names them as they are packed, uncompressed. The
configuration, and so the image's id, stays the same.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import ArchiveRefused, NoSuchImage, NotSupported, StorageFailed
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.images.formats.convert import converted, layer_type, with_layers
from supervisor.images.formats.manifests import decode_manifest, encode_manifest
from supervisor.images.names import normalized
from supervisor.images.transfer.sending import outgoing
from supervisor.images.transports.folder import limiter, verified
from supervisor.images.transports.spooling import spool
from supervisor.images.transports.transport import Blob
from supervisor.registry import reference
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.images.transfer.sending import Outgoing
    from supervisor.images.transports.places import Place
    from supervisor.images.transports.transport import RawManifest
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.storage.records import Image

__all__ = ["StoreSource", "other_store"]

_SHORTEST_ID = 12
"""Digits of what is taken for the beginning of an id."""


class StoreSource:
    """`image`: an image that is no list."""

    def __init__(self, image: Outgoing, name: str, spool_in: str, media_type: str = "") -> None:
        """`media_type`: of the manifest that is told; empty: that of the image. NotSupported: it has what the other
        format cannot say."""
        self.name = name
        self._image = image
        self._spool_in = spool_in
        bare = msgspec.structs.replace(decode_manifest(image.manifest), layers=())
        original = converted(bare, media_type or bare.media_type)
        layers = []
        for layer, tar_split in zip(image.layers, image.tar_splits, strict=True):
            if not layer.diff_id or not tar_split:
                raise StorageFailed(
                    f"cannot read '{name}': nothing says how the archive of its layer '{layer.id}' was made",
                    subject=name,
                )
            media_type = layer_type(original.media_type, "none")
            layers.append(Blob(layer.diff_id, layer.diff_size, media_type))
        self._manifest = encode_manifest(with_layers(original, layers))
        self._config = original.config

    async def manifest(self, digest: str = "") -> RawManifest:
        if digest not in ("", self._manifest.digest):
            raise ArchiveRefused(f"cannot find the manifest {digest} in '{self.name}'", subject=self.name)
        return self._manifest

    async def blob(self, blob: Blob) -> bytes:
        return verified(self._image.config, blob.digest, self.name)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncIterator[Feed]:
        found = [number for number, layer in enumerate(self._image.layers) if layer.diff_id == blob.digest]
        if not found:
            raise ArchiveRefused(f"cannot find the layer {blob.digest} in '{self.name}'", subject=self.name)
        diff = f"{self._image.directories[found[0]]}/diff"
        async with spool(self._spool_in) as fd:
            packed = await jobs.pack(diff, self._image.tar_splits[found[0]], fd, report=report)
            yield Feed(fd, 0, packed.size)

    async def aclose(self) -> None:
        """Nothing is open between two layers."""


@asynccontextmanager
async def other_store(
    place: Place, settings: Settings, layout: Layout, spool_in: str
) -> AsyncIterator[tuple[StoreSource, str]]:
    """An image of another graph root, and the full name that it has there; empty: it is named by its id. NotSupported:
    that is no overlay store. NoSuchImage, AmbiguousId, InvalidArgument, StorageFailed."""
    if place.driver not in ("", "overlay"):
        raise NotSupported(
            f"cannot read '{place}': only stores of the driver overlay can be read", subject=str(place)
        )
    if not os.path.isdir(f"{place.graph_root}/overlay-images"):
        raise NotSupported(
            f"cannot read '{place}': '{place.graph_root}' is no store of the driver overlay",
            subject=str(place),
        )
    run_root = place.run_root or layout.run_root
    theirs = msgspec.structs.replace(layout, graph_root=place.graph_root, run_root=run_root)
    store = Store(theirs, settings, Overlays(settings, theirs))
    try:
        image, name = await trio.to_thread.run_sync(_find, store, place.name, limiter=limiter)
        read = await trio.to_thread.run_sync(partial(outgoing, store, image), limiter=limiter)
        yield StoreSource(read, str(place), spool_in), name
    finally:
        store.close()


def _find(store: Store, name: str) -> tuple[Image, str]:
    """A name without a registry is one of docker.io, as in other engines, or else one of those that are only here."""
    digits = name.removeprefix("sha256:")
    if len(digits) >= _SHORTEST_ID and not digits.strip("0123456789abcdef"):
        with suppress(NoSuchImage):
            return store.resolve(digits), ""
    for full in dict.fromkeys((str(reference.parse(name).tagged()), str(normalized(name)))):
        image = store.named(full)
        if image is not None:
            return image, full
    raise NoSuchImage(f"cannot find the image '{name}' in '{store.root}'", subject=name)
