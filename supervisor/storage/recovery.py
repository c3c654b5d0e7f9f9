"""What a killed supervisor has left in the store, and whether what is recorded there is what is there.

Only what is this engine's own is touched: its staging directory, what its intents name, mount counts of its
containers. What another engine is making, or has left, is told and not touched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.kernel import mounts
from supervisor.storage import bigdata, layers
from supervisor.storage.containers import OWNER, ContainerStore
from supervisor.storage.records import is_id
from supervisor.storage.table import clear_temporary, locked, temporary_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["RecoveringStore"]


class RecoveringStore(ContainerStore):
    """Recovery, and the search for what is wrong."""

    def recover(self, containers: Collection[str]) -> None:
        """Before anything else is done with the store: undo what an earlier supervisor of this engine has begun and
        not ended. `containers`: the ids of those that this engine has; its others lose their layers. The files are
        removed by `sweep`. StorageFailed, DiskFull."""
        if not os.path.isdir(self.layout.store_own):
            return
        self.prepare()
        # Looked for first: while it waits for a lock here, the new supervisor may begin something.
        staged, intents, strangers = self.ground.staged(), self.ground.intents(), self._strangers(containers)
        stale = self._stale_counts()
        for path in staged:
            self.ground.discard(path)
        self._clear_temporary()
        for id in strangers:
            self.remove_container(id)
        self._finish(intents)
        self.counts.clear()
        if stale:
            with self._writing_layers():
                self.counts.forget(set(stale).intersection(self._stale_counts()))
        if os.path.isdir(self.layout.image_mounts) and os.listdir(self.layout.image_mounts):
            with self._writing_layers():
                self._unmount_forgotten()

    def undo_transfers(self) -> None:
        """As `recover`, of a store to which this engine only brings images."""
        if not os.path.isdir(self.layout.store_own):
            return
        self.prepare()
        for path in self.ground.staged():
            self.ground.discard(path)
        self._clear_temporary()
        self._finish(self.ground.intents())

    def _clear_temporary(self) -> None:
        # Locks are taken only where there is something to do: another engine may hold them for long.
        tables = (self._layers, self._images, self._containers)
        if any(temporary_files(table.directory) for table in tables):
            with self._writing_all():
                for table in tables:
                    clear_temporary(table.directory)

    def _finish(self, intents: list[tuple[str, str]]) -> None:
        if not intents:
            return
        with self._writing_all() as (draft, images, _):
            for kind, id in intents:
                if kind == "image" and images.get(id) is None and is_id(id):
                    self.ground.discard(f"overlay-images/{id}")
                if kind == "image":
                    self.ground.done(kind, id)
                if kind == "layer" and draft.get(id) is None and is_id(id):
                    layers.discard(self.ground, id)
                    self.ground.done(kind, id)
        # Those that are recorded, and used by nothing: a pull that did not come to its image.
        self.delete_layers([id for kind, id in intents if kind == "layer"])

    def _stale_counts(self) -> list[str]:
        """Layers of containers whose root filesystems are counted and not mounted any more."""
        return [
            count.id
            for count in self.counts.read().values()
            if count.path.startswith(f"{self.layout.containers_run}/") and not mounts.mounted(count.path)
        ]

    def remove_strangers(self, known: Collection[str]) -> list[str]:
        """Take away containers that this engine has registered and does not have any more, all but `known`; which they
        were. StorageFailed, DiskFull."""
        return [id for id in self._strangers(known) if self.remove_container(id)]

    def _strangers(self, known: Collection[str]) -> list[str]:
        """Containers that this engine has registered and does not have any more."""
        return [
            container.id
            for container in self.containers()
            if container.flags.get(OWNER) == self.owner and container.id not in known
        ]

    # -- what is wrong --------------------------------------------------------------------------

    def problems(self) -> list[tuple[str, str]]:
        """What does not fit together in this store, each as what it is about and a sentence: also what is other
        engines' doing. Nothing is changed. StorageFailed."""
        return [
            *self._wrong_layers(),
            *self._wrong_images(),
            *self._wrong_containers(),
            *self._strays(),
            *self._other_drivers(),
        ]

    def _wrong_layers(self) -> Iterator[tuple[str, str]]:
        known = {layer.id for layer in self.layers()}
        for layer in self.layers():
            directory = self.directory(layer)
            if not os.path.isdir(f"{directory}/diff"):
                yield layer.id, "the layer's files are gone"
            elif not os.path.exists(f"{directory}/link"):
                yield layer.id, "the layer has no short link"
            if layer.parent and layer.parent not in known:
                yield layer.id, f"the layer lies upon '{layer.parent}', which does not exist"
            if layer.diff_id and not self.tar_split(layer):
                yield layer.id, "how the layer's archive is made again is gone: it cannot be pushed as it was"

    def _wrong_images(self) -> Iterator[tuple[str, str]]:
        known = {layer.id for layer in self.layers()}
        for image in self.images():
            if image.top_layer and image.top_layer not in known:
                yield image.id, f"the image's layer '{image.top_layer}' does not exist"
            for key in image.big_data_names:
                path = f"{image.store}/overlay-images/{image.id}/{bigdata.file_name(key)}"
                try:
                    size = os.stat(path).st_size
                except OSError:
                    yield image.id, f"the image's '{key}' is gone"
                    continue
                if size != image.big_data_sizes.get(key, size):
                    yield image.id, f"the image's '{key}' has another size than is recorded"

    def _wrong_containers(self) -> Iterator[tuple[str, str]]:
        layers_known = {layer.id for layer in self.layers()}
        images_known = {image.id for image in self.images()}
        for container in self.containers():
            if container.layer not in layers_known:
                yield container.id, f"the container's layer '{container.layer}' does not exist"
            if container.image and container.image not in images_known:
                yield container.id, f"the container's image '{container.image}' does not exist"

    def _strays(self) -> Iterator[tuple[str, str]]:
        for kind, name, table in (
            ("layer", "overlay", self._layers),
            ("image", "overlay-images", self._images),
        ):
            directory = f"{self.root}/{name}"
            found = sorted(filter(is_id, os.listdir(directory))) if os.path.isdir(directory) else []
            if set(found) - table.read().by_id.keys():
                # One that was just being made has its record when its maker lets go of the lock.
                with locked(table.lock_file, shared=True):
                    known = table.read().by_id
                for id in found:
                    if id not in known and os.path.isdir(f"{directory}/{id}"):
                        yield f"{directory}/{id}", f"it belongs to no {kind}"

    def _other_drivers(self) -> Iterator[tuple[str, str]]:
        """Podman takes another one where it cannot have overlays, and keeps to it."""
        for driver in ("vfs", "btrfs", "zfs"):
            path = f"{self.root}/{driver}-images/images.json"
            if os.path.exists(path):
                yield (
                    path,
                    f"another engine keeps images here with the storage driver '{driver}': they are not seen",
                )
