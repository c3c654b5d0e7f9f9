"""What an image is copied from and to: a registry, an archive, a directory, the store of another engine.

Everything that is copied goes through these two protocols. Bulk data never passes through the supervisor: a layer is
a `Feed`, whose descriptor is handed to the program that reads it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import msgspec

from supervisor.archive.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["CONFIG_LIMIT", "MANIFEST_LIMIT", "Blob", "Destination", "Feed", "RawManifest", "Source"]

MANIFEST_LIMIT = 4 << 20
"""Bytes of a manifest, or of a manifest list; as registries have it."""
CONFIG_LIMIT = 4 << 20
"""Bytes of an image's configuration."""


class Blob(msgspec.Struct, frozen=True):
    """A descriptor of the OCI image specification: content by its digest (`sha256:…`)."""

    digest: str
    size: int = -1
    """Bytes; -1: unknown."""
    media_type: str = ""
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    """Of a manifest that others belong to."""


class RawManifest(msgspec.Struct, frozen=True):
    """A manifest, or a manifest list, byte for byte as it was signed or sent."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


class Source(Protocol):
    """An image that can be read. Errors are those of `pyman.errors`."""

    name: str
    """For people: `docker.io/library/alpine:latest`, `oci:/srv/image`."""

    async def manifest(self, digest: str = "") -> RawManifest:
        """The one that the name means, which may be a list; or the member of the list with this digest."""

    async def blob(self, blob: Blob) -> bytes:
        """A small one, verified: the configuration. At most CONFIG_LIMIT bytes."""

    def layer(self, blob: Blob, report: Callable[[int], None]) -> AbstractAsyncContextManager[Feed]:
        """A layer as it is stored there; whoever reads it verifies it. The context ends when it has been read."""

    async def aclose(self) -> None: ...


class Destination(Protocol):
    """Where an image can be written to. A destination that was not finished has not changed."""

    name: str

    async def has(self, blob: Blob) -> bool:
        """The blob is there already, or could be had without sending it."""

    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None:
        """Store the `blob.size` bytes from the beginning of a file."""

    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None:
        """After the blobs that it names; `member`: of a list that follows."""

    async def finish(self) -> None: ...

    async def aclose(self) -> None:
        """Also after a failure."""
