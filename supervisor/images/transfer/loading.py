"""`load`, and `pull` from places that are no registry: images of archives and directories into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import ArchiveRefused
from supervisor.images.apart import apart
from supervisor.images.formats import platforms
from supervisor.images.formats.manifests import Index, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyman.api.event import Actor
    from pyman.api.image import Platform
    from pyman.names import EventStatus
    from supervisor.images.transfer.progress import Board
    from supervisor.images.transfer.storing import Stored, Storing
    from supervisor.images.transports.opening import Candidate
    from supervisor.images.transports.transport import RawManifest, Source

__all__ = ["Loaded", "bring_all"]


class Loaded(msgspec.Struct, frozen=True):
    """`names`: for people; the id of an image that has none."""

    ids: tuple[str, ...]
    names: tuple[str, ...]


async def bring_all(
    storing: Storing,
    candidates: Sequence[Candidate],
    *,
    platform: Platform,
    board: Board,
    status: EventStatus,
    event_name: str,
    actor: Actor | None,
) -> Loaded:
    """Copy the images, one after the other; those before one that fails stay. `event_name`: empty: each one's own.

    ArchiveRefused, DigestMismatch, NotSupported, DiskFull, StorageFailed.
    """
    ids: list[str] = []
    names: list[str] = []
    for candidate in candidates:
        source = await candidate.open()
        try:
            stored = await _bring(
                storing,
                source,
                candidate.names,
                platform=platform,
                board=board,
                status=status,
                event_name=event_name,
                actor=actor,
            )
        finally:
            await source.aclose()
        ids.append(stored.id)
        names += candidate.names or [f"sha256:{stored.id}"]
    return Loaded(tuple(dict.fromkeys(ids)), tuple(dict.fromkeys(names)))


async def _bring(
    storing: Storing,
    source: Source,
    names: tuple[str, ...],
    *,
    platform: Platform,
    board: Board,
    status: EventStatus,
    event_name: str,
    actor: Actor | None,
) -> Stored:
    top, manifest = await _chosen(source, platform)
    return await storing.store_image(
        source,
        manifest,
        names=names,
        board=board,
        status=status,
        event_name=event_name or (names[0] if names else source.name),
        actor=actor,
        top=top,
    )


async def _chosen(source: Source, platform: Platform) -> tuple[RawManifest | None, RawManifest]:
    """The list, if there is one, and the manifest of the member that is wanted. A list may be in a list, once."""
    top = manifest = await source.manifest()
    for _ in range(2):
        decoded = await apart(len(manifest.data), partial(decode, manifest))
        if not isinstance(decoded, Index):
            return (None if manifest is top else top), manifest
        member = (
            decoded.members[0]
            if len(decoded.members) == 1
            else platforms.choose(decoded, platform, source.name)
        )
        manifest = await source.manifest(member.blob.digest)
    if isinstance(await apart(len(manifest.data), partial(decode, manifest)), Index):
        raise ArchiveRefused(f"cannot use '{source.name}': its lists have no end", subject=source.name)
    return top, manifest
