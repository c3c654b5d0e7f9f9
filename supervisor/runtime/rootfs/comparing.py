"""What one container or image changes of another, whatever the two have in common."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from pyman.api.rootfs import ChangesReply
from pyman.errors import NoSuchContainer, NoSuchImage, NotFound
from supervisor.archive import jobs
from supervisor.images.differing import OF_THE_ENGINE, differ
from supervisor.kernel.idmaps import IdMaps
from supervisor.runtime.rootfs.committing import changes, disk_maps, layers_of, unseen_in

if TYPE_CHECKING:
    from supervisor.images.view import View as Images
    from supervisor.runtime.records import Definition
    from supervisor.runtime.registry import View
    from supervisor.runtime.services import Services

__all__ = ["compare"]


class _Tree(NamedTuple):
    layers: list[str]
    """The topmost first."""
    unseen: set[str]
    maps: IdMaps
    """Of the topmost layer's owners."""
    container: Definition | None


async def compare(services: Services, view: View, name: str, of: str) -> ChangesReply:
    """What the first changes of the second. A container goes before an image of the same name. NotFound, NotSupported,
    StorageFailed."""
    new = await _tree(services, view, name)
    old = await _tree(services, view, of)
    if new.container is not None and new.layers[1:] == old.layers:
        # Of its own image, its layer tells more: a file that was written anew with what it had is changed, too.
        return await changes(services, new.container)
    if new.container is None and old.container is None:
        told = await differ(services.images, [name, of])
        return ChangesReply(told.changed, told.added, told.deleted)
    unseen = OF_THE_ENGINE | new.unseen | old.unseen
    shifted = {tree.layers[0]: tree.maps for tree in (new, old) if tree.maps.uids}
    found = await jobs.compare(new.layers, old.layers, sorted(unseen), shifted)
    return ChangesReply(found.changed, found.added, found.deleted)


async def _tree(services: Services, view: View, name: str) -> _Tree:
    try:
        definition = view.find(name).container.definition
    except NoSuchContainer:
        return await _of_image(services, name)

    def look() -> _Tree:
        layers = layers_of(services, definition)
        maps = disk_maps(services, definition)
        return _Tree([layers.upper, *layers.lower], unseen_in(services, definition), maps, definition)

    return await trio.to_thread.run_sync(look, limiter=services.disk)


async def _of_image(services: Services, name: str) -> _Tree:
    try:
        layers = await services.images.read(partial(_layers, services, name))
    except NoSuchImage as error:
        if error.subject not in ("", name):
            raise
        raise NotFound(
            f"cannot find '{name}': neither a container nor an image has that name or id", subject=name
        ) from error
    return _Tree(layers, set(), IdMaps(), None)


def _layers(services: Services, name: str, images: Images) -> list[str]:
    store = services.images.store
    return [f"{store.directory(layer)}/diff" for layer in images.chain(images.find(name).image)]
