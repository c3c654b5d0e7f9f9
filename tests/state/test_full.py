"""A full disk: nothing half-made, a clear error, and on it goes when there is space again."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DiskFull, PymanError
from supervisor.state.database import Database, PutMeta, Retention
from supervisor.state.writer import TRIM_SLACK
from tests.state.samples import container, draft, listen

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    target = tmp_path / "disk"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", target], check=True)
    yield target
    subprocess.run(["umount", "-l", target], check=True)


async def fill(database: Database, size: int) -> int:
    """Commit until the disk is full; how often it worked."""
    done = 0
    while done < 10_000:
        try:
            await database.commit([container(done, size=size)], [draft(number=done)])
        except DiskFull:
            return done
        done += 1
    raise AssertionError("the disk is larger than thought")


async def test_a_full_disk_fails_the_commit_and_changes_nothing(small_disk: Path) -> None:
    path = str(small_disk / "state" / "state.db")
    with Database.open(path) as database:
        heard = listen(database)
        done = await fill(database, 20_000)
        assert done > 1
        assert len(database.load().records) == done
        assert [event.seq for event in heard] == list(range(1, done + 1))
        # With more space it goes on where it was, without a gap.
        subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)  # noqa: ASYNC221
        (event,) = await database.commit([container(done, size=20_000)], [draft()])
        assert event.seq == done + 1
    with Database.open(path) as database:
        assert len(database.load().records) == done + 1
        assert database.last_seq == done + 1


async def test_a_full_disk_fails_only_the_large_request_of_a_group(small_disk: Path) -> None:
    path = str(small_disk / "state" / "state.db")
    with Database.open(path) as database:
        outcomes: dict[int, str] = {}

        async def work(number: int) -> None:
            try:
                size = 900_000 if number == 3 else 100
                await database.commit([container(number, size=size)], [draft()])
                outcomes[number] = "done"
            except PymanError as error:
                outcomes[number] = error.code

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(work, number)
        assert outcomes == {0: "done", 1: "done", 2: "done", 3: "DiskFull", 4: "done", 5: "done"}
        assert len(database.load().records) == 5
        assert database.last_seq == 5


async def test_a_database_that_may_not_grow_says_that_the_disk_is_full(path: str) -> None:
    with Database.open(path) as database:
        pages = database._store._connection.execute("PRAGMA page_count").fetchone()[0]
        database._store._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        done = await fill(database, 3_000)
        database._store._connection.execute("PRAGMA max_page_count = 100000")
        await database.commit([container(done)], [draft()])
        assert database.last_seq == done + 1


async def test_opening_on_a_full_disk_says_so(small_disk: Path) -> None:
    Path(small_disk, "ballast").write_bytes(b"x" * 1_040_000)
    with pytest.raises(DiskFull):
        Database.open(str(small_disk / "state" / "state.db"))


async def test_a_full_disk_at_the_end_is_told_and_everything_is_closed(small_disk: Path) -> None:
    path = str(small_disk / "state" / "state.db")
    database = Database.open(path)
    await fill(database, 20_000)
    with suppress(DiskFull):
        database.close()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)  # noqa: ASYNC221
    with Database.open(path) as again:
        await again.commit([PutMeta("key", "value")])


async def test_a_full_disk_while_trimming_fails_no_commit(path: str) -> None:
    """What the writer does on its own account is tried again later."""
    retention = Retention(entries=10)
    with Database.open(path, retention=retention) as database:
        full = True
        connection = database._store._connection
        connection.create_function("no_room", 0, lambda: full)
        connection.execute(
            "CREATE TEMP TRIGGER refuse BEFORE DELETE ON event WHEN no_room() BEGIN SELECT raise(ABORT, 'no'); END"
        )
        for _ in range(200):
            await database.commit([], [draft()])
        assert database._store.event_count == 200
        full = False
        with trio.fail_after(10):
            while database._store.excess(retention) > TRIM_SLACK:
                await database.commit([])
