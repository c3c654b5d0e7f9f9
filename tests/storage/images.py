"""Layers and images made by hand, for a store and for the engines beside it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
from typing import TYPE_CHECKING

import msgspec
from fastcrc import crc64

from supervisor.storage import bigdata
from supervisor.storage.layers import layer_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.storage.layers import Staged
    from supervisor.storage.records import Image, Layer
    from supervisor.storage.store import Store

__all__ = ["Facts", "add_image", "add_layer", "fill", "tar_of"]

CREATED = "2024-02-29T12:30:00.123456789Z"


class Facts(msgspec.Struct):
    diff_id: str
    diff_size: int
    digest: str
    size: int
    compression: str = "none"
    uids: tuple[int, ...] = (0,)
    gids: tuple[int, ...] = (0,)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive; a path ending in / is a directory, `->` in content of None is not needed here."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _tar_split(data: bytes) -> bytes:
    lines: list[dict[str, object]] = []
    at = 0

    def segment(end: int) -> None:
        lines.append({"type": 2, "payload": base64.b64encode(data[at:end]).decode(), "position": len(lines)})

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            segment(member.offset_data)
            at = member.offset_data
            name = member.name + ("/" if member.isdir() else "")
            entry: dict[str, object] = {"type": 1, "name": name, "payload": None, "position": len(lines)}
            if member.size:
                content = data[at : at + member.size]
                entry["size"] = member.size
                entry["payload"] = base64.b64encode(struct.pack(">Q", crc64.go_iso(content))).decode()
                at += member.size
            lines.append(entry)
        segment(len(data))
    return gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode())


def fill(staged: Staged, data: bytes) -> Facts:
    """What the program that unpacks does."""
    subprocess.run(["tar", "-x", "-p", "-C", staged.diff], input=data, check=True)
    with open(staged.tar_split, "wb") as file:
        file.write(_tar_split(data))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Facts(digest, len(data), digest, len(data))


def add_layer(store: Store, files: Mapping[str, bytes], parent: str = "") -> Layer:
    staged = store.staging()
    facts = fill(staged, tar_of(files))
    return store.commit_layer(staged, layer_id(parent, facts.diff_id), parent, facts)


def add_image(store: Store, names: Sequence[str], chain: Sequence[Layer], command: str = "sh") -> Image:
    """An image of these layers, the base first."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {"Cmd": [command]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in chain]},
            "history": [{"created": CREATED, "created_by": "by hand"} for _ in chain],
        }
    ).encode()
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _described(f"{kind}.config.v1+json", bigdata.digest_of(config), len(config)),
            "layers": [
                _described(f"{kind}.layer.v1.tar", layer.compressed_digest, layer.compressed_size)
                for layer in chain
            ],
        }
    ).encode()
    return store.put_image(
        bigdata.digest_of(config).partition(":")[2],
        names,
        chain[-1].id if chain else "",
        bigdata.of_image(manifest, config),
        digest=bigdata.digest_of(manifest),
        created=CREATED,
        metadata=bigdata.metadata_of(manifest),
    )


def _described(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def busybox() -> dict[str, bytes]:
    with open("/bin/busybox", "rb") as file:
        content = file.read()
    return {"bin/": b"", "bin/sh": content, "etc/": b"", "etc/name": os.urandom(8).hex().encode()}
