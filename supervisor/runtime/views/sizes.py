"""How much room a container takes: what it has written, and its root filesystem."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import NoSuchImage, StorageFailed
from supervisor.kernel import files

if TYPE_CHECKING:
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["sizes_of"]

_limiter = trio.CapacityLimiter(2)
"""Of their own: a tree that takes long, or for ever, holds up other sizes alone."""


async def sizes_of(
    services: Services, container: Container, known: dict[str, int] | None = None
) -> dict[str, int]:
    """`rwSize` and `rootFsSize` in bytes. Walks the trees in a thread; a root of `/` takes its time.

    `known`: what root filesystems take that were walked before, for the next container of the same call.
    """
    known = {} if known is None else known
    spec = container.definition.spec
    definition = container.definition
    upper = services.layout.container_upper(container.id)

    def of_image() -> dict[str, int]:
        """Like a directory, what is not there yet, or was removed by another engine, takes nothing."""
        written, key = 0, definition.image.id
        with suppress(StorageFailed):
            written = files.disk_usage(services.layers.of(definition).upper)
        if key not in known:
            known[key] = 0
            with suppress(StorageFailed, NoSuchImage):
                known[key] = services.layers.size_of(definition.image)
        return {"rwSize": written, "rootFsSize": known[key] + written}

    def walk() -> dict[str, int]:
        if definition.image.id:
            return of_image()
        written = files.disk_usage(upper) if spec.rootfs_overlay and os.path.isdir(upper) else 0
        if spec.rootfs not in known:
            known[spec.rootfs] = files.disk_usage(spec.rootfs) if os.path.isdir(spec.rootfs) else 0
        base = known[spec.rootfs]
        return {"rwSize": written, "rootFsSize": base + written}

    return await trio.to_thread.run_sync(walk, limiter=_limiter, abandon_on_cancel=True)
