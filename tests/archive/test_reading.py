"""The tar reader, without files: what Python's tarfile and GNU tar write, what is written here, and noise."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from supervisor.archive import building, members, restoring, tarsplit
from supervisor.archive.decompression import decompressed
from supervisor.archive.failures import Broken
from supervisor.archive.members import Member
from supervisor.archive.reading import Stream, TarReader
from tests.archive.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIECES = 250_000
QUICK = settings(deadline=None, derandomize=True, max_examples=50)

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda text: text not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=8).map("/".join)
ids = st.integers(0, 1 << 31)


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes) -> list[tuple[Member, bytes]]:
    """Every member with its data; the raw bytes and the data together are the archive."""
    stream = Stream(pieces(data))
    reader = TarReader(stream)
    found = []
    whole = b""
    while (member := reader.next()) is not None:
        whole += b"".join(reader.raw)
        reader.raw.clear()
        content = stream.take(member.size)
        if len(content) < member.size:
            raise Broken("it ends in the middle of a file")
        whole += content
        found.append((member, content))
    whole += b"".join(reader.raw)
    while piece := stream.some(1000):
        whole += piece
    assert whole == data
    return found


@given(
    st.lists(st.tuples(paths, st.binary(max_size=2000), ids, ids, st.integers(0, 0o7777)), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
@settings(QUICK)
def test_what_tarfile_writes_is_read(files: list[tuple[str, bytes, int, int, int]], kind: int) -> None:
    layer = Layer(kind)
    for name, data, uid, gid, mode in files:
        layer.file(name, data, uid=uid, gid=gid, mode=mode)
    found = [(m.name.decode(), data, m.uid, m.gid, m.mode) for m, data in read(layer.data())]
    assert found == files


@st.composite
def member_of(draw: st.DrawFn) -> Member:
    made = Member()
    made.kind = draw(st.sampled_from(sorted(b"0123456")))
    made.name = draw(paths).encode()
    if made.kind == members.DIRECTORY:
        made.name += b"/"
    if made.kind in (members.SYMLINK, members.HARD_LINK):
        made.link = draw(paths).encode()
    if made.kind in (members.CHARACTER_DEVICE, members.BLOCK_DEVICE):
        made.major, made.minor = draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20))
    made.mode, made.uid, made.gid = draw(st.integers(0, 0o7777)), draw(ids), draw(ids)
    made.mtime = draw(st.integers(-(1 << 40), 1 << 40)) * 1_000_000_000
    keys = st.text("abc.def", min_size=1).map(lambda text: b"user." + text.encode())
    xattrs = draw(st.dictionaries(keys, st.binary(max_size=50), max_size=3))
    made.xattrs = sorted(xattrs.items()) or None
    return made


def fields(member: Member) -> dict[str, object]:
    return {key: getattr(member, key) for key in Member.__slots__}


@given(st.lists(member_of(), max_size=4))
@settings(QUICK)
def test_what_is_written_here_is_read(written: list[Member]) -> None:
    data = b"".join(building.header(member) for member in written) + building.END
    assert [fields(member) for member, _ in read(data)] == [fields(member) for member in written]


@given(st.lists(member_of(), max_size=4))
@settings(QUICK)
def test_what_is_written_here_is_read_by_tarfile(written: list[Member]) -> None:
    data = b"".join(building.header(member) for member in written) + building.END
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = [(m.name, m.type, m.uid, m.gid, m.mode) for m in tar]
    assert found == [
        (m.name.decode("utf-8", "surrogateescape").rstrip("/"), bytes([m.kind]), m.uid, m.gid, m.mode)
        for m in written
    ]


SEED = (
    Layer()
    .file("a" * 120, b"data", pax_headers={"SCHILY.xattr.user.x": "y", "mtime": "1.5"})
    .symlink("link", "b" * 200)
    .data()[:6000]
)


@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.binary(min_size=1, max_size=12)), max_size=6))
@settings(QUICK, max_examples=300)
def test_noise_in_an_archive_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(SEED)
    for at, noise in changes:
        data[at : at + len(noise)] = noise
    for block in range(0, len(data) - 511, 512):  # so that it gets further than the checksum
        if data[block + 257 : block + 262] == b"ustar":
            data[block + 148 : block + 156] = b"        "
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    try:
        read(bytes(data))
    except Broken:
        return


@given(st.binary(max_size=3000), st.sampled_from(["gzip", "zstd", "bzip2", "xz"]))
@settings(QUICK)
def test_noise_is_no_compressed_stream(noise: bytes, compression: str) -> None:
    start = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh9", "xz": b"\xfd7zXZ\0"}[
        compression
    ]
    try:
        for piece in decompressed(compression, pieces(start + noise)):
            assert len(piece) <= 1 << 20
    except Broken:
        return


@given(
    parts=st.lists(
        st.one_of(st.binary(max_size=100), st.tuples(paths, st.integers(1, 1 << 40), st.integers(0, 1 << 63)))
    )
)
@settings(QUICK)
def test_a_tar_split_file_gives_back_what_it_was_given(
    parts: list[bytes | tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("split") / "file"
    with open(path, "wb") as file:
        writer = tarsplit.Writer(file.fileno())
        for part in parts:
            if isinstance(part, bytes):
                writer.keep(part)
            else:
                writer.file(part[0].encode(), part[1], part[2])
                writer.file(b"no data \xff", 0, 0)
        writer.finish()
    found = [
        part if isinstance(part, bytes) else (part.name.decode(), part.size, part.crc)
        for part in restoring.read(pieces(path.read_bytes()))
    ]
    assert found == [part for part in parts if part]


@pytest.mark.parametrize(
    "noise", [b"{}", b"[]", b"1", b'{"type":1,"size":5}', b'{"type":2,"payload":"?"}', b"\xff"]
)
def test_what_is_no_tar_split_file_is_refused(noise: bytes) -> None:
    data = isal_zlib.compress(noise + b"\n", 1, 31)
    with pytest.raises(Broken, match="damaged"):
        list(restoring.read(pieces(data)))


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=pax"], ["--format=v7"], ["--format=ustar"]])
def test_what_gnu_tar_writes_is_read(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("directory/file")
    done = subprocess.run(
        ["tar", "-C", tmp_path, *options, "--sort=name", "-c", "directory", "link"],
        capture_output=True,
        check=True,
    )
    found = [(m.name, m.kind, m.link, data) for m, data in read(done.stdout)]
    assert found == [
        (b"directory/", members.DIRECTORY, b"", b""),
        (b"directory/file", members.REGULAR, b"", b"content"),
        (b"link", members.SYMLINK, b"directory/file", b""),
    ]


@pytest.mark.parametrize("version", ["old", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar_are_read(version: str, tmp_path: Path) -> None:
    pieces_of_it = [(1 << 20) * number for number in range(1, 40, 2)]
    with open(tmp_path / "sparse", "wb") as file:
        for at in pieces_of_it:
            file.seek(at)
            file.write(b"x" * 4096)
        file.truncate(50 << 20)
    style = ["--format=gnu"] if version == "old" else ["--format=pax", f"--sparse-version={version}"]
    done = subprocess.run(
        ["tar", "-C", tmp_path, *style, "-S", "-c", "sparse"], capture_output=True, check=True
    )
    [(member, data)] = read(done.stdout)
    assert (member.name, member.real_size, len(data)) == (b"sparse", 50 << 20, 4096 * len(pieces_of_it))
    assert [piece for piece in member.sparse or () if piece[1]] == [(at, 4096) for at in pieces_of_it]


def test_a_prefix_that_stands_where_gnu_has_times_is_read_as_go_reads_it() -> None:
    block = bytearray(Layer(tarfile.GNU_FORMAT).file("name").data()[:512])
    block[345:352] = b"usr/lib"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    assert members.basic(bytes(block)).name == b"usr/lib/name"


def test_a_long_map_of_a_sparse_file_is_read_once() -> None:
    """A map is looked through once, and not again with every block of it: a layer may have many such files."""
    text = b"%d\n" % PIECES + b"0\n0\n" * PIECES
    text += bytes(-len(text) % 512)
    keys = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    began = time.process_time()
    [(member, content)] = read(Layer().file("f", text + b"data", pax_headers=keys).data())
    assert time.process_time() - began < 3
    assert member.sparse == [(0, 0)] * PIECES
    assert content == b"data"
