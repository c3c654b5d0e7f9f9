"""How much room images take: as the store knows it, nothing is measured."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pyman.api.usage import ImageUsage
from supervisor.storage.records import created_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.images.view import View
    from supervisor.storage.records import Image, Layer

__all__ = ["usage_of_images"]


def usage_of_images(view: View, used: Callable[[Image], bool]) -> tuple[list[ImageUsage], int, int]:
    """Each image, the newest first; what they all take; and what is free once those are gone that are not `used`."""
    layers = {image.id: view.layers_of(image) for image in view.images}
    counts = Counter(layer.id for found in layers.values() for layer in found)
    told = [_usage(view, image, layers[image.id], counts) for image in view.images]
    told.sort(key=lambda each: each.created, reverse=True)
    kept = [image for image in view.images if image.read_only or used(image)]
    total = _room(view.images, layers)
    return told, total, total - _room(kept, layers)


def _usage(view: View, image: Image, layers: list[Layer], counts: Counter[str]) -> ImageUsage:
    shared = sum(max(layer.diff_size, 0) for layer in layers if counts[layer.id] > 1)
    unique = sum(max(layer.diff_size, 0) for layer in layers if counts[layer.id] == 1)
    unique += sum(image.big_data_sizes.values())
    return ImageUsage(
        id=image.id,
        names=list(image.names),
        created=int(created_seconds(image.created)),
        size=shared + unique,
        shared_size=shared,
        unique_size=unique,
        containers=len(view.users(image)),
    )


def _room(images: Sequence[Image], layers: dict[str, list[Layer]]) -> int:
    found = {layer.id: max(layer.diff_size, 0) for image in images for layer in layers[image.id]}
    return sum(found.values()) + sum(sum(image.big_data_sizes.values()) for image in images)
