"""The layer that a container with an image writes into. The image store has it, with a record of the container, so that
every engine on the graph root knows that the image is used.

It is made while the container's definition is committed, and goes before the definition does. A record of this engine
that no definition names is thus what a crash has left, and goes at the next start (`Store.recover`). A container that has never
started has lost nothing where its record is missing, and gets it anew. One that has was removed by another engine, by
force: it cannot start any more, and says so.

All of it blocks and is called in a thread; what makes or removes a layer waits for locks that other engines hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import NoSuchImage, StorageFailed
from supervisor.runtime.answers import Answer
from supervisor.storage.rootfs import Shift

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.errors import PymanError
    from supervisor.kernel.idmaps import IdMaps
    from supervisor.oci.imaged import ImageUse
    from supervisor.runtime.records import Definition
    from supervisor.storage.rootfs import Layers
    from supervisor.storage.store import Store

__all__ = ["Layering", "OwnLayers"]


class Layering:
    """A layer that is being made."""

    def __init__(self) -> None:
        self.placed: Answer[Layers | None] = Answer()
        """Its directories, which can be mounted; none: they are found as those of any other."""
        self.recorded: Answer[None] = Answer()
        """It is on the disk, and all engines know of it."""


class OwnLayers:
    """Of one engine's containers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def make(
        self,
        id: str,
        image: str,
        image_name: str,
        maps: IdMaps,
        placed: Callable[[Layers], None] | None = None,
    ) -> None:
        """A layer for a container above those of an image (its id). `maps`: of its user namespace; `placed` is told when
        its directories are there. There already: nothing is done. NoSuchImage, StorageFailed, DiskFull."""
        self._store.add_container(
            id,
            # Not its name: other engines have containers of the same name, and one that is renamed keeps it.
            [f"pyman-{id[:12]}"],
            image,
            image_name=image_name,
            owner=Shift(maps).root if maps.uids and maps.gids else None,
            maps=maps if maps.uids else None,
            placed=placed,
        )

    def known(self, id: str) -> bool:
        """The store has the container. Waits for no lock. StorageFailed."""
        return self._store.find_container(id) is not None

    def mend(self, definition: Definition) -> None:
        """Of a container that never ran: make the layer that is missing. StorageFailed, DiskFull."""
        image = definition.image
        try:
            self.make(definition.id, image.id, image.name, definition.userns.maps)
        except NoSuchImage as error:
            raise _missed(definition, error) from error

    def of(self, definition: Definition) -> Layers:
        """The directories of its root filesystem. StorageFailed: they are not there any more."""
        try:
            return self._store.writable(definition.id)
        except StorageFailed as error:
            raise _missed(definition, error) from error

    def mounting(self, id: str, path: str) -> None:
        """Before its root filesystem is mounted there: others leave alone what is counted. StorageFailed, DiskFull."""
        self._store.mounting(id, path)

    def unmounted(self, id: str) -> None:
        """StorageFailed, DiskFull."""
        self._store.unmounted(id)

    def remove(self, id: str) -> None:
        """What the store has of a container. Nothing: nothing is done. StorageFailed."""
        self._store.remove_container(id)

    def largest_id(self, image: ImageUse) -> int:
        """The largest owner that a file of the image has. NoSuchImage, StorageFailed."""
        top = self._store.image(image.id).top_layer
        return max((id for layer in self._store.chain(top) for id in (*layer.uids, *layer.gids)), default=0)

    def size_of(self, image: ImageUse) -> int:
        """Bytes of the image's layers, as archives. NoSuchImage, StorageFailed."""
        return sum(
            max(0, layer.diff_size) for layer in self._store.chain(self._store.image(image.id).top_layer)
        )


def _missed(definition: Definition, error: PymanError) -> StorageFailed:
    return StorageFailed(
        f"cannot use the root filesystem of container '{definition.name}': {error.message.removeprefix('cannot ')}",
        subject=definition.name,
        hint="another engine has removed it from the image store: remove the container",
    )
