"""Tar archives written to files and to pipes."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import StorageFailed
from supervisor.images.transports.tarring import TarWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = os.urandom(3_000_001)


async def _fill(writer: TarWriter, large: int) -> None:
    await writer.add_bytes("small.json", b"{}")
    await writer.add_symlink("dir/layer.tar", "../x.tar")
    await writer.add_file("large", large, len(LARGE), lambda _: None)
    async with writer.stream("streamed", 1000) as fd:
        os.write(fd, b"x" * 1000)
    await writer.add_bytes("n" * 150, b"long")
    await writer.close()


@pytest.fixture
def large(tmp_path: Path) -> Callable[[], int]:
    (tmp_path / "large").write_bytes(LARGE)
    return lambda: os.open(tmp_path / "large", os.O_RDONLY)


def _check(data: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["small.json", "dir/layer.tar", "large", "streamed", "n" * 150]
        assert archive.getmember("dir/layer.tar").linkname == "../x.tar"
        found = archive.extractfile("large")
        assert found is not None
        assert found.read() == LARGE
        streamed = archive.extractfile("streamed")
        assert streamed is not None
        assert streamed.read() == b"x" * 1000
    assert len(data) % 10240 == 0


def _listed(path: Path) -> bytes:
    """What tar complains about."""
    return subprocess.run(["tar", "tf", path], check=True, capture_output=True).stderr


def _copier(target: int) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target)
    assert process.stdin is not None
    out = os.dup(process.stdin.fileno())
    process.stdin.close()
    return process, out


async def test_an_archive_in_a_file_has_every_member(tmp_path: Path, large: Callable[[], int]) -> None:
    source = large()
    fd = os.open(tmp_path / "a.tar", os.O_WRONLY | os.O_CREAT, 0o600)
    writer = TarWriter(fd, "a.tar")
    try:
        await _fill(writer, source)
    finally:
        writer.release()
        os.close(fd)
        os.close(source)
    _check((tmp_path / "a.tar").read_bytes())
    assert _listed(tmp_path / "a.tar") == b""


@pytest.mark.parametrize("append", [False, True])
async def test_an_archive_is_the_same_through_a_pipe_and_in_append_mode(
    tmp_path: Path, large: Callable[[], int], append: bool
) -> None:
    source = large()
    target = os.open(tmp_path / "b.tar", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    process = None
    if append:
        out = os.dup(target)
    else:
        process, out = _copier(target)
    writer = TarWriter(out, "b.tar")
    try:
        await _fill(writer, source)
        assert os.get_blocking(out)
    finally:
        writer.release()
        for fd in (out, source, target):
            os.close(fd)
        if process is not None:
            process.wait()
    _check((tmp_path / "b.tar").read_bytes())


async def test_a_reader_that_stops_holds_nobody_who_gives_up(large: Callable[[], int]) -> None:
    source = large()
    reader, out = os.pipe()
    writer = TarWriter(out, "pipe")
    try:
        with trio.move_on_after(0.1) as scope:
            await writer.add_file("large", source, len(LARGE), lambda _: None)
        assert scope.cancelled_caught
    finally:
        writer.release()
        for fd in (reader, out, source):
            os.close(fd)


async def test_a_reader_that_has_gone_is_told_as_such(large: Callable[[], int]) -> None:
    source = large()
    reader, out = os.pipe()
    os.close(reader)
    writer = TarWriter(out, "pipe")
    try:
        with pytest.raises(StorageFailed, match="nobody reads it"):
            await writer.add_file("large", source, len(LARGE), lambda _: None)
    finally:
        writer.release()
        os.close(out)
        os.close(source)


async def test_members_that_are_ready_at_once_come_one_after_the_other(
    tmp_path: Path, large: Callable[[], int]
) -> None:
    path = tmp_path / "out.tar"
    sources = [large() for _ in range(4)]
    out = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        writer = TarWriter(out, str(path))
        async with trio.open_nursery() as nursery:
            for number, fd in enumerate(sources):
                nursery.start_soon(writer.add_file, f"layer-{number}", fd, len(LARGE), lambda _: None)
                nursery.start_soon(writer.add_bytes, f"small-{number}", b"{}")
        await writer.close()
        writer.release()
    finally:
        for fd in (out, *sources):
            os.close(fd)
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 8
        for number in range(4):
            found = archive.extractfile(f"layer-{number}")
            assert found is not None
            assert found.read() == LARGE
