"""The stream of events: told once each, over any number of supervisors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import pyman
from pyman.client import Event, Gap
from pyman.errors import EngineUnavailable
from tests.sdk.backends import on_both

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pyman.client import Events
    from tests.sdk.fake import FakeEngine


async def numbers(events: AsyncIterator[Event | Gap], count: int) -> list[int]:
    found: list[int] = []
    async for event in events:
        assert isinstance(event, Event)
        found.append(event.seq)
        if len(found) == count:
            break
    return found


@on_both
async def test_events_from_now_on(fake: FakeEngine) -> None:
    fake.emit(3)
    async with pyman.connect(fake.path) as engine, engine.events() as events:
        await events.begin()
        assert (events.seq, events.journal) == (3, "journal-1")
        fake.emit(2)
        assert await numbers(events, 2) == [4, 5]


@on_both
async def test_events_of_the_past_end_where_they_are_not_followed(fake: FakeEngine) -> None:
    fake.emit(5)
    async with pyman.connect(fake.path) as engine:
        assert await numbers(engine.events(follow=False), 99) == [1, 2, 3, 4, 5]
        assert await numbers(engine.events(since=3000, follow=False), 99) == [3, 4, 5]
        resumed = engine.events(since_seq=4, journal="journal-1", follow=False)
        assert await numbers(resumed, 99) == [5]
        assert await numbers(engine.events({"event": ["died"]}, follow=False), 99) == []


@on_both
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_new_supervisor_goes_on_where_the_old_one_ended(fake: FakeEngine, how: str) -> None:
    """Also with what happened while nobody was connected; nothing twice."""
    async with pyman.connect(fake.path) as engine, engine.events() as events:
        await events.begin()
        fake.emit(2)
        assert await numbers(events, 2) == [1, 2]
        for round_number in range(3):
            # One that was never read, one during the absence, one after it.
            fake.emit()
            await anyio.to_thread.run_sync(getattr(fake, how))
            fake.emit()
            async with anyio.create_task_group() as tasks:
                found: list[int] = []

                async def collect(found: list[int] = found) -> None:
                    found += await numbers(events, 3)

                tasks.start_soon(collect)
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(fake.start)
                fake.emit()
            assert found == [3 * round_number + number for number in (3, 4, 5)]


@on_both
async def test_a_subscription_that_has_told_nothing_yet_misses_nothing(fake: FakeEngine) -> None:
    fake.emit(4)
    async with pyman.connect(fake.path) as engine, engine.events() as events:
        await events.begin()
        await anyio.to_thread.run_sync(fake.kill)
        fake.emit(2)
        await anyio.to_thread.run_sync(fake.start)
        assert await numbers(events, 2) == [5, 6]


@on_both
async def test_what_the_journal_no_longer_holds_is_told_as_a_gap(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine, engine.events() as events:
        await events.begin()
        fake.emit(2)
        assert await numbers(events, 2) == [1, 2]
        await anyio.to_thread.run_sync(fake.kill)
        fake.emit(5)
        fake.retained_from = 6
        await anyio.to_thread.run_sync(fake.start)
        assert await anext(events) == Gap(3, 5, "retention")
        assert events.seq == 5
        assert await numbers(events, 2) == [6, 7]


@on_both
async def test_another_journal_is_told_as_a_gap_and_begins_anew(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine, engine.events() as events:
        await events.begin()
        fake.emit(3)
        assert await numbers(events, 3) == [1, 2, 3]
        await anyio.to_thread.run_sync(fake.kill)
        fake.journal, fake.journal_events = "journal-2", []
        fake.emit(2)
        await anyio.to_thread.run_sync(fake.start)
        gap = await anext(events)
        assert isinstance(gap, Gap)
        assert gap.reason == "journal"
        assert events.journal == "journal-2"
        assert await numbers(events, 1) == [1]
        await anyio.to_thread.run_sync(fake.kill)
        await anyio.to_thread.run_sync(fake.start)
        assert await numbers(events, 1) == [2]


@on_both
async def test_a_snapshot_comes_first_and_is_not_asked_for_again(fake: FakeEngine) -> None:
    fake.emit(3)
    async with pyman.connect(fake.path) as engine, engine.events(snapshot=True) as events:
        await events.begin()
        assert events.snapshot is not None
        assert events.snapshot.seq == 3
        await anyio.to_thread.run_sync(fake.kill)
        fake.emit()
        await anyio.to_thread.run_sync(fake.start)
        assert await numbers(events, 1) == [4]
        assert [request.snapshot for request in fake.requests] == [True, False]


@on_both
async def test_patience_ends_where_no_supervisor_comes_back(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine, engine.events(patience=0.1) as events:
        await events.begin()
        await anyio.to_thread.run_sync(fake.kill)
        with pytest.raises(EngineUnavailable):
            await anext(events)


@on_both
async def test_closing_ends_the_iteration(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        events: Events = engine.events()
        await events.begin()
        await events.aclose()
        assert [event async for event in events] == []
        assert not engine._pool._all
