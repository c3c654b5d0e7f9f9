"""`import`: an image of one layer, made of a tar archive of a root file system.

The archive is unpacked as it comes, also from a pipe; what it is, is known only then, and goes into the configuration.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.api.image import Progress
from pyman.names import EventStatus
from supervisor.archive.feed import Feed
from supervisor.images.events import Proof, event
from supervisor.images.formats import changes, platforms
from supervisor.images.formats.config import decode_config, stamp
from supervisor.images.formats.convert import layer_type
from supervisor.images.formats.manifests import OCI_CONFIG, OCI_MANIFEST, Manifest, encode_manifest
from supervisor.images.transfer.unpacking import unpack
from supervisor.images.transports.transport import Blob
from supervisor.storage import bigdata
from supervisor.storage.layers import layer_id

if TYPE_CHECKING:
    from pyman.api.event import Actor
    from pyman.api.image import ImportRequest
    from supervisor.archive.jobs import Unpacked
    from supervisor.images.events import Ledger
    from supervisor.images.transfer.progress import Board
    from supervisor.storage.layers import Staged
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Importing"]


class Importing:
    """One for an engine."""

    def __init__(self, store: Store, ledger: Ledger, limiter: trio.CapacityLimiter) -> None:
        self._store = store
        self._ledger = ledger
        self._limiter = limiter

    async def import_archive(
        self, request: ImportRequest, names: tuple[str, ...], fd: int, board: Board, actor: Actor | None
    ) -> Image:
        """The new image. `names`: full ones; may be none. InvalidArgument (a change), ArchiveRefused, DiskFull,
        StorageFailed; and when it is cancelled, nothing is left."""
        process = changes.apply(None, request.changes)
        staged: Staged = await self._in_thread(self._store.staging)
        try:
            unpacked = await self._unpack(staged, fd, board)
            config = _config(request, process, unpacked)
            parsed = decode_config(config)
            layer = layer_id("", unpacked.diff_id)
            await self._in_thread(self._store.commit_layer, staged, layer, "", unpacked)
            try:
                return await self._put(names, layer, config, parsed.created or "", unpacked, actor)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._in_thread(self._store.delete_layers, [layer])
                raise
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(self._store.discard, staged)
                await self._store.sweep()

    async def _in_thread(self, act: Any, *arguments: Any) -> Any:
        return await trio.to_thread.run_sync(act, *arguments, limiter=self._limiter)

    async def _unpack(self, staged: Staged, fd: int, board: Board) -> Unpacked:
        def report(count: int) -> None:
            board.note(Progress("archive", "unpacking", count))

        unpacked = await unpack(self._store, self._limiter, staged, Feed(fd), report=report)
        board.note(Progress("archive", "done", unpacked.size, unpacked.size))
        return unpacked

    async def _put(
        self,
        names: tuple[str, ...],
        layer: str,
        config: bytes,
        created: str,
        unpacked: Unpacked,
        actor: Actor | None,
    ) -> Image:
        digest = bigdata.digest_of(config)
        manifest = encode_manifest(
            Manifest(
                media_type=OCI_MANIFEST,
                config=Blob(digest, len(config), OCI_CONFIG),
                layers=(_described(unpacked),),
            )
        )
        id = digest.partition(":")[2]
        put = partial(
            self._store.put_image,
            id,
            names,
            layer,
            bigdata.of_image(manifest.data, config),
            digest=manifest.digest,
            created=created,
            metadata=bigdata.metadata_of(manifest.data),
        )
        proof = Proof(image=id, names=names, digest=manifest.digest)
        told = event(EventStatus.IMPORT, id, names[0] if names else "", actor)
        return await self._ledger.carry_out(proof, [told], put)


def _described(unpacked: Unpacked) -> Blob:
    """The layer as it came, if images may have it so."""
    if unpacked.compression in ("gzip", "zstd"):
        return Blob(unpacked.digest, unpacked.size, layer_type(OCI_MANIFEST, unpacked.compression))
    return Blob(unpacked.diff_id, unpacked.diff_size, layer_type(OCI_MANIFEST, "none"))


def _config(request: ImportRequest, process: dict[str, Any], unpacked: Unpacked) -> bytes:
    asked, here = platforms.normalized(request.platform), platforms.local()
    moment = stamp()
    step = {
        "created": moment,
        "created_by": f"/bin/sh -c #(nop) ADD file:{unpacked.digest.partition(':')[2]} in / ",
    }
    document: dict[str, Any] = {
        "created": moment,
        "architecture": asked.arch or here.arch,
        "os": asked.os or here.os,
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [unpacked.diff_id]},
        "history": [step | ({"comment": request.message} if request.message else {})],
    }
    variant = asked.variant or ("" if asked.arch else here.variant)
    if variant:
        document["variant"] = variant
    return msgspec.json.encode(document)
