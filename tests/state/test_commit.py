"""The one door: what a commit changes, announces and refuses."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio
import trio.testing

from pyman.api.event import Event
from pyman.errors import EngineStopped, InternalError, NameInUse
from supervisor.state.database import (
    Database,
    DeleteRecord,
    DropIntent,
    EventDraft,
    PutDefinition,
    PutIntent,
    PutMeta,
    PutRecord,
    PutState,
    Record,
)
from tests.state.samples import ACTOR, container, draft, listen

if TYPE_CHECKING:
    import sqlite3

    from supervisor.state.database import Change


def stored_events(connection: sqlite3.Connection) -> list[Event]:
    rows = connection.execute("SELECT body FROM event ORDER BY seq").fetchall()
    return [msgspec.json.decode(body, type=Event) for (body,) in rows]


async def test_what_was_committed_is_loaded_again(path: str) -> None:
    with Database.open(path) as database:
        first = container(1, "one", lock=7)
        await database.commit([first, PutMeta("key", "value"), PutIntent("i", b"x")], [draft()], durable=True)
        await database.commit([container(2, "two"), PutState("container", first.id, b"new")], [draft()])
        await database.commit([PutDefinition("container", first.id, "renamed", b"other")])
        journal_id = database.journal_id
    with Database.open(path) as database:
        loaded = database.load()
    assert loaded.meta == {"key": "value"}
    assert loaded.intents == {"i": b"x"}
    assert loaded.journal_id == journal_id
    assert loaded.last_seq == 2
    assert loaded.records == [
        Record("container", first.id, "renamed", 7, b"other", b"new"),
        Record("container", container(2).id, "two", None, b"d" * 64, b"s" * 64),
    ]


async def test_a_removed_record_and_a_dropped_intent_are_gone(path: str) -> None:
    with Database.open(path) as database:
        await database.commit([container(1), PutIntent("i", b"")])
        await database.commit([DeleteRecord("container", container(1).id), DropIntent("i")])
        loaded = database.load()
    assert loaded.records == []
    assert loaded.intents == {}


async def test_putting_a_record_again_replaces_it_in_its_place(path: str) -> None:
    with Database.open(path) as database:
        await database.commit([container(1), container(2)])
        await database.commit([container(1, "other", lock=3)])
        assert [(r.name, r.lock) for r in database.load().records] == [("other", 3), ("name2", None)]


async def test_an_event_gets_its_number_and_time_when_it_is_committed(path: str) -> None:
    with Database.open(path) as database:
        before = time.time_ns()
        first, second = await database.commit([], [draft("create", 5, label="x"), draft("start", 5)])
        after = time.time_ns()
        assert await database.read(stored_events) == [first, second]
    assert (first.seq, second.seq) == (1, 2)
    assert before <= first.time_nano <= second.time_nano <= after
    seconds, rest = divmod(first.time_nano, 10**9)
    assert first.time == time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
    assert first.attributes == {"label": "x"}
    assert first.actor == ACTOR
    assert msgspec.to_builtins(first)["ID"] == f"{5:064x}"


async def test_events_are_announced_in_order_once_and_before_the_commit_returns(path: str) -> None:
    with Database.open(path) as database:
        heard = listen(database)

        async def work(number: int) -> None:
            for _ in range(25):
                (event,) = await database.commit([PutMeta(str(number), "x")], [draft(number=number)])
                assert event in heard
                assert database.last_seq >= event.seq

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(work, number)
        assert [event.seq for event in heard] == list(range(1, 201))
        assert await database.read(stored_events) == heard


async def test_apply_runs_in_the_step_in_which_the_events_are_announced(path: str) -> None:
    """Whoever looks sees the in-memory state and the last number fit together."""
    with Database.open(path) as database:
        state = {"applied": 0}
        looks = []

        def apply(events: tuple[Event, ...]) -> None:
            assert database.last_seq == events[0].seq - 1, "before the announcement"
            state["applied"] = events[-1].seq

        async def look() -> None:
            while database.last_seq < 100:
                looks.append((state["applied"], database.last_seq))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for _ in range(100):
                await database.commit([], [draft()], apply=apply)
        assert looks
        assert all(applied == seq for applied, seq in looks)


async def test_apply_is_not_called_for_a_commit_that_fails(path: str) -> None:
    with Database.open(path) as database:
        called: list[object] = []
        with pytest.raises(InternalError):
            await database.commit([DropIntent("absent")], [draft()], apply=called.append)
        assert called == []


@pytest.mark.parametrize("kinds", [("container", "container"), ("container", "pod"), ("volume", "volume")])
async def test_a_name_is_given_once(path: str, kinds: tuple[str, str]) -> None:
    with Database.open(path) as database:
        heard = listen(database)
        await database.commit([PutRecord(kinds[0], "a" * 64, "taken", None, b"", b"")])
        for change in (
            PutRecord(kinds[1], "b" * 64, "taken", None, b"", b""),
            PutDefinition(kinds[1], "c" * 64, "taken", b""),
        ):
            if isinstance(change, PutDefinition):
                await database.commit([PutRecord(kinds[1], "c" * 64, "free", None, b"", b"")])
            with pytest.raises(NameInUse, match=r"'taken': the .* aaaaaaaaaaaa has it") as raised:
                await database.commit([change, PutMeta("half", "made")], [draft()])
            assert raised.value.subject == "taken"
        assert "half" not in database.load().meta
        assert heard == []


async def test_kinds_apart_from_container_and_pod_have_names_of_their_own(path: str) -> None:
    with Database.open(path) as database:
        await database.commit(
            [PutRecord(kind, "a" * 64, "same", None, b"", b"") for kind in ("pod", "volume")]
        )
        assert len(database.load().records) == 2


async def test_a_removed_name_can_be_given_again_in_the_same_commit(path: str) -> None:
    """`--replace`."""
    with Database.open(path) as database:
        await database.commit([container(1, "name")])
        await database.commit([DeleteRecord("container", container(1).id), container(2, "name")])
        assert [record.id for record in database.load().records] == [container(2).id]


@pytest.mark.parametrize(
    "change",
    [
        PutState("container", "absent", b""),
        PutDefinition("container", "absent", "name", b""),
        DeleteRecord("container", "absent"),
        DropIntent("absent"),
    ],
    ids=lambda change: type(change).__name__,
)
async def test_a_change_to_what_is_not_recorded_fails(path: str, change: Change) -> None:
    with Database.open(path) as database:
        with pytest.raises(InternalError, match=r"cannot .*'absent'.* not recorded"):
            await database.commit([change], [draft()])
        assert database.last_seq == 0
        assert (await database.commit([], [draft()]))[0].seq == 1


async def test_a_lock_number_belongs_to_one_record(path: str) -> None:
    with Database.open(path) as database:
        await database.commit([container(1, lock=4)])
        with pytest.raises(InternalError):
            await database.commit([container(2, lock=4)])


async def test_a_change_of_a_wrong_type_fails_alone(path: str) -> None:
    """A bug in one request does not stop the writer."""
    with Database.open(path) as database:
        with pytest.raises(InternalError):
            await database.commit([PutMeta("key", object())])  # type: ignore[arg-type]
        with pytest.raises(InternalError):
            await database.commit([object()])  # type: ignore[list-item]
        with pytest.raises(InternalError):
            await database.commit([], [EventDraft("container", "create", name="\udc80")])
        await database.commit([PutMeta("key", "value")])
        assert database.load().meta == {"key": "value"}


async def test_in_a_group_a_failing_request_fails_alone_and_takes_no_number(path: str) -> None:
    with Database.open(path) as database:
        heard = listen(database)
        await database.commit([container(0, "taken")])
        failed = []

        async def create(number: int) -> None:
            try:
                name = "taken" if number % 3 == 0 else f"free{number}"
                await database.commit(
                    [container(number, name)], [draft(number=number)], durable=number % 2 == 0
                )
            except NameInUse:
                failed.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(1, 61):
                nursery.start_soon(create, number)
        assert sorted(failed) == list(range(3, 61, 3))
        assert [event.seq for event in heard] == list(range(1, 41))
        assert len(database.load().records) == 41
        assert await database.read(stored_events) == heard


async def test_a_cancelled_commit_writes_nothing(path: str) -> None:
    with Database.open(path) as database:
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.commit([PutMeta("key", "value")], [draft()])
        assert scope.cancelled_caught
        await database.commit([PutMeta("other", "value")])
        assert database.load().meta == {"other": "value"}
        assert database.last_seq == 0


async def test_a_commit_that_has_begun_is_not_cancelled(path: str) -> None:
    with Database.open(path) as database:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()

            async with trio.open_nursery() as nursery:
                # Scheduled now, so it runs while the commit waits.
                nursery.start_soon(cancel)
                (event,) = await database.commit([PutMeta("key", "value")], [draft()])
                assert event.seq == 1
        assert database.load().meta == {"key": "value"}


async def test_after_closing_a_commit_and_a_read_say_that_the_engine_has_stopped(path: str) -> None:
    database = Database.open(path)
    database.close()
    database.close()
    with pytest.raises(EngineStopped):
        await database.commit([PutMeta("key", "value")])
    with pytest.raises(EngineStopped):
        await database.read(stored_events)


async def test_closing_finishes_the_commits_that_have_begun(path: str) -> None:
    database = Database.open(path)
    done = []

    async def work(number: int) -> None:
        await database.commit([PutMeta(str(number), "")], durable=True)
        done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(work, number)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(database.close)
    assert len(done) == 20
    with Database.open(path) as again:
        assert len(again.load().meta) == 20


async def test_a_commit_is_fast(path: str) -> None:
    """One round trip through the writer takes well under a millisecond; a generous bound for a busy machine, which the
    quickest tenth of them keeps."""
    with Database.open(path) as database:
        await database.commit([container(1)])
        times = []
        for number in range(200):
            start = time.perf_counter()
            await database.commit([PutState("container", container(1).id, b"%d" % number)], [draft()])
            times.append(time.perf_counter() - start)
    assert sorted(times)[20] < 0.002


async def test_a_commit_gets_through_while_the_loop_is_busy(path: str) -> None:
    """A loop that takes the interpreter back at every poll does not starve the writer."""
    with Database.open(path) as database:
        finished = False

        async def be_busy() -> None:
            while not finished:
                until = time.perf_counter() + 0.0002
                while time.perf_counter() < until:
                    pass
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(be_busy)
            taken = list[float]()
            while len(taken) < 5 and (not taken or taken[-1] >= 3):  # not each time, on a busy machine
                start = time.perf_counter()
                for _ in range(50):
                    await database.commit([], [draft()])
                taken.append(time.perf_counter() - start)
            finished = True
    assert taken[-1] < 3, taken


async def test_an_idle_database_never_wakes_up(path: str) -> None:
    """No thread of the process that belongs to it is given the processor while nobody asks for anything."""
    with Database.open(path) as database:
        await database.commit([PutMeta("key", "value")], [draft()])
        (writer,) = [thread for thread in threading.enumerate() if thread.name == "state-writer"]

        def switches() -> int:
            with open(f"/proc/self/task/{writer.native_id}/status", encoding="ascii") as file:
                return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

        # The housekeeping after the commit is over when the next one comes back.
        await database.commit([])
        woken = list[int]()
        while len(woken) < 5 and (not woken or woken[-1]):  # until it has come to its rest
            await trio.sleep(0.05)
            before = switches()
            await trio.sleep(0.5)
            woken.append(switches() - before)
        assert not woken[-1], woken
