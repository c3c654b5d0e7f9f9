"""`docker save`'s archives (`docker-archive:`): reading.

`manifest.json` lists the images: the names of the configuration and of the layers within the archive, and tags.
A manifest is made of it, the same that Podman makes: the layers are named by their uncompressed digests. A layer that
lies compressed in the archive is named by its own digest instead, so that it can be verified as it lies there.
Archives without `manifest.json`, from before Docker 1.10, are read by `legacy_archive`.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ArchiveRefused, InvalidArgument
from supervisor.archive.feed import Feed
from supervisor.images.formats.config import decode_config
from supervisor.images.formats.manifests import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_ZSTD,
    DOCKER_MANIFEST,
)
from supervisor.images.transports.folder import absent, hash_range, read_document, read_range, verified
from supervisor.images.transports.transport import CONFIG_LIMIT, MANIFEST_LIMIT, RawManifest
from supervisor.registry import reference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.images.transports.folder import Files
    from supervisor.images.transports.transport import Blob

__all__ = [
    "LAYER_LIMIT",
    "MANIFEST",
    "REPOSITORIES",
    "DockerArchiveSource",
    "Item",
    "choose",
    "items",
    "tags_of",
]

MANIFEST = "manifest.json"
REPOSITORIES = "repositories"
IMAGE_LIMIT = 10_000
LAYER_LIMIT = 10_000
"""Of one image."""
_TAG_LIMIT = 10_000
_MAGIC = {b"\x1f\x8b": DOCKER_LAYER, b"\x28\xb5\x2f\xfd": DOCKER_LAYER_ZSTD, b"BZh": "", b"\xfd7zXZ\0": ""}


class Item(msgspec.Struct, frozen=True, rename="pascal"):
    """An image of the archive."""

    config: str
    """Name of a member, as the layers'."""
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


async def items(files: Files) -> list[Item]:
    """The images of an archive, in its order. ArchiveRefused."""
    found = await read_document(files, MANIFEST, MANIFEST_LIMIT, list[Item])
    if len(found) > IMAGE_LIMIT or sum(len(each.repo_tags or ()) for each in found) > _TAG_LIMIT:
        raise ArchiveRefused(f"cannot use '{files.name}': it has too many images", subject=files.name)
    return found


def tags_of(item: Item, files: str) -> list[str]:
    """Full names. ArchiveRefused: one is none."""
    found = []
    for tag in item.repo_tags or ():
        try:
            found.append(str(reference.parse(tag).tagged()))
        except InvalidArgument as error:
            raise ArchiveRefused(f"cannot use '{files}': {error.message}", subject=files) from None
    return list(dict.fromkeys(found))


def choose(found: list[Item], files: str, name: str = "", index: int = -1) -> tuple[Item, list[str]]:
    """The image with a tag or a number, else the only one, and the names that it is to get."""
    if name:
        for item in found:
            if name in tags_of(item, files):
                return item, [name]
        why = f"it has no image '{name}'"
    elif index >= 0:
        if index < len(found):
            return found[index], tags_of(found[index], files)
        why = f"it has {len(found)} images, counted from 0, and no number {index}"
    elif len(found) == 1:
        return found[0], tags_of(found[0], files)
    else:
        why = "it has several images" if found else "it has no image"
    names = [tag for item in found[:20] for tag in item.repo_tags or ()][:20]
    hint = f"it has {', '.join(names)}" if names else ""
    raise ArchiveRefused(f"cannot use '{files}': {why}", subject=files, hint=hint)


class DockerArchiveSource:
    """One image of an archive as a `Source`."""

    def __init__(
        self,
        files: Files,
        name: str,
        config: bytes,
        manifest: RawManifest,
        layers: dict[str, str],
    ) -> None:
        self.name = name
        self._files = files
        self._config = config
        self._manifest = manifest
        self._layers = layers
        """Digest to the name of the member."""

    @classmethod
    async def of(cls, files: Files, item: Item, name: str) -> DockerArchiveSource:
        """Looks at every layer's beginning. ArchiveRefused, NotSupported."""
        config = await files.read(item.config, CONFIG_LIMIT)
        return await cls.made(files, name, config, item.layers or [])

    @classmethod
    async def made(cls, files: Files, name: str, config: bytes, members: list[str]) -> DockerArchiveSource:
        """Of a configuration and the members that are its layers, from the base upwards."""
        diff_ids = decode_config(config, name).diff_ids
        if len(members) != len(diff_ids):
            raise ArchiveRefused(
                f"cannot use '{name}': it has {len(members)} layers, "
                f"and its configuration has {len(diff_ids)}",
                subject=name,
            )
        if len(members) > LAYER_LIMIT:
            raise ArchiveRefused(
                f"cannot use '{name}': it has {len(members)} layers, {LAYER_LIMIT} are the most", subject=name
            )
        by_member: dict[str, dict[str, Any]] = {}
        layers: dict[str, str] = {}
        described = []
        for member, diff_id in zip(members, diff_ids, strict=True):
            if member not in by_member:
                by_member[member] = await _describe(files, member, diff_id)
            described.append(by_member[member])
            layers[by_member[member]["digest"]] = member
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG, "size": len(config), "digest": digest},
            "layers": described,
        }
        manifest = RawManifest(msgspec.json.encode(document), DOCKER_MANIFEST)
        return cls(files, name, config, manifest, layers)

    async def manifest(self, digest: str = "") -> RawManifest:
        if digest:
            raise ArchiveRefused(f"cannot use '{self.name}': it has no manifest lists", subject=self.name)
        return self._manifest

    async def blob(self, blob: Blob) -> bytes:
        return verified(self._config, blob.digest, self.name)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncIterator[Feed]:
        member = self._layers.get(blob.digest)
        if member is None:
            raise absent(self.name, blob.digest)
        async with self._files.open(member) as feed:
            yield feed
            report(feed.length)

    async def aclose(self) -> None:
        """The files are whoever's who has opened them."""


async def _describe(files: Files, member: str, diff_id: str) -> dict[str, Any]:
    """The descriptor of a layer, its fields in the order in which other engines write them."""
    async with files.open(member) as feed:
        magic = await read_range(Feed(feed.fd, feed.offset, min(feed.length, 6)))
        media_type = next((kind for known, kind in _MAGIC.items() if magic.startswith(known)), None)
        if media_type is None:
            return {"mediaType": DOCKER_LAYER, "size": feed.length, "digest": diff_id}
        if not media_type:
            raise ArchiveRefused(
                f"cannot use '{files.name}': its layer '{member}' is compressed with neither gzip nor zstd",
                subject=files.name,
            )
        return {"mediaType": media_type, "size": feed.length, "digest": await hash_range(feed)}
