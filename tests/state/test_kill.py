"""What outlives the process, and what outlives the machine."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pyman.api.event import Event, Gap
from supervisor.state import history
from supervisor.state.database import Database, PutMeta
from supervisor.state.numbering import BLOCK
from supervisor.state.transactions import Request, Store
from tests.state.samples import draft

if TYPE_CHECKING:
    import sqlite3


def run_and_kill(path: str, tasks: int, lines: int) -> list[tuple[int, int, int]]:
    """Start the committer, kill it with SIGKILL when it has printed so many lines; all that it printed."""
    command = [sys.executable, "-m", "tests.state.committer", path, str(tasks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        printed = [program.stdout.readline() for _ in range(lines)]
        program.kill()
        printed += program.stdout.readlines()
    # The last line may be cut off by the kill.
    whole = [line.split() for line in printed if line.endswith(b"\n")]
    return [(int(seq), int(task), int(count)) for seq, task, count in whole]


def events_of(connection: sqlite3.Connection) -> list[tuple[int, int, int]]:
    rows = connection.execute("SELECT body FROM event ORDER BY seq").fetchall()
    events = [msgspec.json.decode(body, type=Event) for (body,) in rows]
    return [(event.seq, int(event.id, 16), int(event.attributes["count"])) for event in events]


@pytest.mark.parametrize("tasks", [1, 8])
async def test_killed_at_any_instant_nothing_committed_is_lost_doubled_or_numbered_with_a_gap(
    path: str, tasks: int
) -> None:
    printed: list[tuple[int, int, int]] = []
    for _ in range(4):
        printed += run_and_kill(path, tasks, random.randint(1, 400))
    with Database.open(path) as database:
        stored = await database.read(events_of)
        meta = database.load().meta
        last = database.last_seq
    assert set(printed) <= set(stored)
    assert [seq for seq, _, _ in stored] == list(range(1, last + 1))
    # Change and event are one: each task's counter stands where its last event says, and has no holes.
    for task in range(tasks):
        counts = [count for _, who, count in stored if who == task]
        assert counts == list(range(1, len(counts) + 1))
        assert meta[str(task)] == str(counts[-1])


def commit_events(store: Store, count: int) -> list[int]:
    result = store.run([Request((), tuple(draft() for _ in range(count)), durable=False)])[0]
    return [event.seq for event in result.unwrap()]


async def read_all(database: Database) -> list[Event | Gap]:
    page = await database.read(lambda connection: history.read_page(connection, 0, database.last_seq, 10**6))
    return page.items


async def test_after_a_power_cut_numbering_goes_on_behind_a_recorded_gap(path: str) -> None:
    store = Store(path, boot_id="first")
    assert commit_events(store, 3) == [1, 2, 3]
    store.close(clean=False)
    with Database.open(path, boot_id="second") as database:
        assert database.last_seq == BLOCK
        (event,) = await database.commit([], [draft()])
        assert event.seq == BLOCK + 1
        items = await read_all(database)
    assert [item.seq for item in items if isinstance(item, Event)] == [1, 2, 3, BLOCK + 1]
    assert items[3] == Gap(first=4, last=BLOCK, reason="power-cut")


async def test_numbers_that_were_told_but_lost_are_not_given_again(path: str) -> None:
    """The machine fails after more events than the disk has: those that subscribers saw are in the gap."""
    store = Store(path, boot_id="first")
    commit_events(store, 2)
    lost = commit_events(store, BLOCK * 2)[-1]
    # What the disk is left with after the failure: the synchronised reservation, not the last events.
    store._connection.execute("DELETE FROM event WHERE seq > ?", (BLOCK + 10,))
    store.close(clean=False)
    with Database.open(path, boot_id="second") as database:
        (event,) = await database.commit([], [draft()])
        assert event.seq > lost
        items = await read_all(database)
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert (gap.first, gap.last) == (BLOCK + 11, event.seq - 1)


def test_a_reboot_after_a_clean_end_leaves_no_gap(path: str) -> None:
    store = Store(path, boot_id="first")
    commit_events(store, 3)
    store.close()
    store = Store(path, boot_id="second")
    assert commit_events(store, 1) == [4]
    store.close()


def test_in_the_same_boot_numbering_goes_on_exactly(path: str) -> None:
    for number in range(1, 4):
        store = Store(path, boot_id="same")
        assert commit_events(store, 1) == [number]
        store.close(clean=False)


def test_a_power_cut_before_the_first_event_and_two_in_a_row_skip_whole_blocks(path: str) -> None:
    Store(path, boot_id="first").close(clean=False)
    Store(path, boot_id="second").close(clean=False)
    store = Store(path, boot_id="third")
    (seq,) = commit_events(store, 1)
    assert seq == 2 * BLOCK + 1
    gaps = store._connection.execute("SELECT first, last FROM gap ORDER BY first").fetchall()
    assert gaps == [(1, BLOCK), (BLOCK + 1, 2 * BLOCK)]
    store.close()


async def test_the_journal_keeps_its_id_and_another_database_has_another(path: str) -> None:
    with Database.open(path) as database:
        first = database.journal_id
    with Database.open(path) as database:
        assert database.journal_id == first
    with Database.open(path + "2") as database:
        assert database.journal_id != first


async def test_a_number_is_not_given_again_when_all_events_are_pruned(path: str) -> None:
    store = Store(path)
    commit_events(store, 5)
    store.trim(5)
    assert store.event_count == 0
    assert store.event_bytes == 0
    store.close()
    with Database.open(path) as database:
        assert database.last_seq == 5
        await database.commit([PutMeta("key", "value")], [draft()])
        assert await read_all(database) == [
            Gap(first=1, last=5, reason="retention"),
            *[item for item in await read_all(database) if isinstance(item, Event) and item.seq == 6],
        ]


def test_blocks_are_reserved_with_synchronised_commits_only_when_they_are_used_up(path: str) -> None:
    store = Store(path)
    modes = []
    for _ in range(3):
        commit_events(store, BLOCK // 2)
        modes.append(store._synchronous)
    assert modes == ["NORMAL", "NORMAL", "FULL"]
    store.close()


def test_a_group_larger_than_a_block_gets_its_numbers(path: str) -> None:
    store = Store(path)
    assert commit_events(store, 3 * BLOCK) == list(range(1, 3 * BLOCK + 1))
    assert not store.numbering.exhausted_by(1)
    store.close()
