"""What is made of a container's root filesystem: mounts for people, archives, images, lists of what was changed.

Their rows are those of `io.pyman.Container`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyman.api.selection import ErrorInfo, Selection

__all__ = [
    "ChangesReply",
    "ChangesRequest",
    "CommitReply",
    "CommitRequest",
    "ExportRequest",
    "MountReply",
    "MountRequest",
    "MountedContainer",
    "UnmountRequest",
]


class MountRequest(msgspec.Struct, frozen=True):
    selection: Selection = Selection()
    """None: nothing is mounted; the reply has what is."""


class MountedContainer(msgspec.Struct, frozen=True):
    id: str
    name: str
    path: str = ""
    """In the engine's mount namespace, which an ordinary user's is not the host's."""
    error: ErrorInfo | None = None


class MountReply(msgspec.Struct, frozen=True):
    containers: list[MountedContainer]
    """In the order of the request."""


class UnmountRequest(msgspec.Struct, frozen=True):
    """What was mounted more than once stays until it was unmounted as often. A running container keeps its own."""

    selection: Selection
    force: bool = False
    """Whatever the count of its mounts says."""


class ExportRequest(msgspec.Struct, frozen=True):
    """The request brings the descriptor that the archive is written to."""

    name: str


class ChangesRequest(msgspec.Struct, frozen=True):
    """What a container changes of its image; or one container or image of another."""

    name: str
    """Of a container; with `of`, otherwise of an image."""
    of: str = ""
    """The name of a container, or else of an image."""


class ChangesReply(msgspec.Struct, frozen=True):
    """Paths in the container, sorted."""

    changed: list[str]
    added: list[str]
    deleted: list[str]


class CommitRequest(msgspec.Struct, frozen=True):
    name: str
    image: str = ""
    """The name that the image gets; empty: none."""
    author: str = ""
    message: str = ""
    """Docker's format alone has room for it."""
    changes: list[str] = []
    """Lines as in a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR."""
    config: dict[str, Any] = {}
    """A configuration as Docker's images have it (`Env`, `Cmd`, `Labels`, …), which goes over that of the container and
    below `changes`."""
    pause: bool = False
    """Freeze the container meanwhile, if it runs."""
    squash: bool = False
    """One layer of all of it, instead of one above those of the container's image."""
    include_volumes: bool = False
    """Also what the container has volumes for is a volume of the image."""
    format: str = ""
    """oci or docker; empty: oci."""


class CommitReply(msgspec.Struct, frozen=True):
    id: str
