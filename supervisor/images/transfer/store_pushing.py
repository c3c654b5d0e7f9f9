"""`push` to a store: the engine's own, where it is a further name, or that of another graph root.

As in Podman a name without a registry is one of docker.io there, and the event is a push.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument
from pyman.names import EventStatus
from supervisor.images.events import Proof, event
from supervisor.images.formats.convert import FORMATS, converted
from supervisor.images.formats.manifests import decode_manifest, encode_manifest
from supervisor.images.transfer.elsewhere import check_driver, is_own
from supervisor.images.transports.folder import limiter
from supervisor.images.transports.store_source import StoreSource
from supervisor.registry import reference
from supervisor.storage import bigdata

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.api.event import Actor
    from supervisor.images.library import Images
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.sending import Outgoing
    from supervisor.images.transfer.wishes import Wish
    from supervisor.images.transports.places import Place
    from supervisor.images.transports.transport import RawManifest
    from supervisor.state.changes import EventDraft
    from supervisor.storage.records import Image

__all__ = ["push_to_store"]


async def push_to_store(
    images: Images,
    where: Place,
    image: Outgoing,
    *,
    wish: Wish,
    spool_in: str,
    board: Board,
    text: str,
    actor: Actor | None,
) -> str:
    """The digest of the manifest that is there now. `spool_in`: a directory that has room for layers; `text`: the place
    as the event tells it. InvalidArgument, NotSupported, PermissionDenied, ArchiveRefused, StorageFailed, DiskFull."""
    if wish.compression not in ("", "none") or wish.level is not None:
        raise InvalidArgument(f"cannot compress layers for '{text}': a store has their files", subject=text)
    check_driver(where)
    name, id = where.wanted
    if id and id != image.id:
        raise InvalidArgument(
            f"cannot push the image {image.id[:12]} to '{text}': its id is not {id[:12]}", subject=text
        )
    media_type = FORMATS.get(wish.format, "")
    told = event(EventStatus.PUSH, image.id, text, actor)
    if await trio.to_thread.run_sync(is_own, where, images.store.layout, limiter=limiter):
        return await _name(images, image, name, media_type, text, board, told)
    source = StoreSource(image, text, spool_in, media_type)
    manifest = await source.manifest()
    _check_digest(name, manifest, text)
    async with images.deeds.deed(told) as deed, images.elsewhere.opened(where, deed) as storing:
        await storing.store_image(
            source,
            manifest,
            names=(name,) if name else (),
            board=board,
            status=EventStatus.PUSH,
            event_name=text,
            actor=actor,
        )
    return manifest.digest


async def _name(
    images: Images, image: Outgoing, name: str, media_type: str, text: str, board: Board, told: EventDraft
) -> str:
    """A further name of an image, and a further manifest, where another format is asked for."""
    manifest = image.manifest
    original = decode_manifest(manifest)
    if media_type not in ("", original.media_type):
        manifest = encode_manifest(converted(original, media_type))
    _check_digest(name, manifest, text)
    names = (name,) if name else ()
    act: Callable[[], Image]
    if manifest is image.manifest:
        act = partial(images.store.add_names, image.id, names)
    else:
        top = image.layers[-1].id if image.layers else ""
        act = partial(
            images.store.put_image, image.id, names, top, bigdata.of_image(manifest.data, image.config)
        )
    board.say("Writing manifest to image destination")
    await images.ledger.carry_out(Proof(image=image.id, names=names, digest=manifest.digest), [told], act)
    return manifest.digest


def _check_digest(name: str, manifest: RawManifest, text: str) -> None:
    wanted = reference.parse(name).digest if name else ""
    if wanted not in ("", manifest.digest):
        raise InvalidArgument(
            f"cannot push to '{text}': the manifest that is written there is {manifest.digest}", subject=text
        )
