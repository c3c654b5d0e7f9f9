"""Logs read from handed-over files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

import pyman
from pyman.client import Line
from tests.sdk.backends import on_both

if TYPE_CHECKING:
    from pathlib import Path

    from pyman.client import Logs
    from tests.sdk.fake import FakeEngine


def stamp(number: int) -> str:
    return f"2024-01-01T00:{number // 60:02}:{number % 60:02}.123456789+00:00"


def record(number: int, *, stream: str = "stdout", tag: str = "F", text: str = "") -> str:
    return f"{stamp(number)} {stream} {tag} {text or number}\n"


def log_file(directory: Path, name: str, *numbers: int) -> str:
    path = directory / name
    path.write_text("".join(record(number) for number in numbers))
    return str(path)


async def texts(logs: Logs, count: int = -1) -> list[str]:
    found: list[str] = []
    async for line in logs:
        found.append(line.text.decode())
        if len(found) == count:
            break
    return found


@on_both
async def test_files_are_read_oldest_first(fake: FakeEngine, tmp_path: Path) -> None:
    fake.log_files = [log_file(tmp_path, "1", 0, 1), log_file(tmp_path, "2", 2)]
    async with pyman.connect(fake.path) as engine:
        assert await texts(engine.containers.logs("web")) == ["0", "1", "2"]


@on_both
async def test_a_line_says_when_where_and_whether_it_goes_on(fake: FakeEngine, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(record(1, tag="P", text="a") + record(2, stream="stderr", text="b") + record(3, text="c"))
    fake.log_files = [str(path)]
    async with pyman.connect(fake.path) as engine:
        assert [line async for line in engine.containers.logs("web")] == [
            Line(stamp(1), "stdout", b"a", partial=True),
            Line(stamp(2), "stderr", b"b"),
            Line(stamp(3), "stdout", b"c"),
        ]


@on_both
async def test_only_the_last_lines_or_those_of_a_time(fake: FakeEngine, tmp_path: Path) -> None:
    fake.log_files = [log_file(tmp_path, "1", *range(100)), log_file(tmp_path, "2", *range(100, 110))]
    begin = 1704067200.123456789
    async with pyman.connect(fake.path) as engine:
        logs = engine.containers.logs
        assert await texts(logs("web", tail=3)) == ["107", "108", "109"]
        assert await texts(logs("web", tail=12)) == [str(number) for number in range(98, 110)]
        assert await texts(logs("web", tail=0)) == []
        assert await texts(logs("web", since=begin + 107.5)) == ["108", "109"]
        assert await texts(logs("web", until=begin + 1.5)) == ["0", "1"]
        assert await texts(logs("web", since=begin + 104.5, tail=50, until=begin + 106.5)) == ["105", "106"]


@on_both
async def test_a_log_without_files_has_no_lines(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        assert await texts(engine.containers.logs("web")) == []
        assert await texts(engine.containers.logs("web", follow=True)) == []


@on_both
async def test_a_follower_sees_growth_rotation_and_the_end(fake: FakeEngine, tmp_path: Path) -> None:
    fake.log_files = [log_file(tmp_path, "1", 0, 1, 2)]
    fake.log_ended = False
    async with pyman.connect(fake.path) as engine, engine.containers.logs("web", follow=True, tail=1) as logs:
        assert await texts(logs, 1) == ["2"]
        async with anyio.create_task_group() as tasks:
            found: list[str] = []

            async def read(count: int) -> None:
                found.extend(await texts(logs, count))

            tasks.start_soon(read, 2)
            await anyio.wait_all_tasks_blocked()
            with open(tmp_path / "1", "a") as file:  # noqa: ASYNC230
                file.write(record(3) + record(4)[:20])
                file.flush()
                await anyio.wait_all_tasks_blocked()
                file.write(record(4)[20:])
        assert found == ["3", "4"]
        # The file's last lines come before those of its successor, whatever its name is by then.
        os.rename(tmp_path / "1", tmp_path / "1.old")
        second = log_file(tmp_path, "1", 6)
        fake.rotate(second)
        with open(tmp_path / "1.old", "a") as file:  # noqa: ASYNC230
            file.write(record(5))
        assert await texts(logs, 2) == ["5", "6"]
        with open(second, "a") as file:  # noqa: ASYNC230
            file.write(record(7))
        fake.end_log()
        assert await texts(logs) == ["7"]


@on_both
async def test_a_follower_gives_everything_through_many_rotations(fake: FakeEngine, tmp_path: Path) -> None:
    fake.log_ended = False
    fake.log_files = [log_file(tmp_path, "0")]
    lines = 20_000

    def write() -> None:
        """As conmon and the supervisor do it: records appended, now and then a new file."""
        file = open(tmp_path / "0", "a")  # noqa: SIM115 - replaced at every rotation
        for number in range(lines):
            file.write(record(number % 3600, text=str(number)))
            if number % 1000 == 999:
                file.close()
                path = log_file(tmp_path, str(number))
                fake.rotate(path)
                file = open(path, "a")  # noqa: SIM115
        file.close()
        fake.end_log()

    async with pyman.connect(fake.path) as engine, anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, write)
        found = await texts(engine.containers.logs("web", follow=True))
    assert found == [str(number) for number in range(lines)]


@on_both
async def test_leaving_early_closes_everything(fake: FakeEngine, tmp_path: Path) -> None:
    fake.log_files = [log_file(tmp_path, "1", 0, 1, 2), log_file(tmp_path, "2", 3)]
    fake.log_ended = False
    async with pyman.connect(fake.path) as engine:
        async with engine.containers.logs("web", follow=True) as logs:
            assert await texts(logs, 1) == ["0"]
        assert await texts(logs) == []
        assert not engine._pool._all
        with anyio.move_on_after(0.05):
            await texts(engine.containers.logs("web", follow=True))
        assert not engine._pool._all
