"""`docker save`'s archives written (`docker-archive:`), one image or several.

Layers lie in it uncompressed, once each however many images have them, under the digits of their digest. For readers
from before Docker 1.10 each layer also has a directory with a document, a version and a link to the layer. The ids of
those directories are digests of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pyman.errors import NotSupported
from supervisor.images.formats.manifests import DOCKER_MANIFEST, check_digest, decode_manifest
from supervisor.images.transports.docker_archive import MANIFEST, REPOSITORIES
from supervisor.images.transports.transport import CONFIG_LIMIT
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from supervisor.images.transports.tarring import TarWriter
    from supervisor.images.transports.transport import Blob, RawManifest

__all__ = ["DockerArchiveDestination"]

_TOP = ("architecture", "config", "container", "container_config", "created", "docker_version", "os")
"""What the document of the last layer has of the image's configuration."""


class DockerArchiveDestination:
    """A `Destination` for one image after the other: `begin`, its blobs, its manifest; `finish` after the last."""

    manifest_types: tuple[str, ...] = (DOCKER_MANIFEST,)
    compression = "none"
    streams = True
    """Layers come through `stream`, whose size and digest are known before."""

    def __init__(self, writer: TarWriter) -> None:
        self.name = writer.name
        self._writer = writer
        self._tags: tuple[str, ...] = ()
        self._written: set[str] = set()
        self._legacy: set[str] = set()
        self._configs: dict[str, bytes] = {}
        self._images: dict[str, dict[str, Any]] = {}
        self._repositories: dict[str, dict[str, str]] = {}

    def begin(self, tags: Iterable[str]) -> None:
        """What follows is the image with these full names, each with a tag."""
        self._tags = tuple(tags)

    async def has(self, blob: Blob) -> bool:
        return blob.digest in self._written

    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None:
        """The configuration; layers are streamed."""
        if blob.digest not in self._written:
            data = os.pread(fd, CONFIG_LIMIT, 0)
            self._configs[blob.digest] = data
            self._written.add(blob.digest)
            await self._writer.add_bytes(f"{_digits(blob.digest)}.json", data)
            report(len(data))

    @asynccontextmanager
    async def stream(self, blob: Blob) -> AsyncIterator[int]:
        """A descriptor for the `blob.size` bytes of an uncompressed layer."""
        async with self._writer.stream(_layer_path(blob.digest), blob.size) as fd:
            yield fd
        self._written.add(blob.digest)

    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None:
        if member:
            raise NotSupported("cannot put a manifest list into a docker-archive", hint="use an oci-archive")
        decoded = decode_manifest(manifest)
        config = decoded.config.digest
        digests = [layer.digest for layer in decoded.layers]
        await self._add_legacy(digests, self._configs[config])
        entry = {
            "Config": f"{_digits(config)}.json",
            "RepoTags": [],
            "Layers": [_layer_path(digest) for digest in digests],
        }
        tags: list[str] = self._images.setdefault(config, entry)["RepoTags"]
        tags += [tag for tag in self._tags if tag not in tags]

    async def _add_legacy(self, digests: Sequence[str], config: bytes) -> None:
        chain, last = "", ""
        for number, digest in enumerate(digests):
            document: dict[str, Any] = {"parent": last} if last else {}
            if number == len(digests) - 1:
                image = json.loads(config)
                document |= {key: image.get(key) for key in _TOP}
            chain = (
                digest if not chain else f"sha256:{hashlib.sha256(f'{chain} {digest}'.encode()).hexdigest()}"
            )
            last = hashlib.sha256(_document({**document, "layer_id": chain})).hexdigest()
            if last not in self._legacy:
                self._legacy.add(last)
                await self._writer.add_symlink(f"{last}/layer.tar", f"../{_layer_path(digest)}")
                await self._writer.add_bytes(f"{last}/VERSION", b"1.0")
                await self._writer.add_bytes(f"{last}/json", _document({**document, "id": last}))
        for tag in self._tags if last else ():
            name = reference.parse(tag).tagged()
            self._repositories.setdefault(name.name, {})[name.tag] = last

    async def finish(self) -> None:
        await self._writer.add_bytes(MANIFEST, _document(list(self._images.values())))
        await self._writer.add_bytes(REPOSITORIES, _document(self._repositories))
        await self._writer.close()

    async def aclose(self) -> None:
        self._writer.release()


def _digits(digest: str) -> str:
    return check_digest(digest).removeprefix("sha256:")


def _layer_path(digest: str) -> str:
    return f"{_digits(digest)}.tar"


def _document(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
