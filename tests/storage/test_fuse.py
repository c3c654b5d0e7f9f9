"""fuse-overlayfs is started, found, waited for, and its death is nobody's end."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import StorageFailed
from supervisor.kernel import ancestry, children, mounts, process
from supervisor.kernel.idmaps import IdRange
from supervisor.storage import fuse
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from supervisor.kernel.process import ProcessRef

PROGRAM = fuse.find()
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not PROGRAM or bool(fuse.unusable(PROGRAM)), reason="needs root and fuse-overlayfs"
)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    ancestry.become_subreaper()
    (tmp_path / "containers" / "one" / "rootfs").mkdir(parents=True)
    return tmp_path / "containers"


@asynccontextmanager
async def mounted(
    below: Path,
    lower: Path,
    *,
    options: Sequence[str] = (),
    ranges: Sequence[IdRange] = (),
) -> AsyncIterator[tuple[Path, ProcessRef]]:
    """The mount point and the server; both are gone afterwards."""
    target = below / "one" / "rootfs"
    writable = below.parent / "writable, and more"
    for name in ("upper", "work"):
        (writable / name).mkdir(parents=True)
    upper, work = (str(writable / name) for name in ("upper", "work"))
    reaped, ended = trio.open_memory_channel[int](8)

    def note(ref: ProcessRef, _status: int) -> None:
        reaped.send_nowait(ref.pid)

    async with trio.open_nursery() as nursery:
        await nursery.start(children.reap_orphans, note)
        try:
            await fuse.mount(
                PROGRAM,
                str(target),
                [str(lower)],
                upper,
                work,
                options=options,
                uids=ranges,
                gids=ranges,
                deadline=20,
            )
            server = fuse.server_of(str(target))
            assert server is not None
            try:
                yield target, server
            finally:
                mounts.unmount(str(target), lazy=True)
                with trio.CancelScope(shield=True), trio.fail_after(10):
                    await trio.to_thread.run_sync(partial(fuse.end, server, 5.0))
                    assert await ended.receive() == server.pid
        finally:
            nursery.cancel_scope.cancel()
    assert fuse.servers(str(below)) == {}


@pytest.mark.parametrize("name", ["plain", "a:b,c", "back\\slash", "sp ace", "ü=,lowerdir=/etc"])
async def test_it_works_with_any_name_and_ends_with_its_mount(tmp_path: Path, below: Path, name: str) -> None:
    lower = tmp_path / name / "lower"
    lower.mkdir(parents=True)
    (lower / "file").write_text("below")
    async with mounted(below, lower) as (target, server):
        assert (target / "file").read_text() == "below"
        (target / "file").write_text("above")
        assert (tmp_path / "writable, and more/upper/file").read_text() == "above"
        assert os.listdir(below / "one") == ["rootfs"]
        assert os.getsid(server.pid) == server.pid
        assert os.readlink(f"/proc/{server.pid}/cwd") == "/"
    assert (lower / "file").read_text() == "below"
    assert process.ref_of(server.pid) != server


async def test_the_server_has_no_descriptor_of_whoever_started_it(tmp_path: Path, below: Path) -> None:
    (tmp_path / "lower").mkdir()
    with (tmp_path / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        async with mounted(below, tmp_path / "lower") as (_, server):
            held = {
                os.readlink(f"/proc/{server.pid}/fd/{name}") for name in os.listdir(f"/proc/{server.pid}/fd")
            }
    own = {str(tmp_path / "lower")}
    own |= {str(tmp_path / "writable, and more" / name) for name in ("upper", "work/work")}
    assert {path for path in held if path.startswith(str(tmp_path))} <= own
    own_pipes = {path for path in held if path.startswith("pipe:")}
    own_pipes -= set(processes.descriptors(os.getpid()).values())
    others = {path for path in held - own - own_pipes if path not in ("/dev/null", "/dev/fuse")}
    assert not others


async def test_a_mount_without_its_server_is_one_and_is_dead(tmp_path: Path, below: Path) -> None:
    (tmp_path / "lower").mkdir()
    async with mounted(below, tmp_path / "lower") as (target, server):
        assert mounts.mounted(str(target))
        assert not mounts.is_dead(str(target))
        os.kill(server.pid, signal.SIGSTOP)
        assert mounts.mounted(str(target)), "a server that does not answer holds nobody up"
        os.kill(server.pid, signal.SIGKILL)
        await trio.to_thread.run_sync(partial(fuse.end, server, 5.0))
        assert mounts.mounted(str(target))
        assert mounts.is_dead(str(target))
        mounts.unmount(str(target), lazy=True)
        assert not mounts.mounted(str(target))


async def test_owners_are_those_that_a_container_with_these_maps_takes_for_the_disks(
    tmp_path: Path, below: Path
) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    for name, owner in (("root", 0), ("user", 5)):
        (lower / name).touch()
        os.chown(lower / name, owner, owner)
    async with mounted(below, lower, ranges=[IdRange(0, 1000, 1), IdRange(1, 1001, 9)]) as (target, _):
        assert [(target / name).stat().st_uid for name in ("root", "user")] == [1000, 1005]
        os.chown(target / "user", 1003, 1004)
    status = (tmp_path / "writable, and more/upper/user").stat()
    assert (status.st_uid, status.st_gid) == (3, 4)


async def test_what_it_refuses_is_said_in_one_line(tmp_path: Path, below: Path) -> None:
    target, absent = str(below / "one/rootfs"), str(tmp_path / "absent")
    with pytest.raises(StorageFailed) as refused:
        await fuse.mount(PROGRAM, target, [absent], absent, absent, deadline=20)
    said = refused.value.message
    assert said.startswith(f"cannot mount '{target}' with '{PROGRAM}': cannot ")
    assert said.endswith(f"{absent}: No such file or directory")
    with pytest.raises(StorageFailed, match=r"'/up:per' has a colon"):
        await fuse.mount(PROGRAM, target, [absent], "/up:per", absent, deadline=20)
    with pytest.raises(StorageFailed, match="cannot start '/etc/passwd': Permission denied"):
        await fuse.mount("/etc/passwd", target, [absent], absent, absent, deadline=20)


async def test_a_mount_that_somebody_keeps_costs_its_server(tmp_path: Path, below: Path) -> None:
    """As one does that another mount namespace has: nobody here can undo it."""
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "file").touch()
    async with mounted(below, lower) as (target, server):
        kept = os.open(target, os.O_PATH)
        try:
            mounts.unmount(str(target), lazy=True)
            assert process.ref_of(server.pid) == server
            await trio.to_thread.run_sync(partial(fuse.end, server, 0.0))
            assert fuse.servers(str(below)) == {}
        finally:
            os.close(kept)


async def test_the_version_of_a_program_that_says_none_is_not_waited_for(tmp_path: Path) -> None:
    assert "fuse-overlayfs" in await fuse.version(PROGRAM, 5)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 1000\n")
    silent.chmod(0o755)
    assert await fuse.version(str(silent), 0.01) == ""
    assert await fuse.version("/etc/passwd", 5) == ""
