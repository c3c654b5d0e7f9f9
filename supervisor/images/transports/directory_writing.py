"""The `dir:` form written. A directory that holds an image of this form already holds the new one alone afterwards."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.images.transports.directory import MANIFEST, VERSION, VERSION_FILE, blob_name, member_name
from supervisor.images.transports.placing import begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.images.deeds import Deed
    from supervisor.images.transports.placing import Place
    from supervisor.images.transports.transport import Blob, RawManifest

__all__ = ["DirectoryDestination"]

_MEMBER = re.compile(r"[0-9a-f]{64}(\.manifest\.json|\.signature-\d+)?|signature-\d+|manifest\.json|version")


class DirectoryDestination:
    """A `Destination`."""

    manifest_types: tuple[str, ...] = ()
    """Any."""
    compression = "none"
    streams = False

    def __init__(self, place: Place, obsolete: list[str], deed: Deed) -> None:
        self.name = place.path
        self._place = place
        self._deed = deed
        self._obsolete = obsolete
        self._written: set[str] = set()

    @classmethod
    async def at(cls, path: str, deed: Deed) -> DirectoryDestination:
        """InvalidArgument: there is something else already."""
        async with begun(path, deed) as place:
            listed = place.listed()
            if listed and VERSION_FILE not in listed:
                raise InvalidArgument(
                    f"cannot write an image to '{path}': it is not empty, and holds no image", subject=path
                )
        return cls(place, [name for name in listed if _MEMBER.fullmatch(name)], deed)

    async def has(self, blob: Blob) -> bool:
        return blob_name(blob.digest) in self._written

    async def put_blob(self, blob: Blob, fd: int, report: Callable[[int], None]) -> None:
        name = blob_name(blob.digest)
        if name not in self._written:
            self._written.add(name)
            await self._place.add_file(name, fd, blob.size, report)

    async def put_manifest(self, manifest: RawManifest, *, member: bool = False) -> None:
        if not member:
            await self._place.add_bytes(VERSION_FILE, VERSION)
        await self._place.add_bytes(member_name(manifest.digest) if member else MANIFEST, manifest.data)

    async def finish(self) -> None:
        await self._deed.carry_out(self._place.trace(MANIFEST), partial(self._place.commit, self._obsolete))

    async def aclose(self) -> None:
        await self._place.abandon()
