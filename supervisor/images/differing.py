"""What the layers of an image change: its last one, or those that it has above another image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.image import DiffReply
from pyman.errors import InvalidArgument, NotSupported
from supervisor.archive import jobs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from supervisor.archive.jobs import Changes
    from supervisor.images.library import Images
    from supervisor.images.view import View
    from supervisor.storage.records import Layer

__all__ = ["OF_THE_ENGINE", "combined", "differ"]

OF_THE_ENGINE = frozenset(
    {
        *("/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/run"),
        *("/run/.containerenv", "/run/notify", "/run/podman-init", "/run/secrets", "/sys"),
    }
)
"""What a run leaves in any root filesystem, which is no change of the container's, nor of an image that is made of it."""


async def differ(images: Images, names: Sequence[str]) -> DiffReply:
    """What the first image changes: of the layers below its last one, or of the second image, which it is made of.
    What a run leaves there is left out, as Podman does.     NoSuchImage, InvalidArgument, NotSupported, StorageFailed."""
    if not 1 <= len(names) <= 2:
        raise InvalidArgument("cannot tell differences: give one image, or two")

    def look(view: View) -> tuple[list[Layer], int]:
        chain = view.chain(view.find(names[0]).image)
        if len(names) == 1:
            return chain, 1 if chain else 0
        other = view.find(names[1]).image.top_layer
        ids = [layer.id for layer in chain]
        if other not in ids:
            raise NotSupported(
                f"cannot tell the differences of '{names[0]}' and '{names[1]}': the first is not built upon the second",
                subject=names[1],
            )
        return chain, ids.index(other)

    chain, count = await images.read(look)
    directories = [f"{images.store.directory(layer)}/diff" for layer in chain]
    steps = [await jobs.changes(directories[at], directories[at + 1 :]) for at in range(count - 1, -1, -1)]
    found = await images.in_thread(combined, steps)
    return DiffReply(
        **{
            kind: [path for path in getattr(found, kind) if path not in OF_THE_ENGINE]
            for kind in ("changed", "added", "deleted")
        }
    )


def combined(steps: Sequence[Changes]) -> DiffReply:
    """One after the other, as a whole: what comes and goes in between is not told."""
    kinds: dict[str, str] = {}
    for step in steps:
        gone = set(step.deleted)
        there_before = [path for path in step.deleted if kinds.get(path) != "added"]
        kinds = {path: kind for path, kind in kinds.items() if not _is_in(path, gone)}
        kinds |= dict.fromkeys(there_before, "deleted")
        for path in step.added:
            kinds[path] = "changed" if kinds.get(path) == "deleted" else "added"
        for path in step.changed:
            kinds.setdefault(path, "changed")
    return DiffReply(
        **{
            name: sorted(path for path, kind in kinds.items() if kind == name)
            for name in ("changed", "added", "deleted")
        }
    )


def _is_in(path: str, gone: AbstractSet[str]) -> bool:
    """It is one of these paths, or below one."""
    while path and path not in gone:
        path = path.rpartition("/")[0]
    return bool(path)
