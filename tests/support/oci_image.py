"""Images made from nothing, as OCI image layouts: their content is the same in every run."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["File", "big_image", "files_of", "write_layout"]

_WORDS = [random.Random(7).randbytes(6).hex()[: 3 + n % 9] for n in range(4000)]


@dataclass(frozen=True)
class File:
    """`data` None: a directory."""

    name: str
    data: bytes | None
    mode: int = 0o644


def files_of(seed: int, number: int, size: int) -> list[File]:
    """So many small files in directories of fifty, of about `size` bytes each, which compress as texts do."""
    chance = random.Random(seed)
    found: list[File] = []
    for count in range(number):
        if count % 50 == 0:
            found.append(File(f"srv/{seed}/{count // 50:04}", None, 0o755))
        length = max(8, size * chance.randint(20, 180) // 100)
        words = " ".join(chance.choices(_WORDS, k=length // 10))
        data = f"{words} {chance.randbytes(length // 10).hex()}".encode()
        found.append(File(f"srv/{seed}/{count // 50:04}/{count:06}.txt", data))
    return found


def big_image(base: Path) -> list[list[File]]:
    """Four layers of together about 150 MB and 16 000 files, on a root file system."""
    chance = random.Random(3)
    root = [
        File(str(path.relative_to(base)), None if path.is_dir() else path.read_bytes(), 0o755)
        for path in sorted(base.rglob("*"))
        if not path.is_symlink()
    ]
    libraries = [File("usr/lib", None, 0o755)]
    libraries += [
        File(f"usr/lib/lib{n}.so", (chance.randbytes(1 << 19) + bytes(1 << 19)) * 2, 0o755) for n in range(30)
    ]
    return [root, libraries, files_of(1, 10_000, 4_500), files_of(2, 6_000, 6_000)]


def _layer(files: Sequence[File]) -> tuple[bytes, str]:
    """The compressed layer, and the digest of what it was."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.name)
            member.mode, member.mtime = file.mode, 1_700_000_000
            if file.data is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(file.data)
                archive.addfile(member, io.BytesIO(file.data))
    data = buffer.getvalue()
    return gzip.compress(data, 6, mtime=0), f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_layout(
    directory: Path,
    layers: Sequence[Sequence[File]],
    *,
    name: str = "latest",
    config: dict[str, Any] | None = None,
) -> str:
    """Write an image layout and return the digest of its manifest."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    written, ids = [], []
    for files in layers:
        data, diff_id = _layer(files)
        written.append(put(data, "application/vnd.oci.image.layer.v1.tar+gzip"))
        ids.append(diff_id)
    configuration = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config or {"Cmd": ["/bin/busybox", "true"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"step {n}"} for n in range(len(ids))],
    }
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": written,
    }
    entry = put(json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"])
