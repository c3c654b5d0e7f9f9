"""What the mounts of a container name elsewhere: looked up before it is created; and who mounts an image.

Most containers have none: this module alone is imported before somebody wants one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.images.library import Images
    from supervisor.oci.imaged import ImageUse
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import View
    from supervisor.settings.model import Settings

__all__ = ["Sources", "bound", "look_up", "mounting", "wanted"]


class Sources(NamedTuple):
    """What was found."""

    containers: Sequence[tuple[str, Definition]] = ()
    """The options after each container of --volumes-from, and its definition."""
    images: Sequence[str] = ()
    """The ids of the images that are to be mounted, in their order."""


async def look_up(images: Images, view: View, spec: ContainerSpec) -> Sources:
    """NoSuchContainer, NoSuchImage, AmbiguousId."""
    if not spec.volumes_from and not spec.image_volumes:
        return Sources()
    containers = []
    for wish in spec.volumes_from:
        name, _, options = wish.partition(":")
        containers.append((options, view.find(name, "--volumes-from ").container.definition))
    return Sources(containers, [(await images.find(wish.source)).image.id for wish in spec.image_volumes])


def mounting(containers: Iterable[Container], image: str) -> list[str]:
    """The containers, by their ids, in which an image is mounted beside their own."""
    return [
        container.id
        for container in containers
        if not container.observed.leaving
        and any(each.kind == "image" and each.source == image for each in container.definition.mounted)
    ]


def bound(settings: Settings, spec: ContainerSpec) -> str:
    """A path on the host that is looked at when the container is created, and may lie on a server that does not answer;
    empty: none."""
    paths = [each.source for each in spec.mounts if each.source.startswith("/")]
    paths += [each.source for each in spec.overlay_volumes]
    return next(iter([*paths, *settings.containers.volumes, *settings.containers.mounts]), "")


def wanted(settings: Settings, spec: ContainerSpec, image: ImageUse) -> bool:
    """There is something to settle."""
    conf = settings.containers
    asked = spec.mounts or spec.volumes or spec.overlay_volumes or spec.image_volumes or spec.volumes_from
    return bool(asked or conf.volumes or conf.mounts or image.volume_mode or spec.shm_size is not None)
