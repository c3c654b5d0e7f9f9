"""How much room things take on disk, and what is free again once nothing unused is left: a part of `io.pyman.System`."""

from __future__ import annotations

import msgspec

from pyman.api.selection import ErrorInfo

__all__ = [
    "ContainerUsage",
    "DiskUsageReply",
    "ImageUsage",
    "PruneContainersReply",
    "PruneContainersRequest",
    "PruneSystemReply",
    "PruneSystemRequest",
    "Pruned",
    "VolumeUsage",
]


class ImageUsage(msgspec.Struct, frozen=True):
    id: str
    names: list[str]
    created: int
    """Seconds since the epoch."""
    size: int
    """Bytes, as all sizes here: of the uncompressed archives of its layers, and of its documents."""
    shared_size: int
    """The part of it that other images have as well."""
    unique_size: int
    containers: int
    """Of every engine that uses the store."""


class ContainerUsage(msgspec.Struct, frozen=True):
    id: str
    name: str
    image: str
    """Its id; empty: it has none."""
    command: list[str]
    volumes: int
    """How many it uses."""
    rw_size: int
    """What it has written."""
    created: int
    """Seconds since the epoch."""
    state: str


class VolumeUsage(msgspec.Struct, frozen=True):
    name: str
    links: int
    """How many containers use it."""
    size: int


class DiskUsageReply(msgspec.Struct, frozen=True):
    images_size: int
    """Each layer once, however many images have it."""
    images_reclaimable: int
    """What removing all images frees that no container uses."""
    images: list[ImageUsage]
    containers: list[ContainerUsage]
    volumes: list[VolumeUsage]
    warnings: list[str] = []
    """What could not be measured, a sentence each; it counts nothing."""


class PruneContainersRequest(msgspec.Struct, frozen=True):
    """Containers that do not run, and will not by themselves."""

    filters: dict[str, list[str]] = {}
    """label, label!, until."""


class Pruned(msgspec.Struct, frozen=True):
    """Something that was to be removed. Of images the ids of all that went with it, each its own entry."""

    id: str
    size: int = 0
    error: ErrorInfo | None = None


class PruneContainersReply(msgspec.Struct, frozen=True):
    containers: list[Pruned]


class PruneSystemRequest(msgspec.Struct, frozen=True):
    """Containers, then images, volumes and networks that nothing uses, until there is no more of them."""

    all: bool = False
    """Also images with names."""
    volumes: bool = False
    filters: dict[str, list[str]] = {}
    """label, label!, until; volumes are all pruned without any, else the anonymous ones that fit."""


class PruneSystemReply(msgspec.Struct, frozen=True):
    containers: list[Pruned]
    images: list[Pruned]
    volumes: list[Pruned]
    """By their names, as networks."""
    networks: list[Pruned]
    reclaimed: int
    """Bytes."""
