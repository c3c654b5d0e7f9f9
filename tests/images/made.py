"""Images made by hand or by the real programs, and archives of them, good ones and others."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.storage.others import Others

__all__ = ["Image", "archive_of", "built", "digest_of", "image", "layer"]

Content = bytes | str


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def archive_of(members: Mapping[str, Content] | list[tuple[str, Content]]) -> bytes:
    """A tar archive; text is the target of a symbolic link."""
    out = io.BytesIO()
    listed = list(members.items()) if not isinstance(members, list) else members
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in listed:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layer(name: str = "file", content: bytes = b"content") -> bytes:
    return archive_of({name: content})


class Image:
    """One of these layers, with its documents."""

    def __init__(self, *layers: bytes, compress: bool = False, **config: Any) -> None:
        self.diffs = list(layers)
        self.blobs = [gzip.compress(each, mtime=0) for each in layers] if compress else list(layers)
        self.config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2024-01-02T03:04:05Z",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]},
                "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "hand"} for _ in layers],
            }
        ).encode()
        kind = "application/vnd.oci.image"
        suffix = "+gzip" if compress else ""
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{kind}.manifest.v1+json",
                "config": self._described(f"{kind}.config.v1+json", self.config),
                "layers": [self._described(f"{kind}.layer.v1.tar{suffix}", each) for each in self.blobs],
            }
        ).encode()

    @staticmethod
    def _described(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    @property
    def id(self) -> str:
        return digest_of(self.config).partition(":")[2]

    def docker(self, *tags: str, **changed: Any) -> dict[str, Content]:
        """Members of an archive as `docker save` makes it; keywords replace fields of its manifest.json."""
        names = [f"{digest_of(each)[7:]}.tar" for each in self.diffs]
        item = {"Config": f"{self.id}.json", "RepoTags": list(tags), "Layers": names, **changed}
        return {
            **dict(zip(names, self.blobs, strict=True)),
            f"{self.id}.json": self.config,
            "manifest.json": json.dumps([item]).encode(),
        }

    def layout(self, *names: str) -> dict[str, Content]:
        """Members of an image layout that lists the image once for each name."""
        entry: dict[str, Any] = self._described("application/vnd.oci.image.manifest.v1+json", self.manifest)
        entries = [
            {**entry, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names
        ] or [entry]
        blobs = {
            f"blobs/sha256/{digest_of(each)[7:]}": each for each in (*self.blobs, self.config, self.manifest)
        }
        return {
            **blobs,
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": entries}).encode(),
        }

    def directory(self) -> dict[str, Content]:
        """Files of the dir: form."""
        blobs = {digest_of(each)[7:]: each for each in (*self.blobs, self.config)}
        return {**blobs, "manifest.json": self.manifest, "version": b"Directory Transport Version: 1.1\n"}

    def legacy(self, name: str, tag: str) -> dict[str, Content]:
        """Members of an archive from before Docker 1.10."""
        members: dict[str, Content] = {}
        parent = ""
        for number, each in enumerate(self.diffs):
            id = hashlib.sha256(f"{parent}{number}".encode()).hexdigest()
            document: dict[str, Any] = {"id": id, "created": "2014-01-02T03:04:05Z", "os": "linux"}
            document |= {"parent": parent} if parent else {}
            document |= {"architecture": "amd64", "config": {"Cmd": ["sh"]}}
            document["container_config"] = {"Cmd": ["/bin/sh", "-c", f"step {number}"]}
            members |= {f"{id}/VERSION": b"1.0", f"{id}/json": json.dumps(document).encode()}
            members[f"{id}/layer.tar"] = each
            parent = id
        members["repositories"] = json.dumps({name: {tag: parent}}).encode()
        return members


def image(*, compress: bool = False) -> Image:
    return Image(layer("one", os.urandom(3000)), layer("two", b"2"), compress=compress, Cmd=["sh"])


def write(directory: Path, members: Mapping[str, Content]) -> Path:
    """The members as files."""
    for name, content in members.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    return directory


def built(others: Others, scratch: Path) -> str:
    """Two layers, made by Buildah: `localhost/made:2` upon `localhost/made:1`."""
    (scratch / "one").write_bytes(os.urandom(300_000))
    made = others.buildah("from", "scratch")
    others.buildah("copy", made, str(scratch / "one"), "/bin/one")
    others.buildah("config", "--label", "a=b", "--cmd", "sh", made)
    others.buildah("commit", "-q", made, "localhost/made:1")
    others.buildah("rm", made)
    made = others.buildah("from", "localhost/made:1")
    others.buildah("copy", made, "/bin/busybox", "/bin/sh")
    others.buildah("commit", "-q", made, "localhost/made:2")
    others.buildah("rm", made)
    return "localhost/made:2"
