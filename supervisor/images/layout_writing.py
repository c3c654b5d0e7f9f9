"""OCI's image layout written: as a directory (`oci:`), or as an archive (`oci-archive:`).

A directory that is a layout already gets one more image; one with the same name loses that name. A blob that is there
already is not written again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import ArchiveRefused, InvalidArgument
from supervisor.images.folder import Folder
from supervisor.images.layout import INDEX_FILE, LAYOUT_FILE, NAME, blob_path
from supervisor.images.manifests import OCI_INDEX, OCI_MANIFEST
from supervisor.images.placing import Place, begun
from supervisor.images.transport import MANIFEST_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.images.elsewhere import Deed
    from supervisor.images.tarring import TarWriter
    from supervisor.images.transport import Blob, RawManifest

__all__ = ["LayoutDestination", "archive_destination", "directory_destination"]

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutDestination:
    """A `Destination`. `image`: the name that the image gets in the layout; empty: none."""

    manifest_types: tuple[str, ...] = (OCI_MANIFEST, OCI_INDEX)
    compression = "gzip"
    """What layers are compressed with, unless something else is asked for."""
    streams = False

    def __init__(
        self,
        name: str,
        sink: TarWriter | Place,
        image: str,
        present: list[dict[str, Any]] | None = None,
        deed: Deed | None = None,
    ) -> None:
        """`deed`: whose last step it is that a `Place` is complete."""
        self.name = name
        self._sink = sink
        self._deed = deed
        self._image = image
        self._index = present or []
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
            self._list(manifest)

    def _list(self, manifest: RawManifest) -> None:
        entry: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": len(manifest.data),
        }
        if self._image:
            entry["annotations"] = {NAME: self._image}
            for other in self._index:
                if (other.get("annotations") or {}).get(NAME) == self._image:
                    del other["annotations"][NAME]
        for at, other in enumerate(self._index):
            nameless = not (other.get("annotations") or {}).get(NAME)
            if other.get("digest") == manifest.digest and nameless:
                self._index[at] = entry
                return
        self._index.append(entry)

    async def finish(self) -> None:
        index = msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._index})
        await self._sink.add_bytes(LAYOUT_FILE, _LAYOUT)
        await self._sink.add_bytes(INDEX_FILE, index)
        if isinstance(self._sink, Place):
            assert self._deed is not None  # noqa: S101 - see `directory_destination`
            await self._deed.carry_out(self._sink.trace(INDEX_FILE), self._sink.commit)
        else:
            await self._sink.close()

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
        return LayoutDestination(path, place, image, await _present(place, path), deed)


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
        data = await folder.read(INDEX_FILE, MANIFEST_LIMIT)
        document = msgspec.json.decode(data, type=dict[str, Any])
        return msgspec.convert(document.get("manifests") or [], list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveRefused(f"cannot use '{path}': its {INDEX_FILE}: {error}", subject=path) from None
    finally:
        await folder.aclose()
