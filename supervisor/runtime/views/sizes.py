"""How much room a container takes: what it has written, and its root filesystem."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import NoSuchImage, StorageFailed
from supervisor.kernel import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["sizes_of", "written_by", "written_by_each"]

_limiter = trio.CapacityLimiter(2)
"""Of their own: a tree that takes long, or for ever, holds up other sizes alone."""


async def sizes_of(
    services: Services, container: Container, known: dict[str, int] | None = None
) -> dict[str, int]:
    """`rwSize` and `rootFsSize` in bytes. Walks the trees in a thread; a root of `/` takes its time.

    `known`: what root filesystems take that were walked before, for the next container of the same call.
    """
    known = {} if known is None else known
    spec, image = container.definition.spec, container.definition.image
    key = image.id or spec.rootfs

    def walk() -> dict[str, int]:
        written = written_by(services, container)
        if key not in known:
            known[key] = 0
            if image.id:
                with suppress(StorageFailed, NoSuchImage):
                    known[key] = services.layers.size_of(image)
            elif os.path.isdir(spec.rootfs):
                known[key] = files.disk_usage(spec.rootfs)
        return {"rwSize": written, "rootFsSize": known[key] + written}

    return await trio.to_thread.run_sync(walk, limiter=_limiter, abandon_on_cancel=True)


def written_by(services: Services, container: Container) -> int:
    """Bytes in its writable layer. What is not there yet, or was removed by another engine, takes nothing.

    Walks the tree: to be called in a thread.
    """
    definition = container.definition
    if definition.image.id:
        with suppress(StorageFailed):
            return files.disk_usage(services.layers.of(definition).upper)
        return 0
    upper = services.layout.container_upper(container.id)
    return files.disk_usage(upper) if definition.spec.rootfs_overlay and os.path.isdir(upper) else 0


async def written_by_each(services: Services, containers: Sequence[Container]) -> dict[str, int]:
    """The same of several, by their ids."""

    def walk() -> dict[str, int]:
        return {container.id: written_by(services, container) for container in containers}

    return await trio.to_thread.run_sync(walk, limiter=_limiter, abandon_on_cancel=True)
