"""Skopeo's and Podman's `dir:` form: one image as a directory of manifest.json, version, and blobs named by their
digits. Reading."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pyman.errors import ArchiveRefused, NotSupported
from supervisor.images.formats.manifests import check_digest, media_type_of
from supervisor.images.transports.folder import verified
from supervisor.images.transports.layout import check_size
from supervisor.images.transports.transport import CONFIG_LIMIT, MANIFEST_LIMIT, RawManifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from supervisor.archive.feed import Feed
    from supervisor.images.transports.folder import Files
    from supervisor.images.transports.transport import Blob

__all__ = ["MANIFEST", "VERSION", "VERSION_FILE", "DirectorySource", "blob_name", "member_name"]

MANIFEST = "manifest.json"
VERSION_FILE = "version"
VERSION = b"Directory Transport Version: 1.1\n"
_VERSION = re.compile(rb"Directory Transport Version: (\d{1,4})\.(\d{1,4})\n?")
_SMALL = 4096


def blob_name(digest: str) -> str:
    """ArchiveRefused, NotSupported: it is no digest that is known here."""
    return check_digest(digest).removeprefix("sha256:")


def member_name(digest: str) -> str:
    """Of the manifest of a member of a list."""
    return f"{blob_name(digest)}.manifest.json"


class DirectorySource:
    """The image of a directory as a `Source`."""

    def __init__(self, files: Files, name: str) -> None:
        self.name = name
        self._files = files

    @classmethod
    async def of(cls, files: Files, name: str) -> DirectorySource:
        """ArchiveRefused, NotSupported: it holds no image, or one in a newer form."""
        if await files.size(MANIFEST) < 0:
            raise ArchiveRefused(f"cannot use '{name}': it has no {MANIFEST}", subject=name)
        if await files.size(VERSION_FILE) >= 0:
            version = _VERSION.fullmatch(await files.read(VERSION_FILE, _SMALL))
            if version is None:
                raise ArchiveRefused(f"cannot use '{name}': its version file is damaged", subject=name)
            if int(version[1]) != 1:
                raise NotSupported(
                    f"cannot use '{name}': it is of version {version[1].decode()}.{version[2].decode()}",
                    subject=name,
                )
        return cls(files, name)

    async def manifest(self, digest: str = "") -> RawManifest:
        data = await self._files.read(member_name(digest) if digest else MANIFEST, MANIFEST_LIMIT)
        if digest:
            verified(data, digest, self.name)
        return RawManifest(data, media_type_of(data))

    async def blob(self, blob: Blob) -> bytes:
        data = await self._files.read(blob_name(blob.digest), CONFIG_LIMIT)
        return verified(data, blob.digest, self.name)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncIterator[Feed]:
        async with self._files.open(blob_name(blob.digest)) as feed:
            check_size(self.name, blob, feed)
            yield feed
            report(feed.length)

    async def aclose(self) -> None:
        """The files are whoever's who has opened them."""
