"""Log rotation when something is in the way: killed supervisors, stopped monitors, slow readers, no room."""

from __future__ import annotations

import errno
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.errors import StorageFailed
from supervisor.conmon import control, logs
from supervisor.conmon.attach import connect
from supervisor.conmon.logs import MAX_BEHIND, Following, LogKeeper
from supervisor.kernel import inotify
from supervisor.kernel.inotify import Inotify
from tests.conmon.monitors import PATIENCE, resume, stop
from tests.conmon.test_logs import keeping

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.conmon.monitors import Bench, Container

pytestmark = pytest.mark.oci_runtime("runc")


class Echo:
    """A container that logs each line it is told, and knows when it has."""

    def __init__(self, container: Container, connection: socket.socket) -> None:
        self.container = container
        self._connection = connection
        self.said: list[str] = []
        self._heard = 0
        """Lines that have come back."""

    @classmethod
    async def start(cls, bench: Bench, log: Path | None = None) -> Echo:
        options = {"log_path": str(log)} if log else {}
        container = bench.container("cat", stdin=True, **options)
        await container.create()
        connection = await connect("", container.id, container.request.bundle)
        connection.settimeout(PATIENCE)
        await container.start()
        return cls(container, connection)

    async def say(self, line: str) -> None:
        """Comes back when the line, and every one before it, is in the log. What nobody has read when the connection
        is closed would be an error to conmon, and not the end of the container's input."""
        self.send(line)
        while self._heard < len(self.said):
            data = await trio.to_thread.run_sync(self._connection.recv, 1 << 16)
            self._heard += data[1:].count(b"\n")

    def send(self, line: str) -> None:
        self.said.append(line)
        self._connection.send(f"{line}\n".encode())

    async def end(self) -> None:
        self._connection.close()
        await self.container.wait()


def texts(paths: list[str]) -> list[str]:
    found = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found += [line.rstrip("\n").split(" ", 3)[3] for line in file]
    return found


def take(descriptors: list[int]) -> list[str]:
    found = texts([f"/proc/self/fd/{fd}" for fd in descriptors])
    for fd in descriptors:
        os.close(fd)
    return found


async def gather(following: Following) -> list[int]:
    return [fd async for fd in following if fd is not None]


async def until(condition: Callable[[], bool], path: str) -> None:
    """Looks again whenever something happens beside `path`."""
    with Inotify() as notices, trio.fail_after(PATIENCE):
        notices.add(os.path.dirname(path), inotify.CREATE | inotify.MOVED_TO | inotify.DELETE)
        while not condition():
            await notices.read()


def changed(path: str, inode: int) -> bool:
    return os.stat(path).st_ino != inode


def same(first: str, second: str) -> bool:
    return os.path.exists(first) and os.path.exists(second) and os.path.samefile(first, second)


async def test_a_reader_that_lags_behind_every_deleted_file_gets_all_lines(bench: Bench) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 200, 2, echo.container.request.bundle)
        following = keeper.follow(echo.container.id)
        for number in range(8):
            inode = os.stat(path).st_ino
            await echo.say(f"line {number} " + "x" * 200)
            await until(partial(changed, path, inode), path)
        await echo.end()
        keeper.finished(echo.container.id)
        descriptors = await gather(following)
    assert len(descriptors) == 9
    assert take(descriptors) == echo.said
    assert len(logs.files(path, 9)) == 2


async def test_a_rotation_that_a_killed_supervisor_began_is_finished(bench: Bench) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    await echo.say("before")
    os.link(path, f"{path}.1")
    assert logs.files(path, 3) == [path]
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 1000, 3, echo.container.request.bundle)
        await until(lambda: not same(path, f"{path}.1"), path)
        await echo.say("after")
        await echo.end()
        keeper.finished(echo.container.id)
    assert logs.files(path, 3) == [f"{path}.1", path]
    assert texts(logs.files(path, 3)) == ["before", "after"]


async def test_a_stopped_monitor_rotates_when_it_goes_on(bench: Bench) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    assert echo.container.monitor is not None
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 100, 3, echo.container.request.bundle)
        following = keeper.follow(echo.container.id)
        await echo.say("one " + "x" * 20)
        stop(echo.container.monitor)
        echo.send("two " + "x" * 200)
        resume(echo.container.monitor)
        await until(lambda: os.path.exists(f"{path}.1") and not same(path, f"{path}.1"), path)
        await echo.say("three")
        await echo.end()
        keeper.finished(echo.container.id)
        descriptors = await gather(following)
    assert [line[:3] for line in take(descriptors)] == ["one", "two", "thr"]


async def test_a_log_that_somebody_deletes_is_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    really = logs._Log.look

    def seen(self: logs._Log) -> tuple[tuple[int, int] | None, int]:
        found = really(self)
        sizes.append(found[1])
        return found

    monkeypatch.setattr(logs._Log, "look", seen)
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 1000, 2, echo.container.request.bundle)
        await trio.testing.wait_all_tasks_blocked()
        await echo.say("one")
        # It has looked at that, and waits to be told of the next.
        with trio.fail_after(PATIENCE):
            while sizes[-1] < os.stat(path).st_size or keeper._logs[echo.container.id].busy:  # noqa: ASYNC110
                await trio.sleep(0.01)
        os.unlink(path)
        await echo.say("two")
        await until(lambda: os.path.exists(path), path)
        await echo.say("three")
        await echo.end()
    assert texts([path]) == ["three"]


async def test_where_no_file_can_be_made_conmon_is_not_asked_and_lives(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_RETRY", 0.05)
    directory = bench.base / "logs"
    directory.mkdir()
    echo = await Echo.start(bench, directory / "log")
    path = str(directory / "log")
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 100, 2, echo.container.request.bundle)
        directory.rename(bench.base / "away")
        await echo.say("one " + "x" * 200)
        await trio.sleep(0.3)
        await echo.say("two " + "x" * 200)
        (bench.base / "away").rename(directory)
        await until(lambda: os.path.exists(f"{path}.1") and not same(path, f"{path}.1"), path)
        await echo.say("three")
        await echo.end()
    assert [line[:3] for line in texts(logs.files(path, 2))] == ["one", "two", "thr"]


async def test_the_end_comes_with_a_file_that_was_begun_just_before(bench: Bench) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    keeper = LogKeeper()  # it does not run: it has not noticed
    keeper.add(echo.container.id, path, 100, 2, echo.container.request.bundle)
    following = keeper.follow(echo.container.id)
    await echo.say("one")
    os.link(path, f"{path}.1")
    control.reopen_logs(echo.container.request.bundle)
    await echo.say("two")
    await echo.end()
    keeper.finished(echo.container.id)
    assert take(await gather(following)) == ["one", "two"]


async def test_an_idle_log_costs_nothing(bench: Bench) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)

    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
            self.count += 1

    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 1 << 20, 2, echo.container.request.bundle)
        await echo.say("one")
        # That line may still have to be looked at.
        counts = list[int]()
        while len(counts) < 10 and (not counts or counts[-1] > 2):
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            await trio.sleep(0.5)
            trio.lowlevel.remove_instrument(steps)
            counts.append(steps.count)
    assert counts[-1] <= 2, counts
    await echo.end()


async def test_heavy_writing_costs_a_few_looks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    really = logs._Log.look

    def counted(self: logs._Log) -> tuple[tuple[int, int] | None, int]:
        nonlocal looks
        looks += 1
        return really(self)

    monkeypatch.setattr(logs._Log, "look", counted)
    container = bench.container("sh", "-c", "yes some line | head -c 5000000")
    await container.create()
    async with keeping() as keeper:
        keeper.add(container.id, str(container.log), 1 << 30, 2, str(container.bundle))
        begun = trio.current_time()
        await container.start()
        await container.wait()
    assert looks < 10 + 4 * (trio.current_time() - begun)


async def test_without_watches_logs_are_rotated_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = await Echo.start(bench)
    path = str(echo.container.log)
    monkeypatch.setattr(logs, "_RETRY", 0.02)
    monkeypatch.setattr(logs, "Inotify", Blind)
    async with keeping() as keeper:
        keeper.add(echo.container.id, path, 100, 3, echo.container.request.bundle)
        following = keeper.follow(echo.container.id)
        for number in range(2):
            inode = os.stat(path).st_ino
            await echo.say(f"{number} " + "x" * 200)
            await until(partial(changed, path, inode), path)
        await echo.end()
        keeper.finished(echo.container.id)
        descriptors = await gather(following)
    assert take(descriptors) == echo.said


class Blind(Inotify):
    """As where the user's watches are used up."""

    def add(self, path: str, mask: int) -> int:  # noqa: ARG002 - the signature of the real one
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_without_inotify_logs_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def used_up() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(logs, "Inotify", used_up)
    (tmp_path / "log").write_text("t s F one\n")
    async with keeping() as keeper:
        keeper.add("id", str(tmp_path / "log"), 1, 2, str(tmp_path))
        following = keeper.follow("id")
        keeper.finished("id")
        assert take(await gather(following)) == ["one"]


# Without a container


async def test_a_reader_too_far_behind_is_told_and_keeps_no_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("0")
    before = len(os.listdir("/proc/self/fd"))
    following = Following(str(path), 1)
    for number in range(MAX_BEHIND + 5):
        (tmp_path / "new").write_text(str(number))
        (tmp_path / "new").rename(path)
        following.offer()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(StorageFailed, match="its reader is 64 files behind"):
        await following.__anext__()


async def test_a_follower_gets_the_chain_then_a_mark_then_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for name, text in (("log.2", "a"), ("log.1", "b"), ("log", "c"), ("log.3", "too old")):
        (tmp_path / name).write_text(text)
    keeper = LogKeeper()
    keeper.add("id", str(path), 0, 3, str(tmp_path))
    following = keeper.follow("id")
    keeper.finished("id")
    found = [fd if fd is None else os.read(fd, 100) async for fd in _closing(following)]
    assert found == [b"a", b"b", b"c", None]


async def _closing(following: Following):  # type: ignore[no-untyped-def] # noqa: ANN202 - a test's own generator
    async for fd in following:
        yield fd
        if fd is not None:
            os.close(fd)


async def test_following_what_does_not_run_ends_at_once() -> None:
    keeper = LogKeeper()
    assert await gather(keeper.follow("nobody")) == []
    keeper.finished("nobody")
    keeper.remove("nobody")


def test_readers_that_stop_early_leave_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for name in ("log.1", "log"):
        (tmp_path / name).write_text(name)
    before = len(os.listdir("/proc/self/fd"))
    descriptors = logs.open_files(str(path), 3)
    os.close(next(descriptors))
    descriptors.close()  # type: ignore[attr-defined]
    following = Following(str(path), 3)
    following.close()
    dropped = Following(str(path), 3)
    del dropped
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_log_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert logs.files(str(tmp_path / "log"), 3) == []
    assert logs.files("", 3) == []
    assert list(logs.open_files(str(tmp_path / "log"), 3)) == []


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/passwd")
    with pytest.raises(StorageFailed, match="cannot read the log"):
        list(logs.open_files(str(tmp_path / "log"), 1))


@pytest.mark.parametrize("during", range(6))
def test_a_chain_read_while_it_is_shifted_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: int
) -> None:
    path = str(tmp_path / "log")
    for name, text in (("log.3", "a"), ("log.2", "b"), ("log.1", "c"), ("log", "d")):
        (tmp_path / name).write_text(f"t s F {text}\n")
    log = logs._Log(path, 1, 5, str(tmp_path))
    really, count = logs._open, 0

    def disturbed(name: str) -> int:
        nonlocal count
        if count == during:
            log.shift()
        count += 1
        return really(name)

    monkeypatch.setattr(logs, "_open", disturbed)
    descriptors = list(logs.open_files(path, 6))
    assert take(descriptors) == ["a", "b", "c", "d"]


async def test_a_restart_keeps_those_who_follow(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one")
    async with keeping() as keeper:
        keeper.add("id", str(tmp_path / "log"), 1000, 2, str(tmp_path))
        following = keeper.follow("id")
        keeper.add("id", str(tmp_path / "log"), 1000, 2, str(tmp_path))
        keeper.finished("id")
        descriptors = await gather(following)
    assert len(descriptors) == 1
    os.close(descriptors[0])
    shutil.rmtree(tmp_path)
