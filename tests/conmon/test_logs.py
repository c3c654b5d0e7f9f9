"""Logs are kept small, and no reader misses or repeats a line."""

from __future__ import annotations

import hashlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from supervisor.conmon import logs
from supervisor.conmon.logs import LogKeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.conmon.logs import Following
    from tests.conmon.monitors import Bench, Container

MIB = 1 << 20


@asynccontextmanager
async def keeping() -> AsyncIterator[LogKeeper]:
    keeper = LogKeeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.testing.wait_all_tasks_blocked()
        yield keeper
        nursery.cancel_scope.cancel()


class Reader:
    """Puts a followed log together again: the container's own bytes, hashed."""

    def __init__(self) -> None:
        self.files = 0
        self._arrival = trio.Event()
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._rest = b""

    async def read(self, following: Following) -> None:
        last = -1
        async for fd in following:
            if fd is None:
                continue
            if last >= 0:
                await trio.to_thread.run_sync(self._take, last)
            last = fd
            self.files += 1
            self._arrival.set()
        await trio.to_thread.run_sync(self._take, last)

    async def wait_for(self, files: int) -> None:
        while self.files < files:
            self._arrival = trio.Event()
            await self._arrival.wait()

    def _take(self, fd: int) -> None:
        while chunk := os.read(fd, MIB):
            lines = (self._rest + chunk).split(b"\n")
            self._rest = lines.pop()
            self._add(lines)
        os.close(fd)
        assert not self._rest, "a file ends within a line"

    def _add(self, lines: list[bytes]) -> None:
        parts = []
        for line in lines:
            _, _, tag, text = line.split(b" ", 3)
            parts.append(text if tag == b"P" else text + b"\n")
        data = b"".join(parts)
        self.bytes += len(data)
        self._digest.update(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def expected(rotations: int, lines: int, text: str) -> str:
    digest = hashlib.sha256()
    for _ in range(rotations):
        for start in range(0, lines, 10000):
            numbers = range(start, min(start + 10000, lines))
            digest.update("".join(f"{number} {text}\n" for number in numbers).encode())
    return digest.hexdigest()


async def _write_through(
    bench: Bench, size: int, rotations: int, max_files: int, width: int = 100
) -> Container:
    """A container writes `size` bytes of numbered lines as fast as it can while a reader follows its log. `width`: bytes
    of a line besides its number.

    After each part, which is larger than a file may be, it waits until the reader has been given a new file.
    """
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)
    permission = os.open(fifo, os.O_RDWR)
    text = "x" * width
    lines = size // rotations // (width + 8)
    command = (
        f"BEGIN {{ for (part = 0; part < {rotations}; part++) {{"
        f'  for (i = 0; i < {lines}; i++) print i, "{text}";'
        '  fflush(); getline go < "/tmp/fifo" } }'
    )
    container = bench.container("awk", command, fifo=str(fifo))
    await container.create()
    reader = Reader()
    async with keeping() as keeper, trio.open_nursery() as nursery:
        keeper.add(container.id, str(container.log), lines * width, max_files, str(container.bundle))
        nursery.start_soon(reader.read, keeper.follow(container.id))
        await container.start()
        with trio.fail_after(600):
            for part in range(rotations):
                await reader.wait_for(part + 2)
                os.write(permission, b"go\n")
            pidfd = await container.watch()
            with pidfd:
                await pidfd.wait()
        keeper.finished(container.id)
    assert (await container.wait()).code == 0
    os.close(permission)
    assert reader.hexdigest() == expected(rotations, lines, text)
    return container


@pytest.mark.oci_runtime("runc")
async def test_64_mib_through_20_rotations_reach_a_follower_byte_for_byte(bench: Bench) -> None:
    container = await _write_through(bench, 64 * MIB, 20, max_files=3)
    assert 2 <= len(logs.files(str(container.log), 10)) <= 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.oci_runtime("runc")
async def test_1_gib_through_20_rotations_reaches_a_follower_byte_for_byte(bench: Bench) -> None:
    """In lines so long that it is the log that is written and read for most of the time, and not the lines counted."""
    container = await _write_through(bench, 1024 * MIB, 20, max_files=2, width=2000)
    assert 1 <= len(logs.files(str(container.log), 10)) <= 2


@pytest.mark.oci_runtime("runc")
async def test_with_one_file_kept_a_follower_still_gets_every_line(bench: Bench) -> None:
    container = await _write_through(bench, 8 * MIB, 8, max_files=1)
    assert [entry.name for entry in bench.base.glob(f"{container.log.name}*")] == [container.log.name]
