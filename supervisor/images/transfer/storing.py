"""The copy of an image into the store: the layers, several at once, from the base upwards, then its record.

Pull, load and import all end here. A layer that the store has is not read again. The others are unpacked beside the
store, by programs that verify them, and become layers in the order of their parents; the image's record is the last
step. What fails or is cancelled leaves at most layers that are complete, which the next attempt finds, and never an
image that lacks something.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from pyman.errors import ArchiveRefused, DigestMismatch, NotSupported
from supervisor.images.apart import apart
from supervisor.images.events import Proof, event
from supervisor.images.formats.config import ImageConfig, decode_config, parse_time
from supervisor.images.formats.manifests import decode_manifest
from supervisor.images.transfer.layers import Wanted
from supervisor.storage import bigdata
from supervisor.storage.layers import DEPTH, layer_id
from supervisor.storage.records import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.api.event import Actor
    from pyman.names import EventStatus
    from supervisor.images.formats.manifests import Manifest
    from supervisor.images.transfer.layers import Layers
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transports.transport import RawManifest, Source
    from supervisor.state.changes import EventDraft
    from supervisor.storage.store import Store

__all__ = ["Recorder", "Stored", "Storing"]

T = TypeVar("T")


class Stored(msgspec.Struct, frozen=True):
    """An image that is in the store now."""

    image: Image
    config: ImageConfig

    @property
    def id(self) -> str:
        return self.image.id


class Recorder(Protocol):
    """As `events.Ledger`."""

    async def carry_out(self, proof: Proof, events: Sequence[EventDraft], act: Callable[[], T], /) -> T: ...


class Storing:
    """One for a store."""

    def __init__(self, store: Store, ledger: Recorder, layers: Layers) -> None:
        self._store = store
        self._ledger = ledger
        self._layers = layers

    async def store_image(
        self,
        source: Source,
        manifest: RawManifest,
        *,
        names: Sequence[str],
        board: Board,
        status: EventStatus,
        event_name: str,
        actor: Actor | None,
        top: RawManifest | None = None,
    ) -> Stored:
        """Copy one image. `names`: full names that it gets, and that others lose; may be none. `top`: the list that
        names the manifest, which is kept with it. `status`, `event_name`: the event that tells it.

        Errors of the source; ArchiveRefused, DigestMismatch, NotSupported, DiskFull, StorageFailed. Whoever calls it may
        be cancelled: then it has not happened.
        """
        parsed = await apart(len(manifest.data), lambda: decode_manifest(manifest))
        board.say("Getting image source signatures")
        raw_config = await source.blob(parsed.config)
        config = await apart(len(raw_config), lambda: _verified(raw_config, parsed, source.name))
        wanted = _wanted(parsed, config, source.name)
        async with self._layers.lease(wanted, source, board) as works:
            for work in works:
                await work.result()
            board.say(f"Copying config {parsed.config.digest}")
            board.say("Writing manifest to image destination")
            id = parsed.config.digest.partition(":")[2]
            put = partial(
                self._store.put_image,
                id,
                tuple(names),
                wanted[-1].id if wanted else "",
                bigdata.of_image(manifest.data, raw_config, listed=None if top is None else top.data),
                digest=manifest.digest,
                created=_created(config),
                metadata=bigdata.metadata_of(manifest.data),
            )
            proof = Proof(image=id, names=tuple(names), digest=manifest.digest)
            image = await self._ledger.carry_out(proof, [event(status, id, event_name, actor)], put)
        return Stored(image, config)


def _verified(raw: bytes, manifest: Manifest, name: str) -> ImageConfig:
    if bigdata.digest_of(raw) != manifest.config.digest:
        raise DigestMismatch(
            f"cannot take the image '{name}': its configuration is not {manifest.config.digest}", subject=name
        )
    return decode_config(raw, name)


def _created(config: ImageConfig) -> str:
    return config.created if config.created and parse_time(config.created) is not None else ""


def _wanted(manifest: Manifest, config: ImageConfig, name: str) -> list[Wanted]:
    """The layers by what the configuration, which is verified, says of them."""
    if len(manifest.layers) != len(config.diff_ids):
        if not config.diff_ids and manifest.is_oci:
            kind = manifest.artifact_type or manifest.config.media_type
            raise NotSupported(f"cannot take '{name}': it is no image but '{kind[:80]}'", subject=name)
        raise ArchiveRefused(
            f"cannot take the image '{name}': its manifest has {len(manifest.layers)} layers, its configuration "
            f"{len(config.diff_ids)}",
            subject=name,
        )
    if len(manifest.layers) > DEPTH:
        raise NotSupported(
            f"cannot take the image '{name}': it has {len(manifest.layers)} layers, and {DEPTH} can be mounted",
            subject=name,
        )
    found: list[Wanted] = []
    parent = ""
    for blob, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        id = layer_id(parent, diff_id)
        found.append(Wanted(id=id, parent=parent, diff_id=diff_id, blob=blob))
        parent = id
    return found
