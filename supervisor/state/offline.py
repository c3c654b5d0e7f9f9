"""Maintenance while no supervisor runs: renumber, migrate, reset, check.

`exclusive` opens the state and holds every lock, so that no supervisor can use it meanwhile; the caller
holds the supervisor's own instance lock as well. All of it blocks; there is no loop. Definitions are
opaque here: whoever knows their form passes a function that rewrites or reads them.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyman.api.system import Problem
from pyman.errors import PymanError, StateDamaged, StorageFailed
from pyman.names import EventStatus, EventType
from supervisor.state.changes import DeleteRecord, EventDraft, PutDefinition, PutLocks
from supervisor.state.faults import translate
from supervisor.state.locks import Locks, hold_all
from supervisor.state.schema import open_reader
from supervisor.state.transactions import Request, Store, load_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyman.api.event import Event
    from supervisor.settings.model import EngineSettings
    from supervisor.state.changes import Change, Loaded, Record

__all__ = ["Maintenance", "check", "exclusive", "reset"]


class Maintenance:
    """The state, opened by `exclusive`. Each method is one durable transaction."""

    def __init__(self, store: Store, locks: Locks, loaded: Loaded) -> None:
        self.loaded = loaded
        """As it was when it was opened."""
        self._store = store
        self._locks = locks

    def commit(self, changes: Sequence[Change], events: Sequence[EventDraft] = ()) -> tuple[Event, ...]:
        """As `Database.commit`, with the same errors."""
        return self._store.run([Request(tuple(changes), tuple(events), durable=True)])[0].unwrap()

    def renumber(self, relock: Callable[[Record, int], bytes]) -> int:
        """Give the records that have a lock the numbers from 0 on, in the order they were made, and
        record the event `renumber`; how many there are. `relock` writes the number into a definition."""
        records = [record for record in self.loaded.records if record.lock is not None]
        numbers = {(record.kind, record.id): number for number, record in enumerate(records)}
        changes: list[Change] = [PutLocks(numbers)]
        for number, record in enumerate(records):
            changes.append(PutDefinition(record.kind, record.id, record.name, relock(record, number)))
        self.commit(changes, [EventDraft(EventType.SYSTEM, EventStatus.RENUMBER)])
        self._locks.renumber(len(records))
        return len(records)

    def migrate(
        self, rewrite: Callable[[Record], bytes | None], attributes: dict[str, str] | None = None
    ) -> int:
        """Rewrite definitions (for another OCI runtime) and record the event `migrate`; how many were
        changed. `rewrite` gives the new definition, or None to leave it."""
        changes: list[Change] = []
        for record in self.loaded.records:
            definition = rewrite(record)
            if definition is not None and definition != record.definition:
                changes.append(PutDefinition(record.kind, record.id, record.name, definition))
        event = EventDraft(EventType.SYSTEM, EventStatus.MIGRATE, attributes=attributes or {})
        self.commit(changes, [event])
        return len(changes)


@contextmanager
def exclusive(
    database: str, lock_file: str, settings: EngineSettings, *, renumber: bool = False
) -> Iterator[Maintenance]:
    """Open the state for maintenance. `renumber` takes over a lock file that does not fit.

    AlreadyRunning, LocksMismatch, and what opening a `Database` raises.
    """
    file = hold_all(lock_file)
    try:
        store = Store(database)
        try:
            loaded = store.load()
            # Closed with the file; from here on it owns it.
            locks = Locks.adopt(file, settings, loaded, renumber=renumber)
            yield Maintenance(store, locks, loaded)
        finally:
            store.close()
    finally:
        file.close()


def reset(database: str, lock_file: str) -> None:
    """Forget everything: the database and the lock file are deleted. What the records described is the
    caller's to end and delete before. AlreadyRunning, StorageFailed."""
    file = hold_all(lock_file)
    try:
        # The log before the database: a log alone would be taken for the next database's.
        for path in (f"{database}-wal", f"{database}-shm", database, lock_file):
            with suppress(FileNotFoundError):
                os.unlink(path)
    except OSError as error:
        raise StorageFailed(
            f"cannot delete '{error.filename}': {error.strerror}", subject=database
        ) from error
    finally:
        file.close()


def check(
    database: str,
    decode: Callable[[Record], str],
    repair: Maintenance | None = None,
) -> list[Problem]:
    """What is wrong with the state: the file, the records, the journal's numbers.

    `decode` reads a record and gives the id of the container it belongs to, empty for one that belongs
    to none; it raises ValueError for one it cannot read. With `repair`, records whose container is gone
    are deleted; otherwise this only reads. An empty list: nothing is wrong. StorageFailed if it cannot
    be read.
    """
    problems: list[Problem] = []
    if not os.path.exists(database):
        return problems
    try:
        connection = open_reader(database)
        try:
            problems += [
                Problem(database, f"the database is damaged: {row[0]}")
                for row in connection.execute("PRAGMA integrity_check(100)")
                if row[0] != "ok"
            ]
            problems += [Problem(database, text) for text in _journal_problems(connection)]
            loaded = load_from(connection, 0, "")
        finally:
            connection.close()
    except sqlite3.Error as error:
        told = translate(error, database)
        if not isinstance(told, StateDamaged):
            raise told from error
        return [*problems, Problem(database, f"the database is damaged: {error}")]
    unreadable, orphans = _record_problems(loaded, decode)
    if repair is not None and orphans:
        repair.commit([DeleteRecord(record.kind, record.id) for record in orphans])
    repaired = repair is not None
    text = "it belongs to a container that is not recorded"
    problems += unreadable
    problems += [Problem(f"{record.kind} {record.id}", text, repaired=repaired) for record in orphans]
    return problems


def _record_problems(loaded: Loaded, decode: Callable[[Record], str]) -> tuple[list[Problem], list[Record]]:
    """Records that cannot be read, and those whose container is gone."""
    containers = {record.id for record in loaded.records if record.kind == "container"}
    unreadable, orphans = [], []
    for record in loaded.records:
        try:
            parent = decode(record)
        except (ValueError, PymanError) as error:
            unreadable.append(Problem(f"{record.kind} {record.id}", f"its record cannot be read: {error}"))
            continue
        if parent and parent not in containers:
            orphans.append(record)
    return unreadable, orphans


def _journal_problems(connection: sqlite3.Connection) -> list[str]:
    """Numbers that are missing between two events without a recorded gap."""
    rows = connection.execute(
        "SELECT seq, following FROM (SELECT seq, lead(seq) OVER (ORDER BY seq) AS following FROM event)"
        " WHERE following > seq + 1"
    ).fetchall()
    gaps = connection.execute("SELECT first, last FROM gap").fetchall()
    problems = []
    for seq, following in rows:
        told = sum(last - first + 1 for first, last in gaps if first > seq and last < following)
        if told != following - seq - 1:
            problems.append(f"the journal lacks events between {seq} and {following}")
    return problems
