"""Podman's store, for comparison: the same layers in it, and what it makes of ours."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

from tests.archive.layers import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Podman", "docker_archive"]


def docker_archive(layers: Sequence[bytes], name: str = "localhost/layers:latest") -> bytes:
    """An image of these uncompressed layers, as `podman load` takes it."""
    out = io.BytesIO()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created": "2020-01-01T00:00:00Z"} for _ in layers],
        }
    ).encode()
    config_name = digest_of(config).partition(":")[2] + ".json"
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": names}]).encode()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, data in (
            (config_name, config),
            *zip(names, layers, strict=True),
            ("manifest.json", manifest),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Podman:
    """One with a store of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "root"

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        argv = [
            "podman",
            f"--root={self.root}",
            f"--runroot={self.place / 'run'}",
            f"--tmpdir={self.place / 'tmp'}",
        ]
        argv += [
            "--storage-driver=overlay",
            "--events-backend=file",
            "--cgroup-manager=cgroupfs",
            "--runtime=runc",
        ]
        done = subprocess.run([*argv, *words], capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def load(self, layers: Sequence[bytes], name: str = "localhost/layers:latest") -> None:
        file = self.place / "load.tar"
        file.write_bytes(docker_archive(layers, name))
        self.run("load", "--quiet", "--input", str(file))

    def layer(self, data: bytes) -> tuple[Path, Path]:
        """The directory and the tar-split file of the layer with these bytes."""
        records = json.loads((self.root / "overlay-layers/layers.json").read_text())
        found = next(record["id"] for record in records if record.get("diff-digest") == digest_of(data))
        return self.root / "overlay" / found / "diff", self.root / "overlay-layers" / f"{found}.tar-split.gz"

    def saved(self, name: str = "localhost/layers:latest") -> list[bytes]:
        """The layers of an image as Podman exports them."""
        file = self.place / "save.tar"
        file.unlink(missing_ok=True)
        self.run("save", "--quiet", "--output", str(file), name)
        with tarfile.open(file) as tar:
            described = tar.extractfile("manifest.json")
            assert described is not None
            found = []
            for member in json.loads(described.read())[0]["Layers"]:
                layer = tar.extractfile(member)
                assert layer is not None
                found.append(layer.read())
        return found

    def close(self) -> None:
        self.run("rmi", "--all", "--force", check=False)
        for directory in (self.root / "overlay", self.root):
            subprocess.run(["umount", "--lazy", str(directory)], capture_output=True, check=False)
