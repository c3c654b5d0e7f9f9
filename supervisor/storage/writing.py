"""How layers and images get into the store of a graph root, and out of it.

Every change is complete before a lock is let go. An intent is written before a name appears in the store, and before a
record is removed whose directory stays for an instant: what a killed supervisor leaves behind can be told from what
another engine is making.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ImageInUse, NoSuchImage, StorageFailed
from supervisor.kernel import files
from supervisor.storage import bigdata, layers
from supervisor.storage.counts import Counts
from supervisor.storage.ground import Ground
from supervisor.storage.layers import Staged
from supervisor.storage.reading import StoreReader
from supervisor.storage.records import COMPRESSIONS, Image, Layer, new_id, now
from supervisor.storage.table import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.storage.layers import Facts
    from supervisor.storage.overlay import Overlays
    from supervisor.storage.records import Container
    from supervisor.storage.table import Draft

__all__ = ["RemovedImage", "StoreWriter"]


class RemovedImage(msgspec.Struct, frozen=True):
    image: Image
    layers: list[Layer]
    """Those that went with it, topmost first; their files are removed by `sweep`."""


class StoreWriter(StoreReader):
    """Layers and images."""

    def __init__(self, layout: Layout, settings: Settings, overlays: Overlays) -> None:
        super().__init__(layout, settings, overlays)
        self.ground = Ground(layout)
        self.counts = Counts(layout)

    def prepare(self) -> None:
        """Before the store is changed. NotSupported (as `check_driver`), StorageFailed."""
        self.check_driver()
        self.ground.prepare()

    def close(self) -> None:
        self.ground.close()

    # -- layers ---------------------------------------------------------------------------------

    def staging(self) -> Staged:
        """A place for a layer that is to be made. StorageFailed, DiskFull, NotSupported (as `check_driver`)."""
        self.prepare()
        staged = Staged(self.ground.stage())
        try:
            layers.make_directory(staged.layer)
        except OSError as error:
            raise files.storage_error(error, "make", staged.layer) from error
        return staged

    def discard(self, staged: Staged) -> None:
        """Give up a staged layer; committed already: nothing is done. Its files are removed by `sweep`.
        StorageFailed."""
        self.ground.discard(staged.path)

    def commit_layer(
        self,
        staged: Staged,
        id: str,
        parent: str,
        facts: Facts,
    ) -> Layer:
        """Have a staged layer be one of the store: `id` is that of `layers.layer_id`, `parent` an id or empty.
        Another engine, or thread, was faster: theirs is returned. Until an image uses it, or `delete_layers` was told,
        it is removed if the supervisor is killed. StorageFailed, DiskFull, NotSupported."""
        record = Layer(
            id=id,
            parent=parent,
            created=now(),
            compressed_digest=facts.digest,
            compressed_size=facts.size,
            diff_id=facts.diff_id,
            diff_size=facts.diff_size,
            compression=COMPRESSIONS.index(facts.compression),
            uids=tuple(sorted(facts.uids)),
            gids=tuple(sorted(facts.gids)),
        )
        self.prepare()
        if self._options.sync:
            files.sync_file_system(staged.path)
        with self._writing_layers() as draft:
            layer = self.find_layer(id)
            if layer is None:
                if draft.get(id) is not None:
                    draft.remove(id)  # its files were gone
                layer = self._add_layer(draft, record, staged.layer, staged.tar_split)
        self.ground.discard(staged.path)
        return layer

    def _add_layer(
        self,
        draft: Draft[Layer],
        record: Layer,
        staged: str,
        tar_split: str = "",
        placed: Callable[[Layer], None] | None = None,
    ) -> Layer:
        """`placed` is told when the directories are there, before the record is on the disk."""
        below = [self.directory(layer) for layer in self.chain(record.parent)]
        self.ground.intend("layer", record.id)
        layers.place(self.ground, staged, tar_split, record.id, below)
        layer = draft.add(record)
        if placed is not None:
            placed(layer)
        draft.save()
        return layer

    @contextmanager
    def _writing_layers(self) -> Iterator[Draft[Layer]]:
        """Whoever has the lock finds what a crash has left incomplete, and removes it."""
        with self._layers.writing() as draft:
            left = [record.id for record in draft.records if record.incomplete]
            if left:
                self._drop(draft, left)
            yield draft

    def _drop(self, draft: Draft[Layer], ids: Sequence[str]) -> None:
        """Remove layers, wherever they are mounted. The records go first, and nobody uses a directory that has none."""
        for id in ids:
            self.ground.intend("layer", id)
            draft.remove(id)
        draft.save()
        for path in self.counts.forget(ids):
            self._unmount(path)
        self._unmount_forgotten()
        for id in ids:
            layers.discard(self.ground, id)
            self.ground.done("layer", id)

    def _unmount(self, path: str) -> None:
        try:
            self.overlays.unmount(path)
            if path.startswith(f"{self.layout.image_mounts}/"):
                for directory in (path, os.path.dirname(path)):
                    with suppress(OSError):
                        os.rmdir(directory)
        except OSError as error:
            raise files.storage_error(error, "unmount", path) from error

    def _unmount_forgotten(self) -> None:
        """Images that are mounted and not counted: another engine has unmounted them, which it can only where it mounts
        them itself."""
        counted = {count.path for count in self.counts.read().values()}
        try:
            mounted = [
                f"{self.layout.image_mounts}/{id}/merged" for id in os.listdir(self.layout.image_mounts)
            ]
        except FileNotFoundError:
            return
        for path in mounted:
            if path not in counted:
                self._unmount(path)

    def delete_layers(self, ids: Iterable[str]) -> list[Layer]:
        """Remove those of these layers that nothing uses, and say which: what a failed pull has brought so far.
        StorageFailed, DiskFull."""
        self.prepare()
        with self._writing_all() as (draft, images, containers):
            used = _used_layers(draft.records, images.records, containers.records)
            gone: list[Layer] = []
            waiting = {id: record for id in ids if (record := draft.get(id)) is not None}
            while free := [record for record in waiting.values() if not used.get(record.id)]:
                for record in free:
                    del waiting[record.id]
                    used[record.parent] = used.get(record.parent, 1) - 1
                    gone.append(record)
            self._drop(draft, [record.id for record in gone])
            for id in waiting:
                self.ground.done("layer", id)
        return gone

    @contextmanager
    def _writing_all(self) -> Iterator[tuple[Draft[Layer], Draft[Image], Draft[Container]]]:
        with ExitStack() as stack:
            yield (
                stack.enter_context(self._writing_layers()),
                stack.enter_context(self._images.writing()),
                stack.enter_context(self._containers.writing()),
            )

    # -- images ---------------------------------------------------------------------------------

    def put_image(
        self,
        id: str,
        names: Sequence[str],
        top_layer: str,
        data: Mapping[str, bytes],
        *,
        digest: str = "",
        created: str = "",
        metadata: str = "",
        history: Sequence[str] = (),
    ) -> Image:
        """Make an image, or give an image of that id further names and data. `id`: an empty one makes one up; `data`:
        see `bigdata.of_image`; `created`: RFC 3339. Names that other images have are taken from them. StorageFailed,
        DiskFull."""
        self.prepare()
        id = id or new_id()
        new = Image(
            id=id,
            digest=digest,
            names_history=tuple(history),
            top_layer=top_layer,
            metadata=metadata,
            created=created or now(),
        )
        with locked(self._layers.lock_file, shared=True), self._images.writing() as draft:
            if top_layer and self.find_layer(top_layer) is None:
                raise StorageFailed(
                    f"cannot store the image '{id}': its layer '{top_layer}' is gone",
                    subject=id,
                    hint="something has removed it meanwhile: try again",
                )
            known = draft.get(id) or self._raise(draft, id)
            if known is not None and top_layer and self.find_layer(known.top_layer) is None:
                known = draft.change(id, top_layer=top_layer)
            image = self._add_data(draft, known or draft.add(new), data, metadata)
            image = _rename(draft, id, [*image.names, *names])
            draft.save()
            self.ground.done("image", id)
        for layer in self.chain(image.top_layer):
            self.ground.done("layer", layer.id)
        return image

    def _add_data(
        self, draft: Draft[Image], image: Image, data: Mapping[str, bytes], metadata: str = ""
    ) -> Image:
        """Data of an image that has its record already, or gets it afterwards."""
        place = self.ground.stage()
        try:
            bigdata.write_all(place, data)
            if image.big_data_names:
                for key in data:
                    name = bigdata.file_name(key)
                    self.ground.move(f"{place}/{name}", f"overlay-images/{image.id}/{name}")
            else:
                self.ground.intend("image", image.id)
                self.ground.discard(f"overlay-images/{image.id}")
                self.ground.move(place, f"overlay-images/{image.id}")
        finally:
            self.ground.discard(place)
        sizes = {key: len(value) for key, value in data.items()}
        digests = {key: bigdata.digest_of(value) for key, value in data.items()}
        return draft.change(
            image.id,
            big_data_names=tuple(dict.fromkeys((*image.big_data_names, *data))),
            big_data_sizes=image.big_data_sizes | sizes,
            big_data_digests=image.big_data_digests | digests,
            metadata=metadata or image.metadata,
        )

    def _raise(self, draft: Draft[Image], id: str) -> Image | None:
        """An image of an additional store, as one of this store: so that its names can be others."""
        for table in self._additional_images:
            image = table.read().by_id.get(id)
            if image is not None:
                data = {key: self.big_data(image, key) for key in image.big_data_names}
                bare: dict[str, Any] = {
                    "names": (),
                    "big_data_names": (),
                    "big_data_sizes": {},
                    "big_data_digests": {},
                }
                here = draft.add(msgspec.structs.replace(image, read_only=False, **bare))
                return _rename(draft, self._add_data(draft, here, data).id, image.names)
        return None

    def add_names(self, id: str, names: Sequence[str]) -> Image:
        """Names that others have are taken from them. An image of an additional store becomes one of this store, too.
        NoSuchImage, StorageFailed, DiskFull."""
        return self._change_image(id, lambda draft, image: _rename(draft, id, (*image.names, *names)))

    def remove_names(self, id: str, names: Collection[str]) -> Image:
        """As `add_names`."""

        def change(draft: Draft[Image], image: Image) -> Image:
            return _rename(draft, id, [name for name in image.names if name not in names])

        return self._change_image(id, change)

    def set_big_data(self, id: str, data: Mapping[str, bytes], *, digest: str = "") -> Image:
        """Replace data of an image, as that of a manifest list that has grown; `digest`: of its manifest then.
        NoSuchImage, StorageFailed, DiskFull."""

        def change(draft: Draft[Image], image: Image) -> Image:
            image = self._add_data(draft, image, data)
            return draft.change(id, digest=digest) if digest else image

        return self._change_image(id, change)

    def _change_image(self, id: str, change: Callable[[Draft[Image], Image], Image]) -> Image:
        self.prepare()
        with self._images.writing() as draft:
            image = draft.get(id) or self._raise(draft, id)
            if image is None:
                raise NoSuchImage(f"cannot find the image '{id}'", subject=id)
            image = change(draft, image)
            draft.save()
            self.ground.done("image", id)
        return image

    def delete_image(self, id: str) -> RemovedImage:
        """Remove an image and the layers that nothing else uses, also where they are mounted. NoSuchImage, ImageInUse
        (a container of any engine uses it, or it is in an additional store), StorageFailed, DiskFull."""
        self.prepare()
        with self._writing_all() as (draft, images, containers):
            image = images.get(id)
            if image is None:
                image = self.image(id)
                raise ImageInUse(
                    f"cannot remove the image '{id}': it is in '{image.store}', which is only read",
                    subject=id,
                )
            users = [container for container in containers.records if container.image == id]
            if users:
                listed = ", ".join((*user.names, user.id)[0] for user in users)
                raise ImageInUse(f"cannot remove the image '{id}': it is used by {listed}", subject=id)
            gone = _layers_of(image, draft, images, containers)
            self.ground.intend("image", id)
            for layer in gone:
                self.ground.intend("layer", layer.id)
            images.remove(id)
            images.save()
            self.ground.discard(f"overlay-images/{id}")
            self.ground.done("image", id)
            self._drop(draft, [layer.id for layer in gone])
        return RemovedImage(image, gone)

    async def sweep(self) -> None:
        """Remove the files of what was removed, by whom it may be called as often as he likes. StorageFailed."""
        for path in self.ground.trash():
            await files.remove_tree(path)


def _rename(draft: Draft[Image], id: str, names: Sequence[str]) -> Image:
    image = draft.get(id)
    assert image is not None  # noqa: S101 - seen by the callers, under the lock
    wanted = tuple(dict.fromkeys(names))
    if wanted == image.names:
        return image
    for other in draft.records:
        rest = tuple(name for name in other.names if name not in wanted)
        if other.id != id and rest != other.names:
            draft.change(other.id, names=rest)
    history = tuple(dict.fromkeys((*reversed(wanted), *image.names_history)))
    return draft.change(id, names=wanted, names_history=history)


def _used_layers(
    records: Iterable[Layer], images: Iterable[Image], containers: Iterable[Container]
) -> dict[str, int]:
    """How often layers are used: by those upon them, by images, by containers."""
    used: dict[str, int] = {}
    users = [record.parent for record in records]
    for image in images:
        users += [image.top_layer, *image.mapped_layers]
    users += [container.layer for container in containers]
    for id in users:
        used[id] = used.get(id, 0) + 1
    return used


def _layers_of(
    image: Image, draft: Draft[Layer], images: Draft[Image], containers: Draft[Container]
) -> list[Layer]:
    """The layers that go with an image, in the order of their removal: the copies of its top layer, then from the top
    downwards as far as nothing else uses them."""
    others = [other for other in images.records if other.id != image.id]
    used = _used_layers(draft.records, others, containers.records)
    gone = [layer for id in image.mapped_layers if (layer := draft.get(id)) is not None and not used.get(id)]
    for layer in gone:
        used[layer.parent] -= 1
    id = image.top_layer
    while (layer := draft.get(id)) is not None and not used.get(id):
        gone.append(layer)
        id = layer.parent
        used[id] = used.get(id, 1) - 1
    return gone
