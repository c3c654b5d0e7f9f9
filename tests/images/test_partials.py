"""Blobs on their way here, without a registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from supervisor.images.transfer.partials import Partials

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'a' * 64}"


async def test_what_somebody_fetches_is_not_removed_with_the_rest(tmp_path: Path) -> None:
    partials = Partials(str(tmp_path))
    (tmp_path / ("b" * 64)).write_bytes(b"old")
    go_on = trio.Event()

    async def fetch(fd: int, growth: int) -> None:
        os.write(fd, b"whole")
        os.write(growth, (5).to_bytes(8, "little"))
        await go_on.wait()

    async with partials.feed(DIGEST, fetch) as first:
        await partials.clean(0)
        assert os.listdir(tmp_path) == ["a" * 64]
        go_on.set()
        assert os.pread(first.fd, 10, 0) == b"whole"
    assert os.listdir(tmp_path) == []
