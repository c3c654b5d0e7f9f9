"""OCI's image layout written: as a directory (`oci:`), or as an archive (`oci-archive:`).

A directory that is a layout already gets one more image; one with the same name loses that name. A blob that is there
already is not written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.errors import ArchiveRefused, InvalidArgument
from supervisor.images.formats.manifests import OCI_INDEX, OCI_MANIFEST
from supervisor.images.transports.folder import Folder, read_document
from supervisor.images.transports.layout import INDEX_FILE, LAYOUT_FILE, NAME, blob_path
from supervisor.images.transports.placing import Place, begun
from supervisor.images.transports.transport import MANIFEST_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.images.deeds import Deed
    from supervisor.images.transports.tarring import TarWriter
    from supervisor.images.transports.transport import Blob, RawManifest

__all__ = ["LayoutDestination", "archive_destination", "directory_destination"]

_finishing = trio.Lock()
"""Whoever writes an index has read what others have written."""
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutDestination:
    """A `Destination`. `image`: the name that the image gets in the layout; empty: none."""

    manifest_types: tuple[str, ...] = (OCI_MANIFEST, OCI_INDEX)
    compression = "gzip"
    """What layers are compressed with, unless something else is asked for."""
    streams = False

    def __init__(self, name: str, sink: TarWriter | Place, image: str, deed: Deed | None = None) -> None:
        """`deed`: whose last step it is that a `Place` is complete."""
        self.name = name
        self._sink = sink
        self._deed = deed
        self._image = image
        self._listed: list[RawManifest] = []
        self._written: dict[str, int] = {}

    async def has(self, blob: Blob) -> bool:
        path = blob_path(blob.digest)
        if path in self._written:
            return True
        return isinstance(self._sink, Place) and self._sink.size(path) == blob.size

    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None:
        path = blob_path(blob.digest)
        if path not in self._written:
            self._written[path] = blob.size
            await self._sink.add_file(path, fd, blob.size, report)

    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None:
        path = blob_path(manifest.digest)
        if path not in self._written:
            self._written[path] = len(manifest.data)
            await self._sink.add_bytes(path, manifest.data)
        if not member:
            self._listed.append(manifest)

    def _add(self, manifest: RawManifest, index: list[dict[str, Any]]) -> None:
        entry: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": len(manifest.data),
        }
        if self._image:
            entry["annotations"] = {NAME: self._image}
            for other in index:
                if (other.get("annotations") or {}).get(NAME) == self._image:
                    del other["annotations"][NAME]
        for at, other in enumerate(index):
            nameless = not (other.get("annotations") or {}).get(NAME)
            if other.get("digest") == manifest.digest and nameless:
                index[at] = entry
                return
        index.append(entry)

    async def finish(self) -> None:
        await self._sink.add_bytes(LAYOUT_FILE, _LAYOUT)
        if not isinstance(self._sink, Place):
            await self._sink.add_bytes(INDEX_FILE, self._index([]))
            await self._sink.close()
            return
        async with _finishing:
            present = await _present(self._sink, self.name)
            await self._sink.add_bytes(INDEX_FILE, self._index(present))
            assert self._deed is not None  # noqa: S101 - see `directory_destination`
            await self._deed.carry_out(self._sink.trace(INDEX_FILE), self._sink.commit)

    def _index(self, present: list[dict[str, Any]]) -> bytes:
        for manifest in self._listed:
            self._add(manifest, present)
        return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": present})

    async def aclose(self) -> None:
        if isinstance(self._sink, Place):
            await self._sink.abandon()
        else:
            self._sink.release()


def archive_destination(writer: TarWriter, image: str) -> LayoutDestination:
    return LayoutDestination(writer.name, writer, image)


async def directory_destination(path: str, image: str, deed: Deed) -> LayoutDestination:
    """InvalidArgument: there is something else than a layout already. ArchiveRefused: a damaged one."""
    async with begun(path, deed) as place:
        await _present(place, path)
    return LayoutDestination(path, place, image, deed)


async def _present(place: Place, path: str) -> list[dict[str, Any]]:
    listed = place.listed()
    if not listed:
        return []
    if INDEX_FILE not in listed:
        raise InvalidArgument(
            f"cannot write an image to '{path}': it is not empty, and no image layout", subject=path
        )
    folder = await Folder.at(path)
    try:
        document = await read_document(folder, INDEX_FILE, MANIFEST_LIMIT, dict[str, Any])
        return msgspec.convert(document.get("manifests") or [], list[dict[str, Any]])
    except msgspec.ValidationError as error:
        raise ArchiveRefused(f"cannot use '{path}': its {INDEX_FILE}: {error}", subject=path) from None
    finally:
        await folder.aclose()
