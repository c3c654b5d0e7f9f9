"""The image store of a graph root, shared with Podman, Buildah and Skopeo.

What a caller gets are records as they were at one instant; another engine may change them at the next. Locks are
taken in the order that containers/storage has: layers, images, containers, mount counts. Everything here blocks,
perhaps for as long as another engine unpacks a layer, and is called in a thread; reading never waits for a lock.

- `reading`: what there is, from memory as long as nobody has changed it
- `writing`: layers and images
- `containers`: containers and their layers
- `recovery`: what a killed supervisor has left, and what is wrong
- here: images that are mounted, as often as all engines count together

An image is mounted in the run directory. Podman mounts it in the store, and mounts the store on itself while it runs:
what others have mounted there is hidden then.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import WrongState
from supervisor.kernel import files, mounts
from supervisor.storage.records import Image
from supervisor.storage.recovery import RecoveringStore

if TYPE_CHECKING:
    from supervisor.storage.records import Layer

__all__ = ["MountedImage", "Store"]


class MountedImage(msgspec.Struct, frozen=True):
    image: Image
    path: str
    count: int
    """How often it was mounted, by all engines together."""


class Store(RecoveringStore):
    """One for an engine. Its methods may be called in several threads at once."""

    def mount_image(self, id: str) -> MountedImage:
        """Mount an image read-only, or count once more if it is. NoSuchImage, WrongState (it has no layers),
        StorageFailed, DiskFull, OverlayUnavailable."""
        self.prepare()
        with self._writing_layers():
            image = self.image(id)
            if not image.top_layer:
                raise WrongState(f"cannot mount the image '{id}': it has no layers", subject=id)
            layer = self.layer(image.top_layer)
            self._unmount_forgotten()
            known = self.counts.read().get(layer.id)
            if known is not None and known.count > 0 and mounts.mounted(known.path):
                path = known.path
            else:
                path = self._mount(layer)
            return MountedImage(image, path, self.counts.add(layer.id, path))

    def _mount(self, layer: Layer) -> str:
        path = f"{self.layout.image_mounts}/{layer.id}/merged"
        lower = self.lower_dirs(layer.id)
        if len(lower) == 1:
            lower.append(f"{self.directory(layer)}/empty")
        try:
            os.makedirs(self.layout.tmp, mode=0o711, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(self.layout.image_mounts, 0o700)
            os.makedirs(path, mode=0o700, exist_ok=True)
            if not self.overlays.ready(path):
                self.overlays.mount_readonly(path, lower)
        except OSError as error:
            raise files.storage_error(error, "mount the image's layer at", path) from error
        return path

    def unmount_image(self, id: str, *, force: bool = False) -> bool:
        """Undo one mount of an image, with `force` all of them; whether it is mounted still. NoSuchImage, WrongState
        (it is not mounted), StorageFailed, DiskFull."""
        self.prepare()
        with self._writing_layers():
            image = self.image(id)
            counts = self.counts.read()
            layer = next((layer for layer in (image.top_layer, *image.mapped_layers) if layer in counts), "")
            if not layer:
                raise WrongState(f"cannot unmount the image '{id}': it is not mounted", subject=id)
            if not force and counts[layer].count > 1:
                self.counts.remove(layer)
                return True
            self._unmount(counts[layer].path)
            self.counts.forget([layer])
            self._unmount_forgotten()
            return False

    def mounted_images(self) -> list[MountedImage]:
        """StorageFailed."""
        counts = self.counts.read()
        found = []
        for image in self.images() if counts else []:
            count = next(
                (counts[layer] for layer in (image.top_layer, *image.mapped_layers) if layer in counts), None
            )
            if count is not None and count.count > 0 and mounts.mounted(count.path):
                found.append(MountedImage(image, count.path, count.count))
        return found
