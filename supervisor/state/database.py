"""The state: one SQLite database, loaded at start and changed through one door.

What the supervisor owns is in memory, so reads touch no disk; `commit` is the only way to change
anything. A change and the events that report it are one transaction. The events are announced in the
Trio loop in the order of their numbers, each exactly once, before the `commit` that made them returns.

The rule of snapshots: in the loop, between two checkpoints, the in-memory state and the journal's
`last_seq` belong together, provided that the in-memory state is changed by `commit(apply=…)`: `apply`
runs in the same step in which the events are announced. A snapshot is then simply both, read without
an `await` in between, and every event after that number is a change to it.

`durable=True` (definitions: create, update, remove) outlives a power cut; the rest outlives the process,
and the last of it may be lost with the machine, which a gap in the numbers then says.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Self, TypeVar

import outcome
import trio

from pyman.errors import EngineStopped
from supervisor.state.changes import (
    Change,
    DeleteRecord,
    DropIntent,
    EventDraft,
    ForgetEvents,
    Loaded,
    PutDefinition,
    PutIntent,
    PutLocks,
    PutMeta,
    PutRecord,
    PutState,
    Record,
    Retention,
)
from supervisor.state.faults import translate
from supervisor.state.schema import open_reader
from supervisor.state.transactions import Store, load_from
from supervisor.state.writer import Pending, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pyman.api.event import Event
    from supervisor.state.transactions import Result

__all__ = [
    "Change",
    "Database",
    "DeleteRecord",
    "DropIntent",
    "EventDraft",
    "ForgetEvents",
    "Loaded",
    "PutDefinition",
    "PutIntent",
    "PutLocks",
    "PutMeta",
    "PutRecord",
    "PutState",
    "Record",
    "Retention",
]

READERS = 4
"""Reads of the database at the same time."""

_T = TypeVar("_T")


class Database:
    """An open state database. One Trio loop uses it at a time; `close` when it has ended, or in a thread.

    `on_events` is called in the loop with the events of each transaction; the journal sets it.
    """

    def __init__(self, store: Store, retention: Retention) -> None:
        self.path = store.path
        self.journal_id = store.numbering.journal_id
        self.last_seq = store.numbering.last
        """The number of the last event announced."""
        self.on_events: Callable[[tuple[Event, ...]], None] = _nobody_listens
        self._store = store
        self._closed = False
        self._limiter = trio.CapacityLimiter(READERS)
        self._readers: list[sqlite3.Connection] = []
        self._writer = Writer(store, retention, self._announce)

    @classmethod
    def open(cls, path: str, *, retention: Retention | None = None, boot_id: str | None = None) -> Database:
        """Open or make the database; for the start of the supervisor, as it blocks for some milliseconds.

        StateDamaged, PermissionDenied, StorageFailed, DiskFull. `boot_id` is for tests.
        """
        return cls(Store(path, boot_id=boot_id), retention or Retention())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self) -> Loaded:
        """Everything but the events; for the start, as it blocks."""
        try:
            connection = open_reader(self.path)
            try:
                return load_from(connection, self.last_seq, self.journal_id)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    async def commit(
        self,
        changes: Sequence[Change],
        events: Sequence[EventDraft] = (),
        *,
        durable: bool = False,
        apply: Callable[[tuple[Event, ...]], None] | None = None,
    ) -> tuple[Event, ...]:
        """Carry out all changes and record the events, or do nothing; the events as recorded.

        A cancellation before it begins leaves everything as it was; from then on it is carried out and
        not cancelled. `apply` is called in the loop with the events, in the step in which they are
        announced and before that, and not at all if the commit fails; it must not raise.

        NameInUse, DiskFull, StorageFailed, StateDamaged, EngineStopped; nothing has changed then.
        InternalError for a change to something that is not recorded.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise EngineStopped("cannot change the state: the supervisor is shutting down")
        request = Pending(
            changes=tuple(changes),
            events=tuple(events),
            durable=durable,
            apply=apply,
            task=trio.lowlevel.current_task(),
            token=trio.lowlevel.current_trio_token(),
        )
        self._writer.put(request)
        committed: tuple[Event, ...] = await trio.lowlevel.wait_task_rescheduled(_not_cancellable)
        return committed

    async def read(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        """Call `function` in a thread with a connection that cannot write."""
        if self._closed:
            raise EngineStopped("cannot read the state: the supervisor is shutting down")
        return await trio.to_thread.run_sync(self._read, function, limiter=self._limiter)

    def set_retention(self, retention: Retention) -> None:
        """Takes effect after the next commit."""
        self._writer.retention = retention

    def close(self, *, clean: bool = True) -> None:
        """Finish the commits that have begun, mark a clean end and close. Blocks; twice is once.

        An error is raised after everything has been closed; the next start then treats the end as
        unclean, which it was. `clean` False is for tests.
        """
        if self._closed:
            return
        self._closed = True
        self._writer.stop()
        while self._readers:
            self._readers.pop().close()
        self._store.close(clean=clean)

    def _read(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            # As many connections as reads ever ran at once: at most READERS.
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = open_reader(self.path)
            try:
                return function(connection)
            finally:
                if self._closed:
                    connection.close()
                else:
                    self._readers.append(connection)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def _announce(self, pairs: Sequence[tuple[Pending, Result]]) -> None:
        """In the loop, in the order of the commits."""
        for request, result in pairs:
            told: outcome.Outcome[tuple[Event, ...]] = result
            if isinstance(result, outcome.Value):
                events = result.value
                if request.apply is not None:
                    applied = outcome.capture(request.apply, events)
                    told = applied if isinstance(applied, outcome.Error) else result
                if events:
                    self.last_seq = events[-1].seq
                    self.on_events(events)
            trio.lowlevel.reschedule(request.task, told)


def _not_cancellable(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _nobody_listens(_: tuple[Event, ...]) -> None:
    pass
