"""The files that an image has besides its layers: manifests, its configuration, signatures; by their keys.

A manifest is there twice, by its digest and as `manifest`; the configuration by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import StorageFailed
from supervisor.kernel import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "MANIFEST",
    "digest_of",
    "file_name",
    "manifest_key",
    "metadata_of",
    "of_image",
    "read",
    "write_all",
]

MANIFEST = "manifest"
_PLAIN = frozenset(".0123456789abcdefghijklmnopqrstuvwxyz")
_MOST = 64 << 20
"""Bytes of a file that is read."""


def file_name(key: str) -> str:
    """What other engines call the file."""
    if key and _PLAIN.issuperset(key):
        return key
    return "=" + base64.b64encode(key.encode()).decode("ascii")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest_key(digest: str) -> str:
    return f"manifest-{digest}"


def of_image(
    manifest: bytes, config: bytes | None, *, listed: bytes | None = None, signatures: Sequence[bytes] = ()
) -> dict[str, bytes]:
    """The data of an image: its manifest, its configuration (None: it is a manifest list), and `listed`: the manifest
    list by which it was found."""
    found: dict[str, bytes] = {}
    if config is not None:
        found[digest_of(config)] = config
    if listed is not None and listed != manifest:
        found[manifest_key(digest_of(listed))] = listed
    digest = digest_of(manifest)
    found[manifest_key(digest)] = manifest
    found[MANIFEST] = manifest
    if signatures:
        joined = b"".join(signatures)
        found["signatures"] = joined
        found[f"signature-{digest.partition(':')[2]}"] = joined
    return found


def metadata_of(manifest: bytes, signatures: Sequence[bytes] = ()) -> str:
    """The `metadata` of its record, by which the signatures are told apart again."""
    sizes = [len(signature) for signature in signatures]
    fields: dict[str, object] = {"signatures-sizes": {digest_of(manifest): sizes}}
    if sizes:
        fields = {"signature-sizes": sizes, **fields}
    return msgspec.json.encode(fields).decode()


def read(directory: str, key: str) -> bytes:
    """StorageFailed: also if there is none."""
    path = f"{directory}/{file_name(key)}"
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise files.storage_error(error, f"read '{key}' of an image in", directory) from error
    if len(data) > _MOST:
        raise StorageFailed(f"cannot read '{path}': it is larger than {_MOST >> 20} MiB", subject=path)
    return data


def write_all(directory: str, data: Mapping[str, bytes]) -> None:
    """Into a directory that nobody uses yet; it has reached the disk on return. StorageFailed, DiskFull."""
    for key, value in data.items():
        path = f"{directory}/{file_name(key)}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                rest = memoryview(value)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise files.storage_error(error, "write", path) from error
