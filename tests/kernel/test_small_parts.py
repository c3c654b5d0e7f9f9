"""inotify, locks, pipes and waiting for several descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from supervisor.kernel import inotify, pipes
from supervisor.kernel.inotify import Inotify
from supervisor.kernel.locks import OfdLock
from supervisor.kernel.readiness import Readiness

if TYPE_CHECKING:
    from pathlib import Path


async def test_changes_in_a_directory_are_told_by_name(tmp_path: Path) -> None:
    with Inotify() as notices:
        watch = notices.add(str(tmp_path), inotify.CREATE | inotify.MOVED_TO | inotify.DELETE)
        (tmp_path / "a file").write_text("x")
        (tmp_path / "a file").rename(tmp_path / "other")
        (tmp_path / "other").unlink()
        found = await notices.read()
    assert [(notice.watch, notice.name) for notice in found] == [
        (watch, "a file"),
        (watch, "other"),
        (watch, "other"),
    ]


async def test_a_watch_that_fires_once_is_silent_until_it_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with Inotify() as notices:
        watch = notices.add(str(path), inotify.MODIFY | inotify.ONESHOT)
        with path.open("a") as file:
            for _ in range(100):
                file.write("x")
                file.flush()
        assert [notice.watch for notice in await notices.read() if notice.mask & inotify.MODIFY] == [watch]
        with trio.move_on_after(0.05) as scope:
            await notices.read()
        assert scope.cancelled_caught
        notices.remove(watch)
        again = notices.add(str(path), inotify.MODIFY | inotify.ONESHOT)
        path.write_text("y")
        assert {notice.watch for notice in await notices.read()} == {again}


async def test_watching_what_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with Inotify() as notices, pytest.raises(FileNotFoundError):
        notices.add(str(tmp_path / "absent"), inotify.MODIFY)


async def test_closing_wakes_the_reader() -> None:
    notices = Inotify()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await notices.read()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        notices.close()


def test_a_lock_excludes_another_descriptor_and_names_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with OfdLock(path) as first, OfdLock(path) as second:
        assert first.try_acquire()
        assert first.try_acquire(), "its own lock is no obstacle"
        first.write(b"4711")
        assert not second.try_acquire()
        assert not second.try_acquire(shared=True)
        assert second.read() == b"4711"
        first.release()
        assert second.try_acquire()
    with OfdLock(path) as third:
        assert third.try_acquire()


def test_byte_ranges_are_separate_locks(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with OfdLock(path) as first, OfdLock(path) as second:
        assert first.try_acquire(5, 1)
        assert second.try_acquire(4, 1)
        assert not second.try_acquire(5, 1)
        assert first.try_acquire(7, 2, shared=True)
        assert second.try_acquire(8, 1, shared=True)


def test_a_lock_conflicts_with_another_process_and_its_posix_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    source = (
        f"import fcntl; file = open({str(path)!r}, 'r+'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('held', flush=True); input()"
    )
    with OfdLock(str(path)) as lock:
        other = subprocess.Popen(
            [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert not lock.try_acquire()
        other.communicate("\n")
        lock.acquire()


def test_peeking_leaves_what_is_there() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        assert pipes.peek(reader) == b""
        os.write(writer, b"x" * 65536)
        assert pipes.peek(reader) == b"x" * 65536
        assert os.read(reader, 100000) == b"x" * 65536
    finally:
        os.close(reader)
        os.close(writer)


def test_a_message_replaces_the_one_that_was_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    pipes.make_fifo(path)
    assert not pipes.replace_message(path, b"nobody")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for number in range(1000):
            assert pipes.replace_message(path, b"%d" % number)
        assert os.read(reader, 1000) == b"999"
    finally:
        os.close(reader)


def test_a_new_fifo_is_empty_and_the_old_one_stays_with_its_users(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    pipes.make_fifo(path)
    old = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(old, b"stale")
        pipes.make_fifo(path)
        new = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            assert pipes.peek(new) == b""
            assert pipes.peek(old) == b"stale"
        finally:
            os.close(new)
    finally:
        os.close(old)


async def test_the_first_of_several_descriptors_wakes_one_wait() -> None:
    first, first_writer = os.pipe()
    second, second_writer = os.pipe()
    try:
        with Readiness() as ready:
            ready.add(first)
            ready.add(second)
            ready.add(second_writer, write=True)
            assert await ready.wait() == [second_writer]
            ready.discard(second_writer)
            ready.discard(second_writer)
            os.write(second_writer, b"x")
            assert await ready.wait() == [second]
            assert second in ready
            os.read(second, 1)
            with trio.move_on_after(0.05) as scope:
                await ready.wait()
            assert scope.cancelled_caught
    finally:
        for fd in (first, first_writer, second, second_writer):
            os.close(fd)
