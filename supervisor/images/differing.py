"""What an image changes: of what lies below its last layer, or of another image, whatever the two have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.image import DiffReply
from pyman.errors import InvalidArgument
from supervisor.archive import jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.archive.jobs import Changes
    from supervisor.images.library import Images
    from supervisor.images.view import View
    from supervisor.storage.records import Layer
    from supervisor.storage.store import Store

__all__ = ["OF_THE_ENGINE", "differ"]

OF_THE_ENGINE = frozenset(
    {
        *("/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run"),
        *("/run/.containerenv", "/run/notify", "/run/podman-init", "/run/secrets", "/sys"),
    }
)
"""What a run leaves in any root filesystem, which is no change of the container's, nor of an image that is made of it."""


async def differ(images: Images, names: Sequence[str]) -> DiffReply:
    """What the first image changes: of the layers below its last one, or of the second image. What a run leaves there is
    left out. NoSuchImage, InvalidArgument, StorageFailed."""
    if not 1 <= len(names) <= 2:
        raise InvalidArgument("cannot tell differences: give one image, or two")

    def look(view: View) -> tuple[list[str], list[str]]:
        first = _layers(images.store, view.chain(view.find(names[0]).image))
        if len(names) == 1:
            return first, first[1:]
        return first, _layers(images.store, view.chain(view.find(names[1]).image))

    new, old = await images.read(look)
    # Of a last layer its own marks tell the most: a file that was written anew with what it had is changed, too.
    found = await (jobs.changes(new[0], old) if new and new[1:] == old else jobs.compare(new, old))
    return await images.in_thread(_reply, found)


def _reply(found: Changes) -> DiffReply:
    return DiffReply(
        **{
            kind: [path for path in getattr(found, kind) if path not in OF_THE_ENGINE]
            for kind in ("changed", "added", "deleted")
        }
    )


def _layers(store: Store, chain: Sequence[Layer]) -> list[str]:
    """Their files, topmost first."""
    return [f"{store.directory(layer)}/diff" for layer in chain]
