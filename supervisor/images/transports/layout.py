"""OCI's image layout, in a directory (`oci:`) or in an archive (`oci-archive:`): reading.

`index.json` lists the images, each with a name or without; every other thing is a blob, named by its digest, and
verified when it is read. A listed index may list further ones: it is a manifest list, whose members are looked for
in the layout.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ArchiveRefused, NotSupported
from supervisor.images.formats.manifests import INDEXES, MANIFESTS, check_digest, media_type_of
from supervisor.images.transports.folder import read_document, verified
from supervisor.images.transports.transport import CONFIG_LIMIT, MANIFEST_LIMIT, Blob, RawManifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.archive.feed import Feed
    from supervisor.images.transports.folder import Files

__all__ = ["ENTRY_LIMIT", "LAYOUT_FILE", "NAME", "Entry", "LayoutSource", "blob_path", "choose", "entries"]

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
"""Where containerd and BuildKit keep the full name; the other one has only the tag then."""
ENTRY_LIMIT = 10_000
"""Images of a layout."""
_SMALL = 4096


class Entry(msgspec.Struct, frozen=True):
    """An image of a layout. `name`: what stands in the layout; empty: it has none."""

    blob: Blob
    name: str = ""

    @property
    def full_name(self) -> str:
        return self.blob.annotations.get(_CONTAINERD_NAME) or self.name


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int = -1
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int = 2
    manifests: list[_Descriptor] | None = None


def blob_path(digest: str) -> str:
    """Where a layout has a blob. ArchiveRefused, NotSupported: it is no digest that is known here."""
    algorithm, _, digits = check_digest(digest).partition(":")
    return f"blobs/{algorithm}/{digits}"


async def entries(files: Files) -> list[Entry]:
    """The images of a layout, in its order. ArchiveRefused, NotSupported: it is no layout that can be read."""
    await _check_version(files)
    index = await read_document(files, INDEX_FILE, MANIFEST_LIMIT, _Index)
    listed = index.manifests or []
    if len(listed) > ENTRY_LIMIT:
        raise ArchiveRefused(
            f"cannot use '{files.name}': it lists {len(listed)} images, {ENTRY_LIMIT} are the most",
            subject=files.name,
        )
    found = []
    for each in listed:
        check_digest(each.digest, "an image")
        annotations = each.annotations or {}
        blob = Blob(each.digest, each.size, each.media_type, annotations)
        found.append(Entry(blob, annotations.get(NAME, "")))
    return found


async def _check_version(files: Files) -> None:
    if await files.size(LAYOUT_FILE) < 0:
        return  # Podman reads those, too
    try:
        document: Any = msgspec.json.decode(await files.read(LAYOUT_FILE, _SMALL))
        version = str(document["imageLayoutVersion"])
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError):
        raise ArchiveRefused(
            f"cannot use '{files.name}': its {LAYOUT_FILE} is damaged", subject=files.name
        ) from None
    if not version.startswith("1."):
        raise NotSupported(
            f"cannot use '{files.name}': it is an image layout of version '{version[:40]}'",
            subject=files.name,
        )


def choose(found: list[Entry], files: str, name: str = "", index: int = -1) -> Entry:
    """The one with a name or a number, else the only one. ArchiveRefused, which says what there is."""
    hint = _names(found)
    if index >= 0:
        if index < len(found):
            return found[index]
        why = f"it has {len(found)} images, counted from 0, and no number {index}"
        raise ArchiveRefused(f"cannot use '{files}': {why}", subject=files, hint=hint)
    if name:
        named = next((each for each in found if each.name == name), None)
        if named is None:
            raise ArchiveRefused(f"cannot use '{files}': it has no image '{name}'", subject=files, hint=hint)
        return named
    if len(found) != 1:
        what = "it has several images" if found else "it has no image"
        raise ArchiveRefused(f"cannot use '{files}': {what}", subject=files, hint=hint)
    return found[0]


def _names(found: list[Entry]) -> str:
    names = [repr(each.name) if each.name else f"@{number}" for number, each in enumerate(found[:20])]
    return f"it has {', '.join(names)}" if names else ""


class LayoutSource:
    """One image of a layout as a `Source`."""

    def __init__(self, files: Files, entry: Entry, name: str) -> None:
        self.name = name
        self._files = files
        self._entry = entry

    async def manifest(self, digest: str = "") -> RawManifest:
        wanted = digest or self._entry.blob.digest
        data = await self._files.read(blob_path(wanted), MANIFEST_LIMIT)
        verified(data, wanted, self.name)
        said = "" if digest else self._entry.blob.media_type
        media_type = said if said in MANIFESTS | INDEXES else media_type_of(data) or said
        return RawManifest(data, media_type)

    async def blob(self, blob: Blob) -> bytes:
        data = await self._files.read(blob_path(blob.digest), CONFIG_LIMIT)
        return verified(data, blob.digest, self.name)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncIterator[Feed]:
        async with self._files.open(blob_path(blob.digest)) as feed:
            check_size(self.name, blob, feed)
            yield feed
            report(feed.length)

    async def aclose(self) -> None:
        """The files are whoever's who has opened them."""


def check_size(name: str, blob: Blob, feed: Feed) -> None:
    """ArchiveRefused: the blob has another size than the manifest says."""
    if blob.size not in (-1, feed.length):
        raise ArchiveRefused(
            f"cannot use '{name}': the blob {blob.digest} has {feed.length} bytes instead of {blob.size}",
            subject=name,
        )
