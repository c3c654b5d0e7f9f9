"""`commit`: an image made of what a container has written, above the layers of its own image.

The container's layer is packed and unpacked again at the same time, into a new layer of the store: what it is, is known
only then, and goes into the configuration. Squashed, it is the whole root filesystem, and the only layer.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import outcome
import trio

from pyman.errors import ArchiveRefused
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.images.events import Proof
from supervisor.images.formats import changes, overriding
from supervisor.images.formats.config import decode_config, stamp
from supervisor.images.formats.convert import converted, layer_type, with_layers
from supervisor.images.formats.manifests import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from supervisor.images.transfer.unpacking import unpack
from supervisor.images.transports.transport import Blob, RawManifest
from supervisor.images.view import Documents
from supervisor.storage import bigdata
from supervisor.storage.layers import layer_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.archive.jobs import Unpacked
    from supervisor.images.events import Ledger
    from supervisor.kernel.idmaps import IdRange
    from supervisor.state.changes import EventDraft
    from supervisor.storage.layers import Staged
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Committing", "Wish"]

T = TypeVar("T")


class Wish(NamedTuple):
    base: str
    """The id of the container's image."""
    names: tuple[str, ...]
    """Full ones, that it gets and others lose; may be none."""
    container: str
    """Id."""
    author: str
    message: str
    docker: bool
    """Docker's format, instead of OCI's."""
    squash: bool
    changes: tuple[str, ...]
    """Lines as in a Containerfile."""
    override: dict[str, Any]
    """A configuration in Docker's form, which goes over `settings`; empty: none."""
    settings: dict[str, Any]
    """Of the container, which replace those of its image; None: there is none."""
    command: str
    """Of the container, in one line."""
    uids: Sequence[IdRange] = ()
    gids: Sequence[IdRange] = ()
    """The maps by which owners on the disk are told from those in the container."""


class _Base(NamedTuple):
    """The container's image, as its documents say."""

    image: Image
    document: dict[str, Any]
    manifest: Manifest


class Committing:
    def __init__(self, store: Store, ledger: Ledger, limiter: trio.CapacityLimiter) -> None:
        self._store = store
        self._ledger = ledger
        self._limiter = limiter

    async def commit(
        self, wish: Wish, root: str, lowers: Sequence[str], event: EventDraft, *, exclude: Sequence[str] = ()
    ) -> Image:
        """The new image, told by `event`. `root`: the container's layer above `lowers`, or squashed, its whole root
        filesystem. `exclude`: paths in it that are left out. NoSuchImage, InvalidArgument (a change), ArchiveRefused, DiskFull, StorageFailed; and when it is
        cancelled, nothing is left."""
        base = await self._in_thread(self._base, wish.base)
        process = _process(base, wish)
        staged: Staged = await self._in_thread(self._store.staging)
        try:
            layer = await self._fill(wish, root, lowers, staged, exclude)
            config = _config(base, wish, process, layer)
            decode_config(config)
            parent = "" if wish.squash else base.image.top_layer
            id = layer_id(parent, layer.diff_id)
            await self._in_thread(self._store.commit_layer, staged, id, parent, layer)
            try:
                return await self._put(base, wish, id, config, layer, event)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._in_thread(self._store.delete_layers, [id])
                raise
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(self._store.discard, staged)
                await self._store.sweep()

    async def _in_thread(self, act: Callable[..., T], *arguments: Any) -> T:
        return await trio.to_thread.run_sync(act, *arguments, limiter=self._limiter)

    def _base(self, id: str) -> _Base:
        image, documents = self._store.image(id), Documents(self._store)
        document = msgspec.json.decode(documents.raw(image, documents.config_key(image)), type=dict[str, Any])
        manifest = decode_manifest(RawManifest(documents.raw(image, bigdata.MANIFEST), ""))
        return _Base(image, document, manifest)

    async def _fill(
        self, wish: Wish, root: str, lowers: Sequence[str], staged: Staged, exclude: Sequence[str]
    ) -> Unpacked:
        """Pack and unpack at once, through a pipe."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        packed: outcome.Maybe[Any] = outcome.Value(None)

        async def pack() -> None:
            nonlocal packed
            tree = partial(
                jobs.pack_tree,
                root,
                writer,
                layer=not wish.squash,
                lowers=() if wish.squash else lowers,
                uids=wish.uids,
                gids=wish.gids,
                exclude=exclude,
            )
            try:
                packed = await outcome.acapture(tree)
            finally:
                os.close(writer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pack)
            try:
                unpacked = await outcome.acapture(unpack, self._store, self._limiter, staged, Feed(reader))
            finally:
                os.close(reader)  # or the packer would wait for ever for somebody to read on
        if isinstance(unpacked, outcome.Value) or isinstance(unpacked.error, ArchiveRefused):
            packed.unwrap()  # what it has not written was missed by the other one
        return unpacked.unwrap()

    async def _put(
        self, base: _Base, wish: Wish, layer: str, config: bytes, made: Unpacked, event: EventDraft
    ) -> Image:
        digest = bigdata.digest_of(config)
        manifest = encode_manifest(_manifest(base, wish, Blob(digest, len(config)), made))
        id = digest.partition(":")[2]
        put = partial(
            self._store.put_image,
            id,
            wish.names,
            layer,
            bigdata.of_image(manifest.data, config),
            digest=manifest.digest,
            metadata=bigdata.metadata_of(manifest.data),
        )
        proof = Proof(image=id, names=wish.names, digest=manifest.digest)
        return await self._ledger.carry_out(proof, [event], put)


def _process(base: _Base, wish: Wish) -> dict[str, Any]:
    """The part `config` of the configuration."""
    found = {**(base.document.get("config") or {}), **wish.settings}
    if not wish.docker:
        found.pop("Healthcheck", None)  # which OCI's format does not know
    found = {key: value for key, value in found.items() if value is not None}
    if wish.override:
        found = overriding.merged(found, wish.override, docker=wish.docker)
    return changes.apply(found, wish.changes)


_DROPPED = (
    "id",
    "parent",
    "parent_id",
    "container",
    "container_config",
    "docker_version",
    "comment",
    "author",
)
"""Of Docker's, what is about the image before."""


def _config(base: _Base, wish: Wish, process: dict[str, Any], made: Unpacked) -> bytes:
    document = {key: value for key, value in base.document.items() if key not in _DROPPED}
    former = (document.get("rootfs") or {}).get("diff_ids") or []
    moment = stamp()
    step = {"created": moment, "created_by": wish.command}
    step.update({key: value for key, value in (("author", wish.author), ("comment", wish.message)) if value})
    document.update(
        created=moment,
        config=process,
        rootfs={"type": "layers", "diff_ids": [*([] if wish.squash else former), made.diff_id]},
        history=[*([] if wish.squash else document.get("history") or []), step],
    )
    if wish.author:
        document["author"] = wish.author
    if wish.docker:
        document["container"] = wish.container
        if wish.message:
            document["comment"] = wish.message
    return msgspec.json.encode(document)


def _manifest(base: _Base, wish: Wish, config: Blob, made: Unpacked) -> Manifest:
    kind = DOCKER_MANIFEST if wish.docker else OCI_MANIFEST
    config = msgspec.structs.replace(config, media_type=DOCKER_CONFIG if wish.docker else OCI_CONFIG)
    own = Blob(made.diff_id, made.diff_size, layer_type(kind, "none"))
    if wish.squash:
        return Manifest(media_type=kind, config=config, layers=(own,))
    below = converted(base.manifest, kind)
    return with_layers(msgspec.structs.replace(below, annotations={}), [*below.layers, own], config)
