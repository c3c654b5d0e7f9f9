"""The same layers by Podman and by pyman: one tree, one tar-split, one digest."""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from supervisor.archive import jobs
from tests.archive.layers import Layer, digest_of, tree_of, unpacked, written
from tests.archive.test_hostile import SPARSE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.archive.podman import Podman

CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"


def assorted(kind: int) -> bytes:
    layer = (
        Layer(kind)
        .directory(".", mode=0o700)
        .directory("bin", mode=0o2755, uid=3, gid=4, mtime=1_500_000_000)
        .file("bin/su", b"program" * 100, mode=0o4755, uid=5)
        .file("bin/plain", b"in a set-gid directory", gid=9)
        .directory("bin/below")
        .symlink("bin/sh", "su", uid=7)
        .hard_link("bin/again", "bin/su", mode=0o4755, uid=5)
        .hard_link("bin/sh2", "bin/sh", uid=7)
        .symlink("lib", "usr/lib")
        .directory("usr/lib", mode=0o711)
        .file("lib/through-a-link", b"x" * 5000)
        .symlink("out", "../../../../etc/passwd")
        .member("pipe", tarfile.FIFOTYPE, mode=0o600)
        .member("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        .file("/absolute", b"is inside")
        .file("./with/./dots/../and//slashes", b"is cleaned")
        .file("deep/in/side", b"1")
        .file("empty")
        .file("unreadable", b"by its owner", mode=0)
        .file("big", os.urandom(3_000_000), mtime=1_234_567_890)
        .file("etc/.wh.gone")
        .file("var/.wh..wh..opq")
        .file(".wh.left/.wh.inner")
        .file("a" * 70 + "/" + "b" * 70 + "/" + "c" * 90, b"long name")
    )
    if kind == tarfile.PAX_FORMAT:
        layer.file("d" * 120 + "/" + "e" * 200, b"longer name")
        layer.file("café", b"not ASCII", mtime=1_600_000_000.123456)
        layer.file(
            "ping",
            b"capable",
            pax_headers={
                "SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1"),
                "SCHILY.xattr.user.note": "hello",
            },
        )
        layer.directory("noted", pax_headers={"SCHILY.xattr.user.note": "directory"})
        layer.file("large ids", uid=3_000_000, gid=4_000_000)
    if kind == tarfile.GNU_FORMAT:
        layer.file("f" * 120 + "/" + "g" * 200, b"longer name")
        layer.symlink("to far away", "/".join(["h" * 99] * 3))
        layer.file("large ids", uid=3_000_000, gid=4_000_000)
        layer.file("caf\udce9", b"not UTF-8")
    return layer.data()


def described(top: Path) -> Mapping[str, tuple[str, float, dict[str, bytes]]]:
    """As `tree_of`, with times (but of directories that the archive does not name) and attributes."""
    found = {}
    for name, text in tree_of(top).items():
        path = top / name
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (text, round(path.lstat().st_mtime, 6), attributes)
    return found


KINDS = pytest.mark.parametrize(
    "kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)


@KINDS
async def test_podman_and_pyman_unpack_the_same_tree(kind: int, podman: Podman, tmp_path: Path) -> None:
    layer = assorted(kind)
    podman.load([layer])
    theirs = described(podman.layer(layer)[0])
    await unpacked(layer, tmp_path)
    ours = described(tmp_path / "diff")
    now = 1_700_000_000
    assert {name: row if row[1] < now else (row[0], row[2]) for name, row in ours.items()} == {
        name: row if row[1] < now else (row[0], row[2]) for name, row in theirs.items()
    }


@KINDS
async def test_a_layer_that_podman_has_unpacked_is_packed_with_its_digest(
    kind: int, podman: Podman, tmp_path: Path
) -> None:
    layer = assorted(kind)
    podman.load([layer])
    diff, split = podman.layer(layer)
    with written(tmp_path / "packed") as out:
        packed = await jobs.pack(str(diff), str(split), out)
    assert (tmp_path / "packed").read_bytes() == layer
    assert packed == jobs.Packed(digest_of(layer), len(layer), digest_of(layer), len(layer))


@KINDS
async def test_a_layer_that_pyman_has_unpacked_is_saved_by_podman_byte_for_byte(
    kind: int, podman: Podman, tmp_path: Path
) -> None:
    layer = assorted(kind) + bytes(7000) + b"behind the end"
    podman.load([layer])
    diff, split = podman.layer(layer)
    shutil.rmtree(diff)
    split.unlink()
    await unpacked(layer, tmp_path)
    (tmp_path / "diff").rename(diff)
    (tmp_path / "tar-split.gz").rename(split)
    assert podman.saved() == [layer]


@pytest.mark.parametrize("version", SPARSE)
async def test_a_layer_with_a_sparse_file_is_packed_as_it_was(version: str, tmp_path: Path) -> None:
    layer = SPARSE[version]
    await unpacked(layer, tmp_path)
    with written(tmp_path / "packed") as out:
        packed = await jobs.pack(str(tmp_path / "diff"), str(tmp_path / "tar-split.gz"), out)
    assert (packed.diff_id, (tmp_path / "packed").read_bytes()) == (digest_of(layer), layer)
