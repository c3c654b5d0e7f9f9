"""What `io.pyman.Image` is asked and answers about manifest lists."""

from __future__ import annotations

from typing import Any

import msgspec

from pyman.api.pull import Platform, RegistryAccess

__all__ = [
    "Artifact",
    "ManifestAddRequest",
    "ManifestAnnotateRequest",
    "ManifestCreateRequest",
    "ManifestInspectReply",
    "ManifestInspectRequest",
    "ManifestPushRequest",
    "ManifestReply",
]


class ManifestCreateRequest(msgspec.Struct, frozen=True):
    name: str
    images: list[str] = []
    all: bool = False
    """Of a list among the images: all its members."""
    amend: bool = False
    annotations: dict[str, str] = {}
    access: RegistryAccess = RegistryAccess()


class Artifact(msgspec.Struct, frozen=True):
    """How files become a member of a list."""

    type: str = ""
    """Its artifactType; empty: an unknown one."""
    config: str = ""
    """Content of its configuration; empty: none."""
    config_type: str = ""
    layer_type: str = ""
    """Media type of the files; empty: guessed."""
    exclude_titles: bool = False
    """Files are not called by their names."""
    subject: str = ""
    """The image or list that it belongs to, here or in a registry."""


class ManifestAddRequest(msgspec.Struct, frozen=True):
    name: str
    images: list[str]
    """With `artifact` absolute paths of files, which stay where they are until the list is pushed."""
    artifact: Artifact | None = None
    all: bool = False
    platform: Platform = Platform()
    os_version: str = ""
    features: list[str] = []
    annotations: dict[str, str] = {}
    access: RegistryAccess = RegistryAccess()


class ManifestAnnotateRequest(msgspec.Struct, frozen=True):
    """Change what the list says of a member, or of itself, or with `remove` take a member out."""

    name: str
    digest: str = ""
    """Of a member, or an image; empty: the list itself, of which only `annotations` and `subject` can be said."""
    remove: bool = False
    platform: Platform = Platform()
    os_version: str = ""
    features: list[str] = []
    os_features: list[str] = []
    annotations: dict[str, str] = {}
    subject: str = ""
    """An image or a list, here or in a registry, that the list belongs to."""


class ManifestReply(msgspec.Struct, frozen=True):
    id: str


class ManifestInspectRequest(msgspec.Struct, frozen=True):
    name: str
    """Of a list here, else of an image in a registry."""
    access: RegistryAccess = RegistryAccess()


class ManifestInspectReply(msgspec.Struct, frozen=True):
    manifest: dict[str, Any]


class ManifestPushRequest(msgspec.Struct, frozen=True):
    name: str
    destination: str
    access: RegistryAccess = RegistryAccess()
    all: bool = True
    format: str = ""
    compression: str = ""
    """As that of a push, of images in the list that the registry does not have."""
    compression_level: int | None = None
    force_compression: bool = False
    add_compression: list[str] | None = None
    """gzip, zstd: each platform gets an image compressed so, too. None: as containers.conf says."""
    remove_signatures: bool = False
    """They never are sent."""
    remove_after: bool = False
    quiet: bool = False
