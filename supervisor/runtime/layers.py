"""The layer that a container with an image writes into. The image store has it, with a record of the container, so that
every engine on the graph root knows that the image is used.

It is there before the container's definition is committed, and goes before the definition does. A record of this engine
that no definition names is thus what a crash has left, and goes at the next start (`Store.recover`). A definition whose record
is gone is one that another engine has removed by force: its container cannot start any more, and says so.

All of it blocks, waiting for locks that other engines hold: it is called in a thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyman.errors import StorageFailed
from supervisor.storage.rootfs import Layers, Shift

if TYPE_CHECKING:
    from supervisor.oci.imaged import ImageUse
    from supervisor.runtime.records import Definition
    from supervisor.storage.store import Store

__all__ = ["OwnLayers"]


class OwnLayers:
    """Of one engine's containers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def make(self, definition: Definition) -> str:
        """A layer above those of the container's image; its id. NoSuchImage, StorageFailed, DiskFull."""
        maps = definition.userns.maps
        record = self._store.add_container(
            definition.id,
            # Not its name: other engines have containers of the same name, and one that is renamed keeps it.
            [f"pyman-{definition.id[:12]}"],
            definition.image.id,
            image_name=definition.image.name,
            owner=Shift(maps).root if maps.uids and maps.gids else None,
            maps=maps if maps.uids else None,
        )
        return record.layer

    def of(self, definition: Definition) -> Layers:
        """The directories of its root filesystem. StorageFailed: they are not there any more."""
        try:
            found = self._store.writable(definition.id)
        except StorageFailed as error:
            raise StorageFailed(
                f"cannot use the root filesystem of container '{definition.name}':"
                f" {error.message.removeprefix('cannot ')}",
                subject=definition.name,
                hint="another engine has removed it from the image store: remove the container",
            ) from error
        empty = [f"{os.path.dirname(found.upper)}/empty"]
        return Layers(found.lower or empty, found.upper, found.work)

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
