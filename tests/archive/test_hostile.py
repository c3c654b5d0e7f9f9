"""Layers that are meant to do harm: refused by a typed error, or harmless, and nothing outside of them touched.

Each is tried with the real program, by root and by an ordinary user in a user namespace.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.archive.layers import Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.archive.unpacker import Unpacker

PLAIN = Layer().file("file", b"data" * 1000).data()


def changed(layer: bytes, at: int, field: bytes, block: int = 0) -> bytes:
    """With other bytes in a header, and the right checksum."""
    data = bytearray(layer)
    start = 512 * block
    data[start + at : start + at + len(field)] = field
    data[start + 148 : start + 156] = b"        "
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def pax(records: bytes, layer: bytes = PLAIN, kind: bytes = b"x") -> bytes:
    """With a PAX header of these very bytes in front."""
    head = Layer(tarfile.USTAR_FORMAT).member("pax", kind, records).data()
    return head[: 512 + len(records) + -len(records) % 512] + layer


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (total, key, value)


ESCAPES = {
    "a name above the root": Layer().file("../canary", b"bad"),
    "a name above the root further in": Layer().file("a/../../canary", b"bad"),
    "a directory above the root": Layer().directory("..", mode=0o777),
    "a hard link to the outside": Layer().hard_link("link", "../../../outside/canary"),
    "a white-out of nothing": Layer().file(".wh."),
    "a white-out of the root": Layer().file(".wh.."),
    "a white-out of what is above": Layer().file("a/.wh..."),
    "a file in the place of the root": Layer().file("."),
    "a file through a file": Layer().file("a", b"1").file("a/b"),
    "a member twice": Layer().file("a", b"1").file("./a", b"2"),
    "a directory twice": Layer().directory("a").directory("a/"),
    "a white-out of what is there": Layer().file("a", b"1").file(".wh.a"),
    "a link to itself": Layer().hard_link("a", "a"),
    "a link to nothing": Layer().hard_link("a", "b"),
    "a link through a loop": Layer().symlink("a", "b").symlink("b", "a").file("a/c"),
    "an owner that cannot be": Layer().file("a", uid=0xFFFF_FFFF),
    "a name that is too long": Layer().file("/".join(["n" * 200] * 30)),
    "a part that is too long": Layer().file("n" * 300),
    "a path that is 10 000 deep": Layer().file("d/" * 10_000 + "f"),
    "a type that nobody knows": Layer().member("a", b"Z"),
}


@pytest.mark.parametrize("layer", ESCAPES.values(), ids=ESCAPES)
def test_what_reaches_where_it_must_not_is_refused(layer: Layer, unpacker: Unpacker) -> None:
    outcome = unpacker.unpack(layer.data())
    assert outcome.code == "ArchiveRefused", outcome.message
    assert outcome.message.startswith("cannot unpack ")


@pytest.mark.parametrize("target", ["/", "..", "../../..", "/proc/self/root", "../../outside"])
def test_writing_through_a_planted_link_stays_inside(target: str, unpacker: Unpacker) -> None:
    layer = Layer().symlink("out", target).file("out/planted/canary", b"bad").directory("out/dir", mode=0o777)
    outcome = unpacker.unpack(layer.data())
    assert outcome.code in ("", "ArchiveRefused")
    if not outcome.code:
        assert "planted/canary" in outcome.tree


def test_a_planted_link_is_not_followed_by_its_successor(unpacker: Unpacker) -> None:
    layer = (
        Layer()
        .directory("d")
        .symlink("d/canary", str(unpacker.canary))
        .symlink("e", "d")
        .file("e/canary", b"bad")
    )
    outcome = unpacker.unpack(layer.data())
    assert not outcome.code
    assert outcome.tree["d/canary"].endswith(" bad")


def test_links_to_the_outside_are_kept_as_they_are_and_followed_by_nobody(unpacker: Unpacker) -> None:
    layer = (
        Layer()
        .symlink("absolute", str(unpacker.canary), uid=1)
        .symlink("relative", "../../../outside/canary", gid=1)
        .hard_link("again", "absolute", uid=1)
    )
    outcome = unpacker.unpack(layer.data())
    assert not outcome.code, outcome.message
    assert outcome.tree["absolute"] == outcome.tree["again"] == f"-> {unpacker.canary}"


def test_absolute_names_are_names_in_the_layer(unpacker: Unpacker) -> None:
    outcome = unpacker.unpack(Layer().file(str(unpacker.canary), b"inside").data())
    assert not outcome.code
    assert outcome.tree[str(unpacker.canary)[1:]].endswith("inside")


def test_devices_are_made_by_root_alone(unpacker: Unpacker) -> None:
    layer = (
        Layer()
        .member("disk", tarfile.BLKTYPE, devmajor=8)
        .member("zero", tarfile.CHRTYPE, devmajor=1, devminor=5)
    )
    outcome = unpacker.unpack(layer.data())
    assert not outcome.code
    assert set(outcome.tree) == ({"disk", "zero"} if unpacker.user is None else set())


def test_marks_of_overlays_are_no_archives_to_set(unpacker: Unpacker) -> None:
    headers = {
        f"SCHILY.xattr.{name}": "y"
        for name in (
            "trusted.overlay.opaque",
            "user.overlay.opaque",
            "trusted.other",
            "user.fuseoverlayfs.opaque",
        )
    }
    layer = Layer().directory("d", pax_headers={**headers, "SCHILY.xattr.user.mine": "kept"})
    outcome = unpacker.unpack(layer.data())
    assert not outcome.code
    assert os.listxattr(outcome.diff / "d") == ["user.mine"]


def test_white_outs_and_owners_are_as_the_kernel_wants_them(unpacker: Unpacker) -> None:
    layer = Layer().directory("d", uid=7, gid=8).file("d/.wh.gone").file("d/.wh..wh..opq").file("d/f", uid=9)
    outcome = unpacker.unpack(layer.data())
    owner = unpacker.owner
    assert outcome.tree == {
        "d": f"drwxr-xr-x {owner(7, 8)}",
        "d/gone": f"c--------- {owner(0, 0)} 0,0",
        "d/f": f"-rw-r--r-- {owner(9, 0)} ",
    }
    mark = "user.overlay.opaque" if unpacker.user else "trusted.overlay.opaque"
    assert os.getxattr(outcome.diff / "d", mark) == b"y"


def test_white_outs_stay_files_where_fuse_overlayfs_reads_them(unpacker: Unpacker) -> None:
    layer = Layer().directory("d").file("d/.wh.gone").file("d/.wh..wh..opq")
    outcome = unpacker.unpack(layer.data(), whiteouts="none")
    assert set(outcome.tree) == {"d", "d/.wh.gone", "d/.wh..wh..opq"}
    assert outcome.tree["d/.wh.gone"].startswith("-rw-r--r--")


def test_an_owner_that_the_user_has_no_id_for_is_refused_with_advice(unpacker: Unpacker) -> None:
    layer = Layer().file("f", uid=2_000_000).data()
    outcome = unpacker.unpack(layer)
    if unpacker.user is None:
        assert not outcome.code
    else:
        assert outcome.code == "ArchiveRefused"
        assert "2000000:0 does not exist in this user namespace" in outcome.message
        assert "/etc/subuid" in outcome.hint
        ignored = unpacker.unpack(layer, ignore_chown_errors=True)
        assert not ignored.code
        assert ignored.tree["f"].startswith(f"-rw-r--r-- {unpacker.user.uid}:")


def old_sparse() -> bytes:
    """GNU's old format, whose map is in the header."""
    plain = Layer(tarfile.GNU_FORMAT).file("sparse", b"a" * 512 + b"b" * 512).data()
    pieces = b"%011o\0%011o\0" % (0, 512)
    pieces += b"\x80" + ((1 << 40) - 512).to_bytes(11, "big") + b"%011o\0" % 512
    size = b"\x80" + (1 << 40).to_bytes(11, "big")
    return changed(changed(changed(plain, 156, b"S"), 386, pieces), 483, size)


SPARSE = {
    "old": old_sparse(),
    "0.1": Layer(tarfile.PAX_FORMAT)
    .file(
        "sparse",
        b"a" * 512 + b"b" * 512,
        pax_headers={
            "GNU.sparse.map": f"0,512,{(1 << 40) - 512},512",
            "GNU.sparse.numblocks": "2",
            "GNU.sparse.size": str(1 << 40),
        },
    )
    .data(),
    "1.0": Layer(tarfile.PAX_FORMAT)
    .file(
        "GNUSparseFile.0/sparse",
        f"2\n0\n512\n{(1 << 40) - 512}\n512\n".encode().ljust(512, b"\0") + b"a" * 512 + b"b" * 512,
        pax_headers={
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.realsize": str(1 << 40),
        },
    )
    .data(),
}


@pytest.mark.parametrize("version", SPARSE)
def test_a_sparse_file_of_a_terabyte_takes_no_room(version: str, unpacker: Unpacker) -> None:
    outcome = unpacker.unpack(SPARSE[version])
    assert not outcome.code, outcome.message
    status = (outcome.diff / "sparse").stat()
    assert (status.st_size, status.st_blocks * 512 < 100_000) == (1 << 40, True)
    with open(outcome.diff / "sparse", "rb") as file:
        assert file.read(512) == b"a" * 512
        file.seek(-512, os.SEEK_END)
        assert file.read() == b"b" * 512


DAMAGED = {
    "truncated data": PLAIN[:2000],
    "truncated header": PLAIN[:300],
    "a negative size": changed(PLAIN, 124, b"\xff" * 12),
    "a size beyond measure": changed(PLAIN, 124, b"\x80" + b"\xff" * 11),
    "a size that is no number": changed(PLAIN, 124, b"12345679999\0"),
    "a wrong checksum": PLAIN[:100] + b"9" + PLAIN[101:],
    "one empty header": bytes(512) + PLAIN,
    "no archive": b"This is no archive. " * 100,
    "a PAX header without length": pax(b"path=x\n"),
    "a PAX record that is cut off": pax(b"99 path=x\n"),
    "a PAX record of length 0": pax(b"0 a=b\n"),
    "a NUL in a PAX path": pax(record(b"path", b"a\0b")),
    "a negative PAX size": pax(record(b"size", b"-1")),
    "a PAX size that is no number": pax(record(b"size", b"1e9")),
    "a PAX owner beyond measure": pax(record(b"uid", b"9" * 30)),
    "a PAX time that is no number": pax(record(b"mtime", b"now")),
    "a PAX header of 2 MiB": pax(record(b"comment", b"c" * (2 << 20))),
    "a long name of 2 MiB": pax(b"n" * (2 << 20), kind=b"L"),
    "endless extensions": b"".join(pax(record(b"a", b"b"), b"")[:1024] for _ in range(20)) + PLAIN,
    "an extension of nothing": pax(record(b"a", b"b"), b"")[:1024],
    "a sparse map out of order": pax(
        record(b"GNU.sparse.map", b"512,1,0,1")
        + record(b"GNU.sparse.numblocks", b"2")
        + record(b"GNU.sparse.size", b"2000")
    ),
    "a sparse map of half a pair": pax(
        record(b"GNU.sparse.map", b"512") + record(b"GNU.sparse.numblocks", b"1")
    ),
    "a sparse map with more than there is": pax(
        record(b"GNU.sparse.map", b"0,99999")
        + record(b"GNU.sparse.numblocks", b"1")
        + record(b"GNU.sparse.size", b"99999")
    ),
    "a sparse map of text": pax(
        record(b"GNU.sparse.major", b"1")
        + record(b"GNU.sparse.minor", b"0")
        + record(b"GNU.sparse.realsize", b"9")
    ),
    "truncated gzip": gzip.compress(PLAIN)[:-6],
    "gzip with a wrong checksum": gzip.compress(PLAIN)[:-8] + bytes(8),
    "gzip with rubbish behind it": gzip.compress(PLAIN) + b"rubbish" * 10,
    "truncated zstd": zstandard.compress(PLAIN)[:-3],
    "zstd with rubbish behind it": zstandard.compress(PLAIN) + b"rubbish" * 10,
    "truncated xz": lzma.compress(PLAIN)[:-8],
    "truncated bzip2": bz2.compress(PLAIN)[:-8],
    "zstd with a window of 2 GiB": b"\x28\xb5\x2f\xfd\x00\xa8" + zstandard.compress(PLAIN)[6:],
}


@pytest.mark.parametrize("layer", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_refused(layer: bytes, unpacker: Unpacker) -> None:
    outcome = unpacker.unpack(layer)
    assert outcome.code == "ArchiveRefused", outcome.message
    assert outcome.message.startswith("cannot unpack ")


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress, bytes])
def test_several_streams_in_a_row_are_one_archive(
    compress: Callable[[bytes], bytes], unpacker: Unpacker
) -> None:
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc" if compress is zstandard.compress else b""
    layer = compress(PLAIN[:700]) + skippable + compress(PLAIN[700:]) + skippable
    outcome = unpacker.unpack(layer, diff_id=digest_of(PLAIN), digest=digest_of(layer), size=len(layer))
    assert not outcome.code, outcome.message


WRONG = {"digest": digest_of(b""), "diff_id": digest_of(b""), "size": len(PLAIN) - 1}


@pytest.mark.parametrize("key", [*WRONG, "larger size"])
def test_content_that_is_not_what_was_asked_for_is_refused(key: str, unpacker: Unpacker) -> None:
    options = {"size": len(PLAIN) + 1} if key == "larger size" else {key: WRONG[key]}
    assert unpacker.unpack(PLAIN, **options).code == "DigestMismatch"


@pytest.mark.parametrize("compress", [zstandard.compress, lzma.compress, gzip.compress])
def test_memory_is_bounded_whatever_a_layer_expands_to(
    compress: Callable[[bytes], bytes], unpacker: Unpacker
) -> None:
    layer = Layer().file("zeros", bytes(150 << 20)).data()
    outcome = unpacker.unpack(compress(layer))
    assert not outcome.code
    assert outcome.answer["memory"] < 90 << 10  # KiB; a Python with its modules has 20 MiB
    (outcome.diff / "zeros").unlink()


def test_a_full_disk_is_told_as_one(unpacker: Unpacker, tmp_path: Path) -> None:
    if unpacker.user is not None:
        pytest.skip("the file system is root's to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        outcome = unpacker.unpack(Layer().file("big", bytes(2 << 20)).data(), target=tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert outcome.code == "DiskFull", outcome.message
