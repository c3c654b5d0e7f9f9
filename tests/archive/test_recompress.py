"""Layers that are compressed otherwise than they come."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest
import zstandard

from pyman.errors import ArchiveRefused, DigestMismatch, StorageFailed
from supervisor.archive import jobs
from tests.archive.layers import Layer, digest_of, feed_of, written

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Layer().file("file", b"content" * 10_000).data()
FORMS = {"none": PLAIN, "gzip": gzip.compress(PLAIN), "zstd": zstandard.compress(PLAIN)}


def opened(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if compression == "zstd" else data


@pytest.mark.parametrize("present", FORMS)
@pytest.mark.parametrize("wanted", ["none", "gzip", "zstd"])
async def test_it_is_the_same_archive_in_another_compression(
    tmp_path: Path, present: str, wanted: jobs.Compression
) -> None:
    data = FORMS[present]
    with feed_of(data) as feed, written(tmp_path / "out") as out:
        packed = await jobs.recompress(
            feed, out, digest=digest_of(data), size=len(data), compression=wanted, level=1
        )
    made = (tmp_path / "out").read_bytes()
    assert (packed.digest, packed.size) == (digest_of(made), len(made))
    assert (packed.diff_id, packed.diff_size) == (digest_of(PLAIN), len(PLAIN))
    assert opened(made, wanted) == PLAIN


@pytest.mark.parametrize(
    ("data", "digest", "error"),
    [
        (FORMS["gzip"], digest_of(b"other"), DigestMismatch),
        (FORMS["gzip"][:-20], digest_of(FORMS["gzip"][:-20]), ArchiveRefused),
        (FORMS["zstd"][:200] + b"x" * 50, "", ArchiveRefused),
    ],
    ids=["another digest", "cut off", "damaged"],  # the data has the time in it, and each worker its own
)
async def test_what_is_damaged_is_refused(
    tmp_path: Path, data: bytes, digest: str, error: type[Exception]
) -> None:
    with feed_of(data) as feed, written(tmp_path / "out") as out, pytest.raises(error):
        await jobs.recompress(feed, out, digest=digest or digest_of(data), compression="zstd")


async def test_nobody_reads_it_any_more() -> None:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.close(reading)
    try:
        with feed_of(os.urandom(1 << 20)) as feed, pytest.raises(StorageFailed, match="nobody reads"):
            await jobs.recompress(feed, writing, digest="", compression="none")
    finally:
        os.close(writing)
