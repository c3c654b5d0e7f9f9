"""logs against a scripted supervisor: rotation and reconnection at the worst moments."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.streams.conftest import Play
    from tests.support.scripted import Talk

ONE, TWO = "1" * 64, "2" * 64


class Log:
    """A container's log: files by number, the last one being written."""

    def __init__(self, directory: Path, identity: str) -> None:
        self.directory = directory
        self.identity = identity
        directory.mkdir()

    def write(self, file: int, *lines: str, partial: bool = False) -> None:
        tag = "P" if partial else "F"
        with (self.directory / str(file)).open("a") as log:
            log.writelines(f"2026-11-22T11:08:30.681110505+00:00 stdout {tag} {line}\n" for line in lines)

    def hand_over(self, talk: Talk, *files: int) -> None:
        for file in files:
            descriptor = os.open(self.directory / str(file), os.O_RDONLY)
            reply = {
                "phase": "file",
                "id": self.identity,
                "name": f"c{self.identity[0]}",
                "format": "k8s-file",
            }
            talk.send(reply, [descriptor], continues=True)
            os.close(descriptor)


@pytest.fixture
def one(tmp_path: Path) -> Log:
    return Log(tmp_path / "one", ONE)


@pytest.fixture
def two(tmp_path: Path) -> Log:
    return Log(tmp_path / "two", TWO)


def backlog_end(talk: Talk) -> None:
    talk.send({"phase": "backlog-end"}, continues=True)


def ended(talk: Talk, identity: str = ONE, *, continues: bool = False) -> None:
    talk.send({"phase": "ended", "id": identity}, continues=continues)


class Follower:
    """A `logs --follow`, and the supervisor's side of each of its calls."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self._calls: queue.Queue[Talk] = queue.Queue()
        self._over = threading.Event()
        self._client: subprocess.Popen[bytes] | None = None
        play.server.script["Container.Logs"] = self._answer
        play.server.script["Container.Exists"] = lambda talk: talk.send({"exists": True})

    def _answer(self, talk: Talk) -> None:
        self._calls.put(talk)
        self._over.wait(20)

    def start(self, *arguments: str) -> Talk:
        self._client = self.play.spawn("logs", "-f", *arguments)
        return self.call()

    def call(self) -> Talk:
        """The next call for logs."""
        return self._calls.get(timeout=20)

    def lines(self, count: int) -> list[str]:
        assert self._client is not None
        assert self._client.stdout is not None
        return [self._client.stdout.readline().decode().rstrip("\n") for _ in range(count)]

    def read(self, size: int) -> str:
        assert self._client is not None
        assert self._client.stdout is not None
        return self._client.stdout.read(size).decode()

    def close(self) -> None:
        """It has ended, and there was nothing more than was expected."""
        self._over.set()
        assert self._client is not None
        out, err = self._client.communicate(timeout=20)
        assert (out, err, self._client.returncode) == (b"", b"", 0)


@pytest.fixture
def follower(play: Play) -> Iterator[Follower]:
    made = Follower(play)
    yield made
    made.close()


def test_a_file_is_read_to_its_end_before_the_next_one(play: Play, one: Log, follower: Follower) -> None:
    talk = follower.start("c1")
    assert play.server.asked("Container.Logs") == [{"names": ["c1"], "latest": False, "follow": True}]
    one.write(1, "a")
    one.hand_over(talk, 1)
    backlog_end(talk)
    assert follower.lines(1) == ["a"]
    one.write(2, "c")
    one.write(1, "b")  # conmon had it open a little longer
    one.hand_over(talk, 2)
    assert follower.lines(2) == ["b", "c"]
    one.write(2, "d")
    assert follower.lines(1) == ["d"]
    one.write(2, "e")
    ended(talk)
    assert follower.lines(1) == ["e"]


def test_a_part_of_a_line_is_shown_as_soon_as_it_is_there(one: Log, follower: Follower) -> None:
    talk = follower.start("c1")
    one.write(1, "50% ", partial=True)
    one.hand_over(talk, 1)
    backlog_end(talk)
    assert follower.read(4) == "50% "
    one.write(1, "100%")
    assert follower.lines(1) == ["100%"]
    ended(talk)


@pytest.fixture
def broken(one: Log, follower: Follower) -> Talk:
    """The second call of a follower that has read files 1 and 2 when its supervisor went away."""
    talk = follower.start("c1")
    one.write(1, "a")
    one.write(2, "b")
    one.hand_over(talk, 1, 2)
    backlog_end(talk)
    assert follower.lines(2) == ["a", "b"]
    talk.hang_up()
    again = follower.call()
    assert again.parameters == {"names": [ONE], "follow": True}
    return again


def test_after_a_reconnection_reading_goes_on_where_it_was(
    one: Log, follower: Follower, broken: Talk
) -> None:
    one.write(2, "c")
    one.hand_over(broken, 1, 2)
    backlog_end(broken)
    assert follower.lines(1) == ["c"]
    ended(broken)


def test_a_rotation_while_there_was_no_supervisor_loses_nothing(
    one: Log, follower: Follower, broken: Talk
) -> None:
    one.write(2, "c")
    one.write(3, "d")
    one.hand_over(broken, 2, 3)
    backlog_end(broken)
    assert follower.lines(2) == ["c", "d"]
    ended(broken)


def test_many_rotations_meanwhile_give_what_is_left(one: Log, follower: Follower, broken: Talk) -> None:
    one.write(2, "c")  # it was deleted since, but this follower still holds it
    one.write(7, "x")
    one.write(8, "y")
    one.hand_over(broken, 7, 8)
    backlog_end(broken)
    assert follower.lines(3) == ["c", "x", "y"]
    ended(broken)


def test_a_container_that_was_removed_meanwhile_is_read_to_its_end(
    play: Play, one: Log, follower: Follower
) -> None:
    talk = follower.start("c1")
    one.write(1, "a")
    one.hand_over(talk, 1)
    backlog_end(talk)
    assert follower.lines(1) == ["a"]
    one.write(1, "b")
    play.server.script["Container.Exists"] = lambda talk: talk.send({"exists": False})
    talk.hang_up()
    assert follower.lines(1) == ["b"]


def test_containers_end_one_by_one(one: Log, two: Log, follower: Follower) -> None:
    talk = follower.start("-n", "c1", "c2")
    one.write(1, "a")
    two.write(1, "b")
    one.hand_over(talk, 1)
    two.hand_over(talk, 1)
    backlog_end(talk)
    assert sorted(follower.lines(2)) == ["c1 a", "c2 b"]
    ended(talk, ONE, continues=True)
    two.write(1, "c")
    assert follower.lines(1) == ["c2 c"]
    ended(talk, TWO)


def test_the_tail_reaches_back_over_rotated_files_and_then_follows(one: Log, follower: Follower) -> None:
    talk = follower.start("--tail", "2", "c1")
    one.write(1, "a", "b")
    one.write(2)
    one.write(3, "c")
    one.hand_over(talk, 1, 2, 3)
    backlog_end(talk)
    assert follower.lines(2) == ["b", "c"]
    one.write(3, "d")
    assert follower.lines(1) == ["d"]
    ended(talk)


def test_a_container_that_never_wrote_has_an_empty_log(play: Play) -> None:
    def nothing(talk: Talk) -> None:
        backlog_end(talk)
        ended(talk)

    play.server.script["Container.Logs"] = nothing
    assert play.run("logs", "c1") == (0, b"", b"")
    assert play.run("logs", "-f", "c1") == (0, b"", b"")
