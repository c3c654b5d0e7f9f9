"""What is in the store of a graph root and in the additional ones, read without any lock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyman.errors import AmbiguousId, NoSuchImage, NotSupported, StorageFailed
from supervisor.settings.overlay import overlay_options
from supervisor.storage import bigdata, layers
from supervisor.storage.records import Container, Image, Layer
from supervisor.storage.table import Table

if TYPE_CHECKING:
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.storage.overlay import Overlays

__all__ = ["StoreReader"]

_DRIVERS = frozenset({"", "overlay", "overlay2"})


class StoreReader:
    """Its methods may be called in several threads at once; each blocks for as long as files are read."""

    def __init__(self, layout: Layout, settings: Settings, overlays: Overlays) -> None:
        self.root = layout.graph_root
        self.layout = layout
        self.overlays = overlays
        self._driver = settings.storage.driver
        self._options = overlay_options(settings.storage.options)
        self._layers = Table(Layer, self.root, "layers")
        self._images = Table(Image, self.root, "images", volatile=False)
        self._containers = Table(Container, self.root, "containers")
        additional = [path for path in self._options.additional_stores if path != self.root]
        self._additional_layers = [Table(Layer, path, "layers", read_only=True) for path in additional]
        self._additional_images = [
            Table(Image, path, "images", volatile=False, read_only=True) for path in additional
        ]

    def check_driver(self) -> None:
        """NotSupported: the images of this graph root are not kept in overlays."""
        if self._driver not in _DRIVERS:
            raise NotSupported(
                f"cannot use the image store '{self.root}': the storage driver '{self._driver}' is not supported",
                subject=self._driver,
                hint="only 'overlay' is; see 'driver' in storage.conf",
            )

    def images(self) -> list[Image]:
        """Every image, this store's own first. StorageFailed, NotSupported (as `check_driver`)."""
        self.check_driver()
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
        """The image that has exactly this name, as `registry.example/app:1`. StorageFailed, NotSupported."""
        self.check_driver()
        for table in (self._images, *self._additional_images):
            image = table.read().by_name.get(name)
            if image is not None:
                return image
        return None

    def resolve(self, name_or_id: str) -> Image:
        """By its id, an exact name, or the beginning of its id that only one has. NoSuchImage, AmbiguousId,
        StorageFailed, NotSupported."""
        self.check_driver()
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
        """By its full id. None: there is none, it is not complete, or its files are gone. StorageFailed."""
        for table in (self._layers, *self._additional_layers):
            layer = table.read().by_id.get(id)
            if layer is not None and not layer.incomplete and os.path.isdir(f"{self.directory(layer)}/diff"):
                return layer
        return None

    def layer(self, id: str) -> Layer:
        """By its full id. StorageFailed: also if there is none."""
        layer = self.find_layer(id)
        if layer is None:
            raise StorageFailed(f"cannot find the layer '{id}'", subject=id)
        return layer

    def layers_with(self, *, diff_id: str = "", compressed: str = "") -> list[Layer]:
        """Those whose uncompressed, or compressed, tar stream has this digest. StorageFailed."""
        return [
            layer
            for layer in self.layers()
            if (diff_id and layer.diff_id == diff_id)
            or (compressed and layer.compressed_digest == compressed)
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

    def big_data(self, image: Image, key: str) -> bytes:
        """StorageFailed: also if there is none."""
        return bigdata.read(f"{image.store}/overlay-images/{image.id}", key)
