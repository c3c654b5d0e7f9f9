"""Files in manifest lists: artifacts, whose manifests are made here, and which no registry has before the list is pushed.

What is known of them is kept beside the list, as Podman does: their manifests, what is small, and where the files are. The
files stay where they are and are read again by a push, which compares them with their digests.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import re
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.errors import ArchiveRefused, InvalidArgument, StorageFailed
from supervisor.archive.feed import Feed
from supervisor.images.formats.manifests import OCI_CONFIG, OCI_MANIFEST, described_blob
from supervisor.images.transports.folder import limiter, verified
from supervisor.images.transports.transport import Blob, RawManifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pyman.api.image import Artifact

__all__ = ["ARTIFACTS", "ArtifactSource", "Artifacts", "made"]

ARTIFACTS = "artifacts.json"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_UNKNOWN = "application/vnd.unknown.artifact.v1"
_TITLE = "org.opencontainers.image.title"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
_HEAD = 512
"""Bytes by which a file's type is told."""
_CONFIG_LIMIT = 1 << 20


class Artifacts(msgspec.Struct, omit_defaults=True):
    """By the digest of a manifest, but for the last two, which are by that of a blob."""

    manifests: dict[str, str] = {}
    files: dict[str, list[str] | None] = {}
    """Absolute paths."""
    config: dict[str, str] = {}
    layers: dict[str, list[str] | None] = {}
    detached: dict[str, str] = {}
    """Where the file is."""
    blobs: dict[str, str] = {}
    """Base64."""

    def add(self, made: Made) -> None:
        digest = made.manifest.digest
        self.manifests[digest] = made.manifest.data.decode()
        self.config[digest] = made.config.digest
        self.blobs[made.config.digest] = base64.b64encode(made.config_data).decode()
        self.layers[digest] = [file.blob.digest for file in made.files]
        self.files[digest] = [file.path for file in made.files]
        for file in made.files:
            self.detached[file.blob.digest] = file.path

    def remove(self, digest: str) -> None:
        """Blobs of others stay."""
        for table in (self.manifests, self.files, self.config, self.layers):
            table.pop(digest, None)
        used = {*self.config.values(), *(layer for layers in self.layers.values() for layer in layers or ())}
        self.detached = {key: path for key, path in self.detached.items() if key in used}
        self.blobs = {key: data for key, data in self.blobs.items() if key in used}

    def of_file(self, name: str) -> str:
        """The digest of the one artifact with this file, by its path or its last part; empty: there is none, or several."""
        found = [
            digest
            for digest, paths in self.files.items()
            if any(name in (path, os.path.basename(path)) for path in paths or ())
        ]
        return found[0] if len(found) == 1 else ""


class File(msgspec.Struct, frozen=True):
    path: str
    blob: Blob


class Made(msgspec.Struct, frozen=True):
    manifest: RawManifest
    config: Blob
    config_data: bytes
    files: tuple[File, ...]
    artifact_type: str


async def made(paths: Sequence[str], wish: Artifact, subject: Blob | None) -> Made:
    """An artifact of these files, at absolute paths. InvalidArgument: one is no file, or a type is none."""
    if not paths:
        raise InvalidArgument("cannot make an artifact: no file is named")
    for given in (wish.type, wish.config_type, wish.layer_type):
        if given and not _MEDIA_TYPE.fullmatch(given):
            raise InvalidArgument(f"cannot use '{given}' as a media type", subject=given)
    config_data = wish.config.encode() or _EMPTY
    if len(config_data) > _CONFIG_LIMIT:
        raise InvalidArgument(
            f"cannot make an artifact: its configuration has more than {_CONFIG_LIMIT} bytes"
        )
    kind = wish.config_type or (OCI_CONFIG if wish.config else _EMPTY_TYPE)
    config = Blob(f"sha256:{hashlib.sha256(config_data).hexdigest()}", len(config_data), kind)
    files = [await trio.to_thread.run_sync(_file, path, wish, limiter=limiter) for path in paths]
    artifact_type = wish.type or _UNKNOWN
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {**described_blob(config), "data": base64.b64encode(config_data).decode()},
        "layers": [described_blob(file.blob) for file in files],
    }
    if subject is not None:
        document["subject"] = described_blob(subject)
    manifest = RawManifest(msgspec.json.encode(document), OCI_MANIFEST)
    return Made(manifest, config, config_data, tuple(files), artifact_type)


def _file(path: str, wish: Artifact) -> File:
    if not os.path.isabs(path):
        raise InvalidArgument(f"cannot add the file '{path}': it is not an absolute path", subject=path)
    fd = _opened(path)
    try:
        hashed, size, head = hashlib.sha256(), 0, b""
        while piece := os.read(fd, _CHUNK):
            trio.from_thread.check_cancelled()
            head = head or piece[:_HEAD]
            hashed.update(piece)
            size += len(piece)
    except OSError as error:
        raise StorageFailed(f"cannot read '{path}': {error.strerror}", subject=path) from error
    finally:
        os.close(fd)
    name = os.path.basename(path)
    kind = wish.layer_type or _kind(name, head)
    titles = {} if wish.exclude_titles else {_TITLE: name}
    return File(path, Blob(f"sha256:{hashed.hexdigest()}", size, kind, titles))


def _opened(path: str) -> int:
    """InvalidArgument: it is no regular file that can be read."""
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise InvalidArgument(f"cannot read '{path}': {error.strerror}", subject=path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(f"cannot read '{path}': it is not a file", subject=path)
    return fd


# -- types of files ----------------------------------------------------------------------------

_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
    "compress": "application/x-compress",
}
_BEGINNINGS = (
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"OggS\x00", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
    (b"<?xml", "text/xml"),
    (b"\xef\xbb\xbf", "text/plain"),
    (b"\xfe\xff", "text/plain"),
    (b"\xff\xfe", "text/plain"),
)
_BINARY = frozenset({*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)})
"""Bytes that no text has."""


def _kind(name: str, head: bytes) -> str:
    """By the ending of its name, else by its first bytes."""
    by_name, encoding = mimetypes.guess_type(name, strict=False)
    found = _COMPRESSED.get(encoding, "") if encoding else by_name or ""
    if found:
        return found
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head.lstrip(b"\t\n\x0c\r ")[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "text/html"
    return "application/octet-stream" if _BINARY.intersection(head) else "text/plain"


# -- as a source -------------------------------------------------------------------------------


class ArtifactSource:
    """One artifact of a list as a `Source`."""

    def __init__(self, artifacts: Artifacts, digest: str) -> None:
        self.name = f"the artifact {digest}"
        self._artifacts = artifacts
        self._digest = digest

    async def manifest(self, digest: str = "") -> RawManifest:
        """DigestMismatch: it is not what the list says."""
        if digest not in ("", self._digest):
            raise ArchiveRefused(f"cannot find {digest} in {self.name}", subject=digest)
        data = self._artifacts.manifests[self._digest].encode()
        return RawManifest(verified(data, self._digest, self.name), OCI_MANIFEST)

    async def blob(self, blob: Blob) -> bytes:
        """ArchiveRefused: it is not kept beside the list. DigestMismatch."""
        text = self._artifacts.blobs.get(blob.digest)
        if text is None:
            async with self.layer(blob, lambda _: None) as feed:
                if feed.length > _CONFIG_LIMIT:
                    raise ArchiveRefused(f"cannot use {self.name}: its configuration is too large")
                data = await trio.to_thread.run_sync(os.pread, feed.fd, feed.length, 0, limiter=limiter)
        else:
            data = base64.b64decode(text)
        return verified(data, blob.digest, self.name)

    @asynccontextmanager
    async def layer(self, blob: Blob, report: Callable[[int], None]) -> AsyncIterator[Feed]:
        """Whoever reads it verifies it. InvalidArgument: its file is gone."""
        path = self._artifacts.detached.get(blob.digest)
        if path is None:
            raise ArchiveRefused(f"cannot find the file {blob.digest} of {self.name}", subject=blob.digest)
        fd = await trio.to_thread.run_sync(_opened, path, limiter=limiter)
        try:
            size = os.fstat(fd).st_size
            report(size)
            yield Feed(fd, 0, size)
        finally:
            os.close(fd)

    async def aclose(self) -> None:
        """Nothing is open between two files."""
