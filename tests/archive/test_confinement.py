"""What an archive program has left once it reads, and how it ends."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DigestMismatch, StorageFailed
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
from supervisor.kernel import children, inotify
from supervisor.kernel.inotify import Inotify
from tests.archive.layers import Layer, digest_of, tree_of, written

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks at root's programs")

LAYER = Layer().file("first", b"1").file("second", os.urandom(500_000)).file("third", b"3").data()
SYS_ADMIN = 1 << 21


def status_of(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


_others: set[int] = set()


@pytest.fixture(autouse=True)
def _other_children() -> None:
    """What fixtures of the whole run have started."""
    _others.clear()
    _others.update(children.of_this_process())


def started() -> set[int]:
    """This process's children that the test has started."""
    return set(children.of_this_process()) - _others


def programs() -> list[int]:
    """The unpacking process, and the one that marks directories."""
    [pid] = started()
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [pid, *map(int, file.read().split())]


async def until_there(path: Path) -> None:
    with Inotify() as notices:
        notices.add(str(path.parent), inotify.CREATE)
        while not path.exists():
            await notices.read()


def text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "diff").mkdir()
    return tmp_path


async def test_it_sees_nothing_but_the_layer_and_has_few_rights(place: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, LAYER[:3000])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: jobs.unpack(Feed(read_end), str(place / "diff"), str(place / "split"), user_xattrs=False)
        )
        await until_there(place / "diff/second")  # the last that has come so far
        unpacking, marking = programs()
        found = status_of(unpacking)
        [mount] = text_of(f"/proc/{unpacking}/mountinfo").splitlines()
        assert " / " in mount
        assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
        assert sorted(os.listdir(f"/proc/{unpacking}/root/")) == ["first", "second"]
        rights = int(found["CapEff"], 16)
        assert rights == int(found["CapPrm"], 16) == sum(1 << bit for bit in (0, 1, 3, 4, 27, 31))
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        marker = status_of(marking)
        assert int(marker["CapEff"], 16) == int(marker["CapPrm"], 16) == SYS_ADMIN
        assert (marker["NoNewPrivs"], marker["Seccomp"]) == ("1", "2")
        assert len(os.listdir(f"/proc/{marking}/fd")) == 1
        assert "Max open files            64 " in text_of(f"/proc/{unpacking}/limits")
        nursery.cancel_scope.cancel()
    os.close(read_end)
    os.close(write_end)
    assert not started()


def test_it_can_neither_talk_nor_start_nor_mount_anything(tmp_path: Path) -> None:
    """Tried by a process that has confined itself as they do."""
    attempts = """
import ctypes, errno, os, socket, sys, threading
from supervisor.archive import confinement
os.mkdir(sys.argv[1] + "/inside")
confinement.into(sys.argv[1], confinement.WRITING)
assert os.listdir("/") == ["inside"], os.listdir("/")
libc = ctypes.CDLL(None, use_errno=True)
def refused(call, *codes):
    try:
        call()
    except OSError as error:
        assert error.errno in codes, error
    else:
        raise AssertionError(call)
def result(value):
    if value < 0:
        raise OSError(ctypes.get_errno(), "")
refused(lambda: socket.socket(socket.AF_INET), errno.EPERM)
refused(lambda: socket.socket(socket.AF_UNIX), errno.EPERM)
refused(os.fork, errno.EPERM)
refused(lambda: os.execv("/inside", ["x"]), errno.EPERM)
refused(lambda: os.kill(os.getppid(), 0), errno.EPERM)
refused(lambda: result(libc.unshare(0x10000000)), errno.EPERM)
refused(lambda: result(libc.mount(b"/", b"/inside", None, 4096, None)), errno.EPERM)
refused(lambda: result(libc.chroot(b"/inside")), errno.EPERM)
refused(lambda: result(libc.ptrace(16, 1, 0, 0)), errno.EPERM)
refused(lambda: result(libc.syscall(425, 4, 0)), errno.EPERM)
refused(lambda: os.setuid(1), errno.EPERM)
refused(lambda: open("/../../etc/passwd"), errno.ENOENT)
os.mknod("/inside/disk", 0o060600, os.makedev(1, 3))
refused(lambda: open("/inside/disk"), errno.EACCES)
thread = threading.Thread(target=lambda: print("threads work"))
thread.start()
thread.join()
"""
    argv = [sys.executable, "-c", attempts, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("threads work\n", "")


async def test_a_cancelled_one_is_gone_when_the_cancellation_is_over(place: Path) -> None:
    read_end, write_end = os.pipe()
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: jobs.unpack(
                    Feed(read_end), str(place / "diff"), str(place / "split"), user_xattrs=False
                )
            )
            os.write(write_end, LAYER[:3000])
            await until_there(place / "diff/first")
            scope.cancel()
    assert not started()
    os.close(read_end)
    os.close(write_end)


async def test_a_killed_one_is_a_typed_error(place: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, LAYER[:3000])
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match=r"ended with a signal \(9\)")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: jobs.unpack(
                    Feed(read_end), str(place / "diff"), str(place / "split"), user_xattrs=False
                )
            )
            await until_there(place / "diff/first")
            os.kill(programs()[0], signal.SIGKILL)
    os.close(read_end)
    os.close(write_end)


async def test_a_target_that_is_not_there_is_a_typed_error(place: Path) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(StorageFailed, match="cannot unpack the layer: No such file or directory"):
            await jobs.unpack(Feed(fd), str(place / "nowhere"), str(place / "split"), user_xattrs=False)
    finally:
        os.close(fd)


def test_all_of_it_dies_with_who_has_started_it(place: Path) -> None:
    program = """
import os, sys, trio
from supervisor.archive import jobs
from supervisor.archive.feed import Feed
trio.run(lambda: jobs.unpack(Feed(int(sys.argv[3])), sys.argv[1], sys.argv[2], user_xattrs=False))
"""
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-c", program, str(place / "diff"), str(place / "split"), str(read_end)]
    with subprocess.Popen(argv, pass_fds=[read_end]) as process:
        os.close(read_end)
        os.write(write_end, LAYER[:3000])
        while not (place / "diff/first").exists():
            assert process.poll() is None
        process.kill()
    # Whoever had the reading end is gone: the other one tells.
    poller = select.poll()
    poller.register(write_end, select.POLLERR)
    assert poller.poll(10_000)
    os.close(write_end)


async def test_a_file_is_unpacked_while_it_grows(place: Path) -> None:
    fd = os.memfd_create("growing")
    growth, told = os.pipe()
    answer = []

    async def unpack() -> None:
        feed = Feed(fd, length=len(LAYER), growth=growth)
        answer.append(
            await jobs.unpack(
                feed, str(place / "diff"), str(place / "split"), digest=digest_of(LAYER), user_xattrs=False
            )
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unpack)
        for at, name in ((3000, "first"), (len(LAYER) - 3000, "second"), (len(LAYER), "third")):
            os.pwrite(fd, LAYER[:at], 0)
            os.write(told, struct.pack("<Q", at))
            await until_there(place / "diff" / name)
        os.close(told)
    assert answer[0].diff_id == digest_of(LAYER)
    os.close(fd)
    os.close(growth)


async def test_a_file_whose_writer_gives_up_is_a_typed_error(place: Path) -> None:
    fd = os.memfd_create("growing")
    os.write(fd, LAYER[:5000])
    growth, told = os.pipe()
    os.write(told, struct.pack("<Q", 5000))
    os.close(told)
    feed = Feed(fd, length=len(LAYER), growth=growth)
    with pytest.raises(StorageFailed, match="ended after 5000 bytes"):
        await jobs.unpack(feed, str(place / "diff"), str(place / "split"), user_xattrs=False)
    os.close(fd)
    os.close(growth)


async def test_a_part_of_a_file_is_a_layer(place: Path) -> None:
    fd = os.memfd_create("archive")
    os.write(fd, b"before" + LAYER + b"behind")
    await jobs.unpack(
        Feed(fd, offset=6, length=len(LAYER)),
        str(place / "diff"),
        str(place / "split"),
        diff_id=digest_of(LAYER),
        user_xattrs=False,
    )
    os.close(fd)
    assert set(tree_of(place / "diff")) == {"first", "second", "third"}


async def test_how_far_it_is_is_reported_and_ends_at_no_more_than_there_is(place: Path) -> None:
    layer = Layer().file("big", bytes(30 << 20)).data()
    fd = os.memfd_create("archive")
    os.write(fd, layer)
    reports: list[int] = []
    await jobs.unpack(
        Feed(fd), str(place / "diff"), str(place / "split"), user_xattrs=False, report=reports.append
    )
    os.close(fd)
    assert reports
    assert reports == sorted(reports)
    assert reports[-1] <= len(layer)


async def test_an_archive_that_nobody_reads_any_more_is_a_typed_error(place: Path) -> None:
    fd = os.memfd_create("archive")
    os.write(fd, LAYER)
    await jobs.unpack(Feed(fd), str(place / "diff"), str(place / "split"), user_xattrs=False)
    os.close(fd)
    read_end, write_end = os.pipe()

    def read_a_little() -> None:
        os.read(read_end, 10)
        os.close(read_end)

    thread = threading.Thread(target=read_a_little)
    thread.start()
    with pytest.raises(StorageFailed, match="nobody reads it any more"):
        await jobs.pack(str(place / "diff"), str(place / "split"), write_end)
    thread.join()
    os.close(write_end)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_packed_layer_unpacks_to_itself(compression: jobs.Compression, place: Path) -> None:
    fd = os.memfd_create("archive")
    os.write(fd, LAYER)
    first = await jobs.unpack(Feed(fd), str(place / "diff"), str(place / "split"), user_xattrs=False)
    os.close(fd)
    with written(place / "packed") as out:
        packed = await jobs.pack(str(place / "diff"), str(place / "split"), out, compression=compression)
    assert packed.digest == digest_of((place / "packed").read_bytes())
    (place / "second").mkdir()
    fd = os.open(place / "packed", os.O_RDONLY)
    second = await jobs.unpack(Feed(fd), str(place / "second"), str(place / "split2"), user_xattrs=False)
    os.close(fd)
    assert (second.digest, second.size, second.compression) == (packed.digest, packed.size, compression)
    assert first.diff_id == second.diff_id == packed.diff_id


async def test_a_layer_whose_file_was_changed_is_not_packed(place: Path) -> None:
    fd = os.memfd_create("archive")
    os.write(fd, LAYER)
    await jobs.unpack(Feed(fd), str(place / "diff"), str(place / "split"), user_xattrs=False)
    os.close(fd)
    (place / "diff/first").write_bytes(b"2")
    with written(place / "packed") as out, pytest.raises(DigestMismatch, match="'first'"):
        await jobs.pack(str(place / "diff"), str(place / "split"), out)
    (place / "diff/first").unlink()
    (place / "diff/first").symlink_to("/etc/hostname")
    with written(place / "again") as out, pytest.raises(Exception, match="cannot pack 'first'"):
        await jobs.pack(str(place / "diff"), str(place / "split"), out)
