"""The image store of a graph root, shared with Podman, Buildah and Skopeo: what is in it, and how it changes.

What a caller gets are records as they were at one instant; another engine may change them at the next. Locks are
taken in the order that containers/storage has: layers, images, containers, mount counts. Everything here blocks,
perhaps for as long as another engine unpacks a layer, and is called in a thread; reading never waits for a lock.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import AmbiguousId, ImageInUse, NoSuchImage, StorageFailed
from supervisor.kernel import files
from supervisor.storage import bigdata, layers
from supervisor.storage.ground import Ground
from supervisor.storage.layers import Staged
from supervisor.storage.records import COMPRESSIONS, Container, Image, Layer, new_id, now
from supervisor.storage.table import Table, locked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.storage.layers import Facts
    from supervisor.storage.overlay import Overlays
    from supervisor.storage.table import Draft

__all__ = ["RemovedImage", "Store"]


class RemovedImage(msgspec.Struct, frozen=True):
    image: Image
    layers: list[Layer]
    """Those that went with it, topmost first; their files are removed by `sweep`."""


class Store:
    """One for an engine. Its methods may be called in several threads at once."""

    def __init__(self, layout: Layout, settings: Settings, overlays: Overlays) -> None:
        self.root = layout.graph_root
        self.layout = layout
        self.overlays = overlays
        self.settings = settings
        self.ground = Ground(layout)
        self._layers = Table(Layer, self.root, "layers")
        self._images = Table(Image, self.root, "images", volatile=False)
        self._containers = Table(Container, self.root, "containers")
        self._additional_layers: list[Table[Layer]] = []
        self._additional_images: list[Table[Image]] = []

    def close(self) -> None:
        self.ground.close()

    # -- reading --------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """Every image, this store's own first. StorageFailed."""
        found = {image.id: image for image in self._images.read().records}
        for table in self._additional_images:
            for image in table.read().records:
                found.setdefault(image.id, image)
        return list(found.values())

    def image(self, id: str) -> Image:
        """By its full id. NoSuchImage, StorageFailed."""
        for table in (self._images, *self._additional_images):
            image = table.read().by_id.get(id)
            if image is not None:
                return image
        raise NoSuchImage(f"cannot find the image '{id}'", subject=id)

    def named(self, name: str) -> Image | None:
        """The image that has exactly this name, as `registry.example/app:1`. StorageFailed."""
        for table in (self._images, *self._additional_images):
            image = table.read().by_name.get(name)
            if image is not None:
                return image
        return None

    def resolve(self, name_or_id: str) -> Image:
        """By its id, an exact name, or the beginning of its id that only one has. NoSuchImage, AmbiguousId,
        StorageFailed."""
        for table in (self._images, *self._additional_images):
            snapshot = table.read()
            image = snapshot.by_id.get(name_or_id) or snapshot.by_name.get(name_or_id)
            if image is not None:
                return image
        found = [image for image in self.images() if image.id.startswith(name_or_id)] if name_or_id else []
        if len(found) > 1:
            raise AmbiguousId(
                f"cannot tell which image '{name_or_id}' is: it fits {len(found)}", subject=name_or_id
            )
        if not found:
            raise NoSuchImage(f"cannot find the image '{name_or_id}'", subject=name_or_id)
        return found[0]

    def images_with(self, *, digest: str) -> list[Image]:
        """Those with a manifest of this digest. StorageFailed."""
        return [image for image in self.images() if digest in image.digests]

    def layers(self) -> list[Layer]:
        """Every layer that is complete. StorageFailed."""
        found = {layer.id: layer for layer in self._layers.read().records if not layer.incomplete}
        for table in self._additional_layers:
            for layer in table.read().records:
                if not layer.incomplete:
                    found.setdefault(layer.id, layer)
        return list(found.values())

    def find_layer(self, id: str) -> Layer | None:
        """By its full id. None: there is none, or it is not complete. StorageFailed."""
        for table in (self._layers, *self._additional_layers):
            layer = table.read().by_id.get(id)
            if layer is not None and not layer.incomplete:
                return layer
        return None

    def layer(self, id: str) -> Layer:
        """By its full id. StorageFailed: also if there is none."""
        layer = self.find_layer(id)
        if layer is None:
            raise StorageFailed(f"cannot find the layer '{id}'", subject=id)
        return layer

    def layers_with(self, *, diff_id: str = "", compressed: str = "", toc: str = "") -> list[Layer]:
        """Those whose uncompressed, or compressed, tar stream, or whose table of contents, has this digest.
        StorageFailed."""
        return [
            layer
            for layer in self.layers()
            if (diff_id and layer.diff_id == diff_id)
            or (compressed and layer.compressed_digest == compressed)
            or (toc and layer.toc_digest == toc)
        ]

    def chain(self, id: str) -> list[Layer]:
        """A layer and those below it, topmost first; none for an empty id. StorageFailed: also if one is missing."""
        found: list[Layer] = []
        while id:
            layer = self.layer(id)
            found.append(layer)
            id = layer.parent
            if len(found) > layers.DEPTH * 2:
                raise StorageFailed(
                    f"cannot use the layer '{found[0].id}': it lies upon itself", subject=found[0].id
                )
        return found

    def directory(self, layer: Layer) -> str:
        """A layer's directory, absolute."""
        return f"{layer.store}/overlay/{layer.id}"

    def tar_split(self, layer: Layer) -> str:
        """The file that says how the tar stream of its files is made, absolute; an empty string: there is none."""
        path = f"{layer.store}/overlay-layers/{layer.id}.tar-split.gz"
        return path if os.path.exists(path) else ""

    def lower_dirs(self, id: str) -> list[str]:
        """What an overlay of a layer and those below it is made of, topmost first, absolute. StorageFailed."""
        return [f"{self.directory(layer)}/diff" for layer in self.chain(id)]

    def containers(self) -> list[Container]:
        """Those of every engine on this graph root. StorageFailed."""
        return self._containers.read().records

    def users_of(self, image: str) -> list[Container]:
        """The containers made of an image. StorageFailed."""
        return [container for container in self.containers() if container.image == image]

    def big_data(self, image: Image, key: str) -> bytes:
        """StorageFailed: also if there is none."""
        return bigdata.read(f"{image.store}/overlay-images/{image.id}", key)

    # -- layers ---------------------------------------------------------------------------------

    def staging(self) -> Staged:
        """A place for a layer that is to be made. StorageFailed, DiskFull."""
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
        *,
        toc_digest: str = "",
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
            toc_digest=toc_digest,
            compression=COMPRESSIONS.index(facts.compression),
            uids=tuple(sorted(facts.uids)),
            gids=tuple(sorted(facts.gids)),
        )
        self.ground.prepare()
        with self._writing_layers() as draft:
            layer = draft.get(id) or self.find_layer(id)
            if layer is None:
                layer = self._add_layer(draft, record, staged.layer, staged.tar_split)
        self.ground.discard(staged.path)
        return layer

    def _add_layer(self, draft: Draft[Layer], record: Layer, staged: str, tar_split: str = "") -> Layer:
        below = [self.directory(layer) for layer in self.chain(record.parent)]
        self.ground.intend("layer", record.id)
        layers.place(self.ground, staged, tar_split, record.id, below)
        layer = draft.add(record)
        draft.save()
        return layer

    @contextmanager
    def _writing_layers(self) -> Iterator[Draft[Layer]]:
        """Whoever has the lock finds what a crash has left incomplete, and removes it."""
        with self._layers.writing() as draft:
            left = [record.id for record in draft.records if record.incomplete]
            if left:
                layers.drop(self.ground, draft, left)
            yield draft

    def delete_layers(self, ids: Iterable[str]) -> list[Layer]:
        """Remove those of these layers that nothing uses, and say which: what a failed pull has brought so far.
        StorageFailed, DiskFull."""
        self.ground.prepare()
        with self._writing_all() as (draft, images, containers):
            used = _used_layers(draft.records, images.records, containers.records)
            gone: list[Layer] = []
            waiting = {id: record for id in ids if (record := draft.get(id)) is not None}
            while free := [record for record in waiting.values() if not used.get(record.id)]:
                for record in free:
                    del waiting[record.id]
                    used[record.parent] = used.get(record.parent, 1) - 1
                    gone.append(record)
            layers.drop(self.ground, draft, [record.id for record in gone])
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
        self.ground.prepare()
        id = id or new_id()
        place = self.ground.stage()
        try:
            bigdata.write_all(place, data)
            with locked(self._layers.lock_file, shared=True), self._images.writing() as draft:
                if top_layer and self.find_layer(top_layer) is None:
                    raise StorageFailed(
                        f"cannot store the image '{id}': its layer '{top_layer}' is gone",
                        subject=id,
                        hint="something has removed it meanwhile: try again",
                    )
                if draft.get(id) is None:
                    image = self._new_image(
                        draft, id, top_layer, data, place, digest, created, metadata, history
                    )
                else:
                    image = self._more_data(draft, id, data, place, metadata)
                image = _rename(draft, id, [*image.names, *names])
                draft.save()
            self.ground.done("image", id)
        finally:
            self.ground.discard(place)
        for layer in self.chain(image.top_layer):
            self.ground.done("layer", layer.id)
        return image

    def _new_image(
        self,
        draft: Draft[Image],
        id: str,
        top_layer: str,
        data: Mapping[str, bytes],
        place: str,
        digest: str,
        created: str,
        metadata: str,
        history: Sequence[str],
    ) -> Image:
        self.ground.intend("image", id)
        self.ground.discard(f"overlay-images/{id}")
        self.ground.move(place, f"overlay-images/{id}")
        return draft.add(
            Image(
                id=id,
                digest=digest,
                names_history=tuple(history),
                top_layer=top_layer,
                metadata=metadata,
                big_data_names=tuple(data),
                big_data_sizes={key: len(value) for key, value in data.items()},
                big_data_digests={key: bigdata.digest_of(value) for key, value in data.items()},
                created=created or now(),
            )
        )

    def _more_data(
        self, draft: Draft[Image], id: str, data: Mapping[str, bytes], place: str, metadata: str
    ) -> Image:
        known = draft.get(id)
        assert known is not None  # noqa: S101 - seen by the caller, under the lock
        for key in data:
            name = bigdata.file_name(key)
            self.ground.move(f"{place}/{name}", f"overlay-images/{id}/{name}")
        fields: dict[str, object] = {
            "big_data_names": tuple(dict.fromkeys((*known.big_data_names, *data))),
            "big_data_sizes": known.big_data_sizes | {key: len(value) for key, value in data.items()},
            "big_data_digests": known.big_data_digests
            | {key: bigdata.digest_of(value) for key, value in data.items()},
        }
        if metadata:
            fields["metadata"] = metadata
        if bigdata.MANIFEST in data:
            fields["digest"] = bigdata.digest_of(data[bigdata.MANIFEST])
        return draft.change(id, **fields)

    def set_names(self, id: str, names: Sequence[str]) -> Image:
        """Let an image have exactly these names, which are taken from others that have them. NoSuchImage,
        StorageFailed, DiskFull."""
        self.ground.prepare()
        with self._images.writing() as draft:
            if draft.get(id) is None:
                raise NoSuchImage(f"cannot find the image '{id}'", subject=id)
            image = _rename(draft, id, names)
            draft.save()
        return image

    def delete_image(self, id: str) -> RemovedImage:
        """Remove an image and the layers that nothing else uses. NoSuchImage, ImageInUse (a container of any engine
        uses it, or it is in an additional store), StorageFailed, DiskFull."""
        self.ground.prepare()
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
            images.remove(id)
            images.save()
            self.ground.discard(f"overlay-images/{id}")
            layers.drop(self.ground, draft, [layer.id for layer in gone])
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
