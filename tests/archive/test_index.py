"""What is where in an archive of images."""

from __future__ import annotations

import gzip
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pyman.errors import ArchiveRefused
from supervisor.archive import jobs
from supervisor.images.transports.archived import Archived
from tests.archive.layers import Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVE = (
    Layer()
    .file("./manifest.json", b"[]")
    .directory("abc")
    .file("abc/layer.tar", b"layer" * 500)
    .symlink("def/layer.tar", "../abc/layer.tar")
    .hard_link("ghi/layer.tar", "abc/layer.tar")
    .symlink("out", "../../../etc/passwd")
    .symlink("loop", "loop")
    .data()
)


@contextmanager
def memory(data: bytes = b"") -> Iterator[int]:
    fd = os.memfd_create("archive")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield fd
    finally:
        os.close(fd)


def check(contents: jobs.Contents, fd: int) -> None:
    found = Archived("archive", fd, contents.members)

    def data(name: str) -> bytes | None:
        part = found.find(name)
        return None if part is None else os.pread(fd, part.size, part.offset)

    assert data("manifest.json") == b"[]"
    assert data("abc/layer.tar") == data("def/layer.tar") == data("ghi/layer.tar") == b"layer" * 500
    assert data("out") is data("loop") is data("nowhere") is data("abc") is None


async def test_an_uncompressed_file_is_indexed_in_place() -> None:
    with memory(ARCHIVE) as fd, memory() as spool:
        contents = await jobs.index(fd, spool)
        assert not contents.spooled
        assert os.fstat(spool).st_size == 0
        check(contents, fd)


async def test_a_compressed_file_is_indexed_in_a_spool_file() -> None:
    with memory(gzip.compress(ARCHIVE)) as fd, memory() as spool:
        contents = await jobs.index(fd, spool)
        assert contents.spooled
        check(contents, spool)


async def test_an_archive_from_a_pipe_is_indexed_in_a_spool_file() -> None:
    read_end, write_end = os.pipe()

    def fill() -> None:
        with open(write_end, "wb") as pipe:
            pipe.write(ARCHIVE)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        with memory() as spool:
            contents = await jobs.index(read_end, spool)
            assert contents.spooled
            check(contents, spool)
    finally:
        os.close(read_end)
        thread.join()


async def test_a_stream_is_kept_as_it_comes() -> None:
    packed = gzip.compress(ARCHIVE)
    with memory(packed) as fd, memory() as spool:
        answer = await jobs.spool(fd, spool)
        assert answer == jobs.Spooled(len(packed), digest_of(packed), "gzip")
        assert os.pread(spool, len(packed) + 1, 0) == packed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no archive at all" * 100, "no tar archive"),
        (ARCHIVE[:3400], "in the middle of a member"),
        (gzip.compress(ARCHIVE)[:60], "cut off"),
        (Layer().file("n" * 2000).data(), "is too long"),
    ],
    ids=["text", "truncated", "truncated gzip", "long name"],
)
async def test_what_is_no_archive_is_refused(data: bytes, reason: str) -> None:
    with memory(data) as fd, memory() as spool, pytest.raises(ArchiveRefused, match=reason):
        await jobs.index(fd, spool)
