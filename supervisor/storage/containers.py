"""Containers in the store: a record and a layer that the container writes into, so that no engine removes the image
under it, and other engines show it as theirs that is not.

The container's own definition is elsewhere. Where its root filesystem is mounted is counted, which keeps others from
removing the layer meanwhile.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import NameInUse, StorageFailed
from supervisor.kernel import files
from supervisor.storage import layers
from supervisor.storage.records import Container, IdLine, Layer, new_id, now
from supervisor.storage.rootfs import Layers
from supervisor.storage.table import locked, tried
from supervisor.storage.writing import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from supervisor.kernel.idmaps import IdMaps, IdRange
    from supervisor.storage.table import Draft

__all__ = ["OWNER", "ContainerStore"]

OWNER = "pyman-engine"
"""The flag of a container that says which engine of pyman's has registered it."""


class ContainerStore(StoreWriter):
    """Containers."""

    @property
    def owner(self) -> str:
        """Names this engine in flags of its containers."""
        return os.path.basename(self.layout.store_own)

    def find_container(self, id: str) -> Container | None:
        """By its full id. StorageFailed."""
        return self._containers.read().by_id.get(id)

    def add_container(
        self,
        id: str,
        names: Sequence[str],
        image: str,
        *,
        image_name: str = "",
        owner: tuple[int, int] | None = None,
        maps: IdMaps | None = None,
        placed: Callable[[Layers], None] | None = None,
    ) -> Container:
        """Register a container of an image (its id; empty: none), with a layer of its own. It is there already:
        nothing is done. `image_name`: what the user called it. `owner`: uid and gid of the container's root in the
        engine's ids, where they are not those of the image. `placed` is told when a new layer's directories are there,
        which is well before all of it is on the disk. NoSuchImage, NameInUse, StorageFailed, DiskFull."""
        self.prepare()
        with (
            self._writing_layers() as draft,
            locked(self._images.lock_file, shared=True),
            self._containers.writing() as containers,
        ):
            known = containers.get(id)
            if known is not None and draft.get(known.layer) is not None:
                return known
            _refuse_taken(containers.records, id, names)
            if known is not None:
                containers.remove(id)  # another engine has removed its layer
            layer = self._add_own_layer(draft, self._top_layer(image), names, owner, placed)
            container = containers.add(
                Container(
                    id=id,
                    names=tuple(names),
                    image=image,
                    layer=layer.id,
                    metadata=_metadata(id, names, image, image_name),
                    created=now(),
                    flags={"MountLabel": "", "ProcessLabel": "", OWNER: self.owner},
                    uidmap=_lines(maps.uids) if maps else (),
                    gidmap=_lines(maps.gids) if maps else (),
                )
            )
            containers.save()
            self.ground.done("layer", layer.id)
        return container

    def _top_layer(self, image: str) -> str:
        if not image:
            return ""
        return self.image(image).top_layer

    def _add_own_layer(
        self,
        draft: Draft[Layer],
        parent: str,
        names: Sequence[str],
        owner: tuple[int, int] | None,
        placed: Callable[[Layers], None] | None,
    ) -> Layer:
        staged = self.ground.stage()
        try:
            below = [self.directory(layer) for layer in self.chain(parent)]
            layers.make_directory(f"{staged}/layer")
            try:
                layers.settle(f"{staged}/layer/diff", below)
                if owner is not None:
                    for name in ("diff", "work"):
                        os.chown(f"{staged}/layer/{name}", *owner)
            except OSError as error:
                raise files.storage_error(error, "make", f"{staged}/layer") from error
            taken = {name for record in draft.records for name in record.names}
            wanted = tuple(name for name in (f"{name}-layer" for name in names) if name not in taken)
            record = Layer(id=new_id(), names=wanted, parent=parent, created=now())

            def tell(layer: Layer) -> None:
                if placed is not None:
                    placed(self._writable(layer))

            return self._add_layer(draft, record, f"{staged}/layer", placed=tell)
        finally:
            self.ground.discard(staged)

    def writable(self, id: str) -> Layers:
        """What the root filesystem of a registered container is made of; without an image, or with one that has no
        layers, of an empty directory. StorageFailed."""
        container = self.find_container(id)
        if container is None:
            raise StorageFailed(f"cannot find the container '{id}' in the image store", subject=id)
        return self._writable(self.layer(container.layer))

    def _writable(self, layer: Layer) -> Layers:
        directory = self.directory(layer)
        lower = self.lower_dirs(layer.parent) or [f"{directory}/empty"]
        return Layers(lower, f"{directory}/diff", f"{directory}/work")

    def remove_container(self, id: str) -> bool:
        """Drop a container's record and its layer, wherever that is mounted. Its files are removed by `sweep`. False:
        it was not registered. StorageFailed, DiskFull."""
        if self.find_container(id) is None:
            return False
        self.prepare()
        with self._writing_layers() as draft, self._containers.writing() as containers:
            container = containers.get(id)
            if container is None:
                return False
            layer = draft.get(container.layer)
            if layer is not None:
                self.ground.intend("layer", layer.id)
            containers.remove(id)
            containers.save()
            self.ground.discard(f"overlay-containers/{id}")
            if layer is not None:
                self._drop(draft, [layer.id])
        return True

    def mounting(self, id: str, path: str) -> None:
        """Before a container's root filesystem is mounted there: say so to the others. It is not registered: nothing
        is done. Does not wait for an engine that unpacks a layer. StorageFailed, DiskFull."""
        container = self.find_container(id)
        if container is not None:
            with tried(self._layers.lock_file):
                self.counts.set(container.layer, path)

    def unmounted(self, id: str) -> None:
        """Undo `mounting`. StorageFailed, DiskFull."""
        container = self.find_container(id)
        if container is not None and container.layer in self.counts.read():
            with tried(self._layers.lock_file):
                self.counts.forget([container.layer])


def _refuse_taken(containers: Iterable[Container], id: str, names: Sequence[str]) -> None:
    for other in containers:
        taken = next((name for name in names if other.id != id and name in other.names), "")
        if taken:
            raise NameInUse(
                f"cannot use the name '{taken}' for a container: '{other.id[:12]}' of another engine has it",
                subject=taken,
            )


def _metadata(id: str, names: Sequence[str], image: str, image_name: str) -> str:
    """What Podman keeps there."""
    fields: dict[str, object] = {
        "image-name": image_name,
        "image-id": image,
        "name": names[0] if names else id[:12],
        "created-at": int(time.time()),
    }
    return msgspec.json.encode(fields).decode()


def _lines(ranges: Iterable[IdRange]) -> tuple[IdLine, ...]:
    return tuple(IdLine(line.inside, line.outside, line.size) for line in ranges)
