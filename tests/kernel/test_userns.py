"""User namespaces at paths, and what stands there instead."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

from supervisor.kernel import userns
from supervisor.kernel.idmaps import IdMaps, IdRange

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = (IdRange(0, 300_000, 1000),)


async def test_a_namespace_has_the_maps_that_it_was_made_with() -> None:
    async with userns.with_maps(IdMaps(LINES, LINES)) as namespace:
        assert await userns.maps_of(f"/proc/self/fd/{namespace}") == (LINES, LINES)


@pytest.mark.parametrize("kind", ["file", "fifo", "directory", "socket", "network", "null"])
async def test_what_is_no_user_namespace_is_told_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "file":
        path.write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        path.symlink_to({"network": "/proc/self/ns/net", "null": "/dev/null"}[kind])
    with trio.fail_after(20), pytest.raises(OSError, match="it is no user namespace"):
        await userns.maps_of(str(path))


async def test_the_own_namespace_cannot_be_joined() -> None:
    with pytest.raises(OSError, match="nsenter cannot make or join it"):
        await userns.maps_of("/proc/self/ns/user")


@pytest.fixture
def without_ids() -> Iterator[int]:
    """The pid of a process in a user namespace that has no maps."""
    argv = ["unshare", "--user", "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x\n")
        child.stdin.flush()
        child.stdout.readline()
        yield child.pid


async def test_a_namespace_without_ids_is_told(without_ids: int) -> None:
    with pytest.raises(OSError, match="it has no ids"):
        await userns.maps_of(f"/proc/{without_ids}/ns/user")
