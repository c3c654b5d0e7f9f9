"""Cursors: where they begin and end, what they are told, and what they cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.api.event import Event
from supervisor.events.filters import compile_filters
from supervisor.events.journal import Journal
from supervisor.state import history
from supervisor.state.database import Database, EventDraft, Retention
from supervisor.state.writer import TRIM_PRESSING, TRIM_SLACK
from tests.events.samples import commit, draft, drain, numbers

if TYPE_CHECKING:
    from pyman.api.event import Gap
    from supervisor.events.journal import Cursor


async def test_a_new_cursor_tells_only_what_comes(database: Database, journal: Journal) -> None:
    await commit(database, 3)
    cursor = journal.cursor()
    events = await commit(database, 2)
    assert await cursor.next() == events
    assert journal.last_seq == 5


async def test_a_waiting_cursor_is_told_at_once(
    database: Database, journal: Journal, nursery: trio.Nursery
) -> None:
    told: list[Event | Gap] = []

    async def follow() -> None:
        cursor = journal.cursor()
        while True:
            told.extend(await cursor.next())

    nursery.start_soon(follow)
    await trio.testing.wait_all_tasks_blocked()
    events = await commit(database, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert told == events
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("position", [0, 1, 50, 83, 84, 85, 99, 100])
async def test_since_seq_resumes_from_memory_or_the_database(
    database: Database, journal: Journal, position: int
) -> None:
    """16 of the 100 events are in memory."""
    await commit(database, 100)
    cursor = journal.cursor(since_seq=position, stream=False)
    assert numbers(await drain(cursor)) == list(range(position + 1, 101))


async def test_what_was_told_before_a_restart_is_told_again_the_same(path: str) -> None:
    with Database.open(path) as database:
        before = await commit(database, 5)
    with Database.open(path) as database:
        journal = Journal(database)
        assert await drain(journal.cursor(since_seq=0, stream=False, journal=journal.id)) == before


async def test_a_batch_is_no_larger_than_asked_for(database: Database, journal: Journal) -> None:
    await commit(database, 100)
    cursor = journal.cursor(since_seq=0)
    sizes: list[int] = []
    while sum(sizes) < 100:
        sizes.append(len(await cursor.next(limit=7)))
    assert max(sizes) == 7


async def test_a_cursor_that_lags_behind_memory_loses_nothing_while_events_go_on(
    database: Database, journal: Journal
) -> None:
    told: list[Event | Gap] = []

    async def follow_slowly() -> None:
        cursor = journal.cursor(since_seq=0)
        while len(told) < 400:
            told.extend(await cursor.next(limit=3))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_slowly)
        await commit(database, 400)
    assert numbers(told) == list(range(1, 401))


async def test_a_cancelled_wait_takes_nothing(database: Database, journal: Journal) -> None:
    cursor = journal.cursor()
    for _ in range(3):
        with trio.CancelScope() as scope:
            scope.cancel()
            await cursor.next()
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            await cursor.next()
    assert journal.statistics()["waiting"] == 0
    events = await commit(database, 1)
    assert await cursor.next() == events


async def test_a_filter_that_does_not_fit_leaves_the_cursor_asleep_and_up_to_date(
    database: Database, journal: Journal
) -> None:
    cursor = journal.cursor(matches=compile_filters({"event": ["died"]}))
    told: list[Event | Gap] = []

    async def follow() -> None:
        told.extend(await cursor.next())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        await commit(database, 50, "start")
        assert journal.statistics()["waiting"] == 1
        assert cursor.position == 50
        (event,) = await commit(database, 1, "died")
    assert told == [event]


async def test_filters_also_choose_from_the_database(database: Database, journal: Journal) -> None:
    for _ in range(30):
        await commit(database, 9, "start")
        await commit(database, 1, "died")
    cursor = journal.cursor(since_seq=0, matches=compile_filters({"event": ["died"]}), stream=False)
    assert numbers(await drain(cursor)) == list(range(10, 301, 10))


# Beginning and end


async def test_since_begins_with_the_first_event_not_older(database: Database, journal: Journal) -> None:
    events = await commit(database, 40)
    moment = events[9].time_nano
    assert numbers(await drain(journal.cursor(since=moment, stream=False))) == list(range(10, 41))
    assert numbers(await drain(journal.cursor(since=moment + 1, stream=False))) == list(range(11, 41))
    assert numbers(await drain(journal.cursor(since=0, stream=False))) == list(range(1, 41))
    assert await drain(journal.cursor(since=time.time_ns() + 10**12, stream=False)) == []


async def test_numbers_and_times_may_be_larger_than_the_database_takes(
    database: Database, journal: Journal
) -> None:
    await commit(database, 40)
    for far in (10**40, 10**400):
        assert numbers(await drain(journal.cursor(since=-far, until=far, stream=False))) == list(range(1, 41))
        assert numbers(await drain(journal.cursor(since_seq=-far, stream=False))) == list(range(1, 41))
        assert await drain(journal.cursor(since=far, stream=False)) == []
        assert await drain(journal.cursor(since_seq=far, stream=False)) == []
        assert await journal.prune(keep=far) == 0
        assert await journal.prune(until=-far) == 0
    assert await journal.prune(until=10**400) == 40


async def test_until_in_the_past_ends_with_the_last_event_not_newer(
    database: Database, journal: Journal
) -> None:
    events = await commit(database, 40)
    moment = events[9].time_nano
    assert numbers(await drain(journal.cursor(until=moment))) == list(range(1, 11))
    assert numbers(await drain(journal.cursor(since=events[4].time_nano, until=moment))) == list(range(5, 11))


async def test_without_stream_a_cursor_tells_everything_there_is_and_ends(
    database: Database, journal: Journal
) -> None:
    await commit(database, 40)
    cursor = journal.cursor(stream=False)
    await commit(database, 5)
    assert numbers(await drain(cursor)) == list(range(1, 41))
    assert await cursor.next() == []


async def test_until_in_the_future_ends_the_stream_at_that_time(database: Database, journal: Journal) -> None:
    begin = time.time_ns()
    cursor = journal.cursor(since_seq=0, until=begin + 200_000_000)
    (event,) = await commit(database, 1)
    assert await drain(cursor) == [event]
    assert time.time_ns() - begin >= 200_000_000
    await commit(database, 1)
    assert await cursor.next() == []


async def test_until_is_a_timer_of_the_loop_and_not_a_poll(
    database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day away: the cursor sleeps through it in one piece."""
    day = 86_400 * 10**9
    now = time.time_ns()
    cursor = journal.cursor(since_seq=0, until=now + day)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            assert await cursor.next() == []

        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        assert 86_000 < trio.lowlevel.current_statistics().seconds_to_next_deadline <= 86_400
        nursery.cancel_scope.cancel()
    assert database.last_seq == 0


async def test_a_cursor_beyond_the_end_waits_for_the_events_after_it(
    database: Database, journal: Journal, nursery: trio.Nursery
) -> None:
    cursor = journal.cursor(since_seq=10)
    told: list[Event | Gap] = []

    async def follow() -> None:
        told.extend(await cursor.next())

    nursery.start_soon(follow)
    await trio.testing.wait_all_tasks_blocked()
    await commit(database, 10)
    assert told == []
    await commit(database, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(told) == [11]


async def test_closing_ends_waiting_cursors(database: Database, journal: Journal) -> None:
    cursors = [journal.cursor(since_seq=0) for _ in range(3)]
    ended: list[list[int | tuple[int, int, str]]] = []

    async def follow(cursor: Cursor) -> None:
        ended.append(numbers(await drain(cursor)))

    async with trio.open_nursery() as nursery:
        for cursor in cursors:
            nursery.start_soon(follow, cursor)
        await commit(database, 2)
        await trio.testing.wait_all_tasks_blocked()
        journal.close()
    assert ended == [[1, 2]] * 3


async def test_a_cursor_that_reads_after_the_database_was_closed_ends(path: str) -> None:
    with Database.open(path) as database:
        journal = Journal(database, tail=4)
        await commit(database, 20)
    assert await journal.cursor(since_seq=0).next() == []


# Gaps


async def test_a_cursor_of_another_journal_is_told_and_starts_at_the_beginning(
    database: Database, journal: Journal
) -> None:
    await commit(database, 3)
    cursor = journal.cursor(since_seq=70, journal="another", stream=False)
    assert numbers(await drain(cursor)) == [(71, 70, "journal"), 1, 2, 3]


async def test_a_cursor_with_a_number_this_journal_never_gave_is_told(
    database: Database, journal: Journal
) -> None:
    """The database was put back to an older copy."""
    await commit(database, 3)
    cursor = journal.cursor(since_seq=70, journal=journal.id, stream=False)
    assert numbers(await drain(cursor)) == [(71, 70, "journal"), 1, 2, 3]


async def test_a_cursor_that_retention_has_passed_is_told_which_events_are_gone(
    database: Database, journal: Journal
) -> None:
    await commit(database, 100)
    assert await journal.prune(keep=40) == 60
    assert numbers(await drain(journal.cursor(since_seq=10, stream=False))) == [
        (11, 60, "retention"),
        *range(61, 101),
    ]
    assert numbers(await drain(journal.cursor(since_seq=60, stream=False))) == list(range(61, 101))
    assert numbers(await drain(journal.cursor(stream=False))) == list(range(61, 101))


async def test_since_a_time_that_retention_has_passed_is_told_too(
    database: Database, journal: Journal
) -> None:
    events = await commit(database, 30)
    await journal.prune(keep=10)
    assert numbers(await drain(journal.cursor(since=events[5].time_nano, stream=False))) == [
        (1, 20, "retention"),
        *range(21, 31),
    ]
    assert numbers(await drain(journal.cursor(since=events[20].time_nano, stream=False))) == list(
        range(21, 31)
    )


async def test_a_cursor_that_passes_over_a_power_cut_is_told(path: str) -> None:
    database = Database.open(path, boot_id="first")
    await commit(database, 3)
    database.close(clean=False)
    with Database.open(path, boot_id="second") as database:
        journal = Journal(database, tail=16)
        last = database.last_seq
        await commit(database, 30)
        items = numbers(await drain(journal.cursor(since_seq=1, stream=False)))
        assert items == [2, 3, (4, last, "power-cut"), *range(last + 1, last + 31)]
        # One that stood in the middle of what is lost is told the rest of it.
        items = numbers(await drain(journal.cursor(since_seq=100, stream=False)))
        assert items[0] == (101, last, "power-cut")
        # A filter hides events, not that some are lost.
        nothing = compile_filters({"event": ["none"]})
        assert numbers(await drain(journal.cursor(since_seq=1, matches=nothing, stream=False))) == [
            (4, last, "power-cut")
        ]


async def test_a_gap_at_the_very_end_is_told_before_the_next_event(path: str) -> None:
    database = Database.open(path, boot_id="first")
    await commit(database, 3)
    database.close(clean=False)
    with Database.open(path, boot_id="second") as database:
        cursor = Journal(database).cursor(since_seq=3)
        assert numbers(await cursor.next()) == [(4, database.last_seq, "power-cut")]


# Pruning and retention


async def test_prune_until_removes_only_what_is_older(database: Database, journal: Journal) -> None:
    events = await commit(database, 30)
    assert await journal.prune(until=events[12].time_nano) == 12
    assert await journal.prune(keep=25, until=events[20].time_nano) == 0
    assert await journal.prune(keep=5, until=time.time_ns()) == 13
    assert await journal.prune() == 5
    assert await journal.prune() == 0
    assert (await commit(database, 1))[0].seq == 31


async def test_pruning_much_goes_in_steps_that_let_commits_through(
    database: Database, journal: Journal
) -> None:
    for _ in range(20):
        await database.commit([], [draft() for _ in range(500)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.prune)
        seqs = [(await commit(database, 1))[0].seq for _ in range(20)]
    assert seqs == list(range(10_001, 10_021))


async def trimmed(database: Database, retention: Retention) -> None:
    """Removing goes on behind the commits; a commit comes back after what was removed before it."""
    with trio.fail_after(10):
        while database._store.excess(retention) > TRIM_SLACK:
            await database.commit([])
        await database.commit([])


async def test_retention_by_number_keeps_the_newest(path: str) -> None:
    retention = Retention(entries=500)
    with Database.open(path, retention=retention) as database:
        journal = Journal(database)
        for _ in range(100):
            await database.commit([], [draft() for _ in range(40)])
        await trimmed(database, retention)
        items = numbers(await drain(journal.cursor(since_seq=0, stream=False)))
    assert 500 <= len(items) - 1 <= 500 + TRIM_SLACK
    assert items[0] == (1, 4000 - len(items) + 1, "retention")


async def test_retention_by_size_keeps_the_newest(path: str) -> None:
    retention = Retention(bytes=200_000)
    with Database.open(path, retention=retention) as database:
        for _ in range(40):
            await database.commit([], [draft(label="x" * 1000) for _ in range(40)])
        await trimmed(database, retention)
        size = await database.read(
            lambda connection: connection.execute("SELECT sum(length(body)) FROM event").fetchone()[0]
        )
        assert size == database._store.event_bytes
    assert 190_000 < size < 200_000 + TRIM_SLACK * 1400


async def test_a_smaller_retention_takes_effect_with_the_next_commit(path: str) -> None:
    with Database.open(path) as database:
        for _ in range(10):
            await database.commit([], [draft() for _ in range(500)])
        database.set_retention(Retention(entries=100))
        await commit(database, 1)
        await trimmed(database, Retention(entries=100))
        assert 100 <= database._store.event_count <= 100 + TRIM_SLACK


async def test_a_writer_that_is_never_idle_still_trims(path: str) -> None:
    retention = Retention(entries=100)
    with Database.open(path, retention=retention) as database:

        async def work() -> None:
            for _ in range(10):
                await database.commit([], [draft() for _ in range(50)])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work)
        assert database._store.event_count <= 100 + TRIM_PRESSING + 2 * 10 * 50


# Cost


async def test_five_hundred_cursors_are_woken_without_holding_the_loop(
    database: Database, journal: Journal
) -> None:
    """The watch on the loop fails this test if a step takes 50 ms."""
    counts = [0] * 500

    async def follow(number: int) -> None:
        cursor = journal.cursor()
        while counts[number] < 20:
            counts[number] += len(await cursor.next())

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(follow, number)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(20):
            await commit(database, 1)
    assert counts == [20] * 500


async def test_a_snapshot_and_what_follows_fit_together(database: Database, journal: Journal) -> None:
    """Whoever takes the state and the last number in one step, and adds the events after it, has the state."""
    state: dict[str, str] = {}

    def change(events: tuple[Event, ...]) -> None:
        for event in events:
            state[event.name] = event.status

    async def work(name: str) -> None:
        for number in range(50):
            await database.commit([], [EventDraft("container", str(number), name=name)], apply=change)

    async def follow() -> None:
        snapshot, cursor = dict(state), journal.cursor()
        while journal.last_seq < 400 or cursor.position < 400:
            for item in await cursor.next():
                assert isinstance(item, Event)
                before = int(snapshot.get(item.name, -1))
                assert int(item.status) == before + 1, "neither missing nor twice"
                snapshot[item.name] = item.status
        assert snapshot == state

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(work, f"name{number}")
        for _ in range(20):
            nursery.start_soon(follow)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()


async def test_a_page_is_read_at_one_moment_even_while_the_journal_is_pruned(
    database: Database, journal: Journal
) -> None:
    for _ in range(10):
        await database.commit([], [draft() for _ in range(400)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.prune, 100)
        for _ in range(50):
            page = await database.read(lambda connection: history.read_page(connection, 0, 4000, 10_000))
            items = numbers(page.items)
            first = items[0]
            begin = first[1] + 1 if isinstance(first, tuple) else 1
            rest = items[1:] if isinstance(first, tuple) else items
            assert rest == list(range(begin, 4001))
