"""A lock that a child goes on holding."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DeadlineExceeded
from supervisor.kernel import children
from supervisor.kernel.held import held

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_nobody_holds_is_had_at_once_and_given_back(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    for _ in range(2):
        async with held(lock, 0) as descriptor:
            assert os.fstat(descriptor).st_size == 0


async def test_a_child_that_has_the_descriptor_holds_the_lock_until_it_ends(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    reading, writing = os.pipe()
    async with held(lock, 0) as descriptor:
        child = await children.spawn(
            ["sh", "-c", "read line"], env={"PATH": "/bin:/usr/bin"}, stdin=reading, pass_fds=[descriptor]
        )
    os.close(reading)
    with pytest.raises(DeadlineExceeded, match="an earlier call holds it"):
        async with held(lock, 0.01):
            pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, os.write, writing, b"go\n")
        async with held(lock, 10):
            assert await child.wait() == 0
    os.close(writing)


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels"):
        async with held(str(tmp_path / "lock"), 0):
            pass
    assert not (tmp_path / "elsewhere").exists()
