"""Unpacking layers, by the real program."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from pyman.errors import ArchiveRefused, DigestMismatch
from tests.archive.layers import Layer, digest_of, tree_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def test_every_kind_of_file_is_made_with_its_owner_mode_and_time(tmp_path: Path) -> None:
    data = (
        Layer()
        .directory("bin", mode=0o1777, uid=3, gid=4, mtime=1_500_000_000)
        .file("bin/su", b"program", mode=0o4755, uid=5)
        .symlink("bin/sh", "su", uid=7)
        .hard_link("bin/again", "bin/su", mode=0o4755, uid=5)
        .member("pipe", tarfile.FIFOTYPE, mode=0o600)
        .member("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        .member("disk", tarfile.BLKTYPE, devmajor=7, devminor=9, mode=0o660, gid=6)
        .file("deep/in/side", b"1")
        .data()
    )
    answer = await unpacked(data, tmp_path)
    diff = tmp_path / "diff"
    assert tree_of(diff) == {
        "bin": "drwxrwxrwt 3:4",
        "bin/su": "-rwsr-xr-x 5:0 program",
        "bin/sh": "-> su",
        "bin/again": "-rwsr-xr-x 5:0 program",
        "pipe": "prw------- 0:0",
        "null": "crw-rw-rw- 0:0 1,3",
        "disk": "brw-rw---- 0:6 7,9",
        "deep": "drwxr-xr-x 0:0",
        "deep/in": "drwxr-xr-x 0:0",
        "deep/in/side": "-rw-r--r-- 0:0 1",
    }
    assert (diff / "bin/su").stat().st_ino == (diff / "bin/again").stat().st_ino
    assert (diff / "bin").stat().st_mtime == 1_500_000_000
    assert (diff / "bin/sh").lstat().st_uid == 7
    assert answer.diff_id == answer.digest == digest_of(data)
    assert (answer.uids, answer.gids, answer.entries) == ([0, 3, 5, 7], [0, 4, 6], 8)


async def test_whiteouts_become_the_kernels(tmp_path: Path) -> None:
    data = Layer().directory("etc").file("etc/.wh.gone").file("var/.wh..wh..opq").file(".wh..wh.plnk").data()
    await unpacked(data, tmp_path)
    diff = tmp_path / "diff"
    assert tree_of(diff) == {
        "etc": "drwxr-xr-x 0:0",
        "etc/gone": "c--------- 0:0 0,0",
        "var": "drwxr-xr-x 0:0",
    }
    assert os.getxattr(diff / "var", "trusted.overlay.opaque") == b"y"


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.compress),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
    ],
)
async def test_compression_is_recognised(
    name: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    plain = Layer().file("a", os.urandom(300_000)).data()
    packed = compress(plain)
    answer = await unpacked(packed, tmp_path, digest=digest_of(packed), diff_id=digest_of(plain))
    assert (answer.compression, answer.size, answer.diff_size) == (name, len(packed), len(plain))


async def test_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match="its digest is"):
        await unpacked(Layer().file("a").data(), tmp_path, digest=digest_of(b"other"))


async def test_a_name_outside_of_the_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="outside of the archive"):
        await unpacked(Layer().file("../a").data(), tmp_path)
