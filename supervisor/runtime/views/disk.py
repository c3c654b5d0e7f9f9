"""How much room images, containers and volumes take: images as the store knows it, the others are measured in threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.api.usage import ContainerUsage, DiskUsageReply, VolumeUsage
from pyman.errors import DeadlineExceeded
from supervisor.images.usage import usage_of_images
from supervisor.kernel import files
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.views.sizes import written_by_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services
    from supervisor.runtime.volumes.entry import Entry
    from supervisor.storage.records import Image

__all__ = ["disk_usage"]

AT_ONCE = 4
"""Volumes that are measured at the same time."""


async def disk_usage(services: Services, containers: Sequence[Container]) -> DiskUsageReply:
    images = services.images

    def used(image: Image) -> bool:
        return bool(view.users(image)) or bool(images.mounting(image.id))

    view = await images.read(lambda view: view)
    told, size, reclaimable = await images.read(lambda view: usage_of_images(view, used))
    warnings: list[str] = []
    volumes: list[VolumeUsage] = []
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for entry in services.volumes.seen().values():
            nursery.start_soon(_measure, services, entry, volumes, warnings, limiter)
        written = await written_by_each(services, containers)
    return DiskUsageReply(
        images_size=size,
        images_reclaimable=reclaimable,
        images=told,
        containers=[_usage(container, written[container.id]) for container in containers],
        volumes=sorted(volumes, key=lambda volume: volume.name),
        warnings=sorted(warnings),
    )


async def _measure(
    services: Services,
    entry: Entry,
    told: list[VolumeUsage],
    warnings: list[str],
    limiter: trio.CapacityLimiter,
) -> None:
    """One that lies on a server that does not answer must not hide the others."""
    path, size = entry.definition.mountpoint, 0
    async with limiter:
        try:
            seconds = services.settings.pyman.call_deadline
            size = await look_into(path, partial(files.disk_usage, path), seconds, "the volume")
        except DeadlineExceeded as error:
            warnings.append(str(error))
    told.append(VolumeUsage(entry.name, len(services.volumes.users(entry.name)), size))


def _usage(container: Container, written: int) -> ContainerUsage:
    definition = container.definition
    return ContainerUsage(
        id=container.id,
        name=container.name,
        image=definition.image.id,
        command=[*(definition.spec.entrypoint or []), *definition.spec.command],
        volumes=len(definition.spec.volumes),
        rw_size=written,
        created=definition.created // 1_000_000_000,
        state=container.state.value,
    )
