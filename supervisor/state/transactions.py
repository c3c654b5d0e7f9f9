"""The one door: changes and the events that report them, in one transaction.

`Store` is the database's only writer and belongs to one thread at a time: the writer's while a
supervisor runs, a maintenance program's otherwise. `run` takes several requests and makes one
transaction of them; a request that fails is undone alone, by a savepoint, and takes its event numbers
with it. If the transaction as a whole fails (no space, an I/O error), each request is tried by itself.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import outcome

from pyman.api.event import Event
from pyman.errors import DiskFull, InternalError, NameInUse
from supervisor.kernel.process import boot_id as current_boot_id
from supervisor.state import changes as c
from supervisor.state import room
from supervisor.state.faults import translate
from supervisor.state.numbering import Numbering
from supervisor.state.schema import check_records, open_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["Request", "Result", "Store", "load_from"]

Result = outcome.Value[tuple[Event, ...]] | outcome.Error


class Request(msgspec.Struct, frozen=True, eq=False):
    changes: tuple[c.Change, ...]
    events: tuple[c.EventDraft, ...]
    durable: bool


class Store:
    """The database as its writer sees it.

    `open` and every method raise the errors of `pyman.errors`: StateDamaged, StorageFailed, DiskFull,
    PermissionDenied. `boot_id` is for tests; it is the kernel's otherwise.
    """

    def __init__(self, path: str, *, boot_id: str | None = None) -> None:
        self.path = path
        self._connection = open_writer(path)
        self._synchronous = "FULL"
        self._second = (-1, "")
        self._encode = msgspec.json.Encoder().encode
        self._apply: dict[type[c.Change], Callable[[Any], None]] = {
            c.PutRecord: self._put_record,
            c.PutState: self._put_state,
            c.PutDefinition: self._put_definition,
            c.DeleteRecord: self._delete_record,
            c.PutMeta: self._put_meta,
            c.PutIntent: self._put_intent,
            c.DropIntent: self._drop_intent,
            c.PutLocks: self._put_locks,
            c.ForgetEvents: self._forget_events,
        }
        self.numbering = Numbering(self._connection)
        self.event_count = 0
        self._pruned_total = 0
        try:
            self._begin_session(boot_id or current_boot_id())
        except sqlite3.Error as error:
            self._connection.close()
            raise translate(error, path) from error
        except BaseException:
            self._connection.close()
            raise

    def _begin_session(self, boot_id: str) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self.numbering.open(boot_id)
        if self.numbering.unclean:
            check_records(self._connection, self.path)
        self._connection.execute("COMMIT")
        query = "SELECT pruned_total, (SELECT count(*) FROM event) FROM journal"
        self._pruned_total, self.event_count = self._connection.execute(query).fetchone()
        room.keep_for(f"{self.path}-wal")

    @property
    def event_bytes(self) -> int:
        return self.numbering.total - self._pruned_total

    def load(self) -> c.Loaded:
        """Everything but the events."""
        try:
            return load_from(self._connection, self.numbering.last, self.numbering.journal_id)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def run(self, requests: Sequence[Request]) -> list[Result]:
        """Carry out all requests in their order; the result of each. Never raises."""
        attempt = outcome.capture(self._transact, requests)
        if isinstance(attempt, outcome.Value):
            return attempt.value
        if len(requests) > 1:
            return [self.run([request])[0] for request in requests]
        error = translate(attempt.error, self.path)
        if isinstance(attempt.error, sqlite3.Error) and isinstance(error, DiskFull) and self._make_room():
            again = outcome.capture(self._transact, requests)
            if isinstance(again, outcome.Value):
                return again.value
        return [outcome.Error(error)]

    def _make_room(self) -> bool:
        """Begin the log anew, if what is in it fits into the database."""
        try:
            self.checkpoint()
        except sqlite3.Error:
            return False
        return True

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database as far as no reader stands in the way."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def excess(self, retention: c.Retention) -> int:
        """How many of the oldest events are more than `retention` permits, by their average size."""
        average = max(self.event_bytes // max(self.event_count, 1), 1)
        over = -((retention.bytes - self.event_bytes) // average)
        return max(self.event_count - retention.entries, over, 0)

    def trim(self, count: int) -> None:
        """Remove the `count` oldest events."""
        query = "SELECT seq FROM event ORDER BY seq LIMIT 1 OFFSET ?"
        row = self._connection.execute(query, (count - 1,)).fetchone()
        if row is not None:
            self.run([Request((c.ForgetEvents(row[0]),), (), durable=False)])[0].unwrap()

    def close(self, *, clean: bool = True) -> None:
        """Mark a clean end, unless told not to, and let go of the file. Sqlite errors are told, but the
        connection is closed in any case; the next start then treats the end as unclean."""
        try:
            if clean:
                self._set_synchronous("FULL")
                self.numbering.close()
                # On a full disk the log may not fit into the database: it stays, complete, for the next one.
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            self._connection.close()

    # One transaction

    def _transact(self, requests: Sequence[Request]) -> list[Result]:
        count = sum(len(request.events) for request in requests)
        block = count > 0 and self.numbering.exhausted_by(count)
        durable = block or any(request.durable for request in requests)
        self._set_synchronous("FULL" if durable else "NORMAL")
        mark = (self.numbering.mark(), self.event_count, self._pruned_total)
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            if block:
                self.numbering.reserve(count)
            if len(requests) == 1:
                results: list[Result] = [outcome.Value(self._carry_out(requests[0]))]
            else:
                results = [self._try_one(request) for request in requests]
            execute("COMMIT")
        except BaseException:
            # Some errors (a full disk) have rolled back already.
            if self._connection.in_transaction:
                execute("ROLLBACK")
            numbers, self.event_count, self._pruned_total = mark
            self.numbering.restore(numbers)
            raise
        return results

    def _try_one(self, request: Request) -> Result:
        mark = (self.numbering.mark(), self.event_count, self._pruned_total)
        self._connection.execute("SAVEPOINT request")
        result = outcome.capture(self._carry_out, request)
        if isinstance(result, outcome.Error):
            if not self._connection.in_transaction:
                # The whole transaction is gone, and what succeeded before with it.
                raise result.error
            self._connection.execute("ROLLBACK TO request")
            numbers, self.event_count, self._pruned_total = mark
            self.numbering.restore(numbers)
            result = outcome.Error(translate(result.error, self.path))
        self._connection.execute("RELEASE request")
        return result

    def _carry_out(self, request: Request) -> tuple[Event, ...]:
        for change in request.changes:
            self._apply[type(change)](change)
        return tuple([self._record_event(draft) for draft in request.events])

    def _record_event(self, draft: c.EventDraft) -> Event:
        now = time.time_ns()
        numbering = self.numbering
        event = Event(
            id=draft.id,
            image=draft.image,
            name=draft.name,
            status=str(draft.status),
            time=self._rfc3339(now),
            time_nano=now,
            type=str(draft.type),
            attributes=draft.attributes,
            seq=numbering.last + 1,
            actor=draft.actor,
        )
        body = self._encode(event)
        total = numbering.total + len(body)
        self._connection.execute("INSERT INTO event VALUES(?, ?, ?, ?)", (event.seq, now, total, body))
        numbering.last, numbering.total = event.seq, total
        self.event_count += 1
        return event

    def _rfc3339(self, nanoseconds: int) -> str:
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        if self._second[0] != seconds:
            self._second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
        return f"{self._second[1]}.{rest:09d}Z"

    def _set_synchronous(self, mode: str) -> None:
        if self._synchronous != mode:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    # The changes

    def _put_record(self, change: c.PutRecord) -> None:
        room.require(self.path, len(change.definition) + len(change.state))
        values = (change.kind, change.id, change.name, change.lock, change.definition)
        try:
            (number,) = self._connection.execute(
                "INSERT INTO record(kind, id, name, lock, definition) VALUES(?, ?, ?, ?, ?)"
                " ON CONFLICT(kind, id) DO UPDATE SET name = excluded.name, lock = excluded.lock,"
                " definition = excluded.definition RETURNING number",
                values,
            ).fetchone()
        except sqlite3.IntegrityError as error:
            self._explain(error, change.kind, change.id, change.name)
            raise
        self._connection.execute("INSERT OR REPLACE INTO state VALUES(?, ?)", (number, change.state))

    def _put_state(self, change: c.PutState) -> None:
        done = self._connection.execute(
            "UPDATE state SET body = ? WHERE number = (SELECT number FROM record WHERE kind = ? AND id = ?)",
            (change.state, change.kind, change.id),
        )
        if done.rowcount != 1:
            raise _absent("change the state of", change.kind, change.id)

    def _put_definition(self, change: c.PutDefinition) -> None:
        try:
            done = self._connection.execute(
                "UPDATE record SET name = ?, definition = ? WHERE kind = ? AND id = ?",
                (change.name, change.definition, change.kind, change.id),
            )
        except sqlite3.IntegrityError as error:
            self._explain(error, change.kind, change.id, change.name)
            raise
        if done.rowcount != 1:
            raise _absent("change", change.kind, change.id)

    def _delete_record(self, change: c.DeleteRecord) -> None:
        done = self._connection.execute(
            "DELETE FROM record WHERE kind = ? AND id = ?", (change.kind, change.id)
        )
        if done.rowcount != 1:
            raise _absent("remove", change.kind, change.id)

    def _put_meta(self, change: c.PutMeta) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (change.key, change.value))

    def _put_intent(self, change: c.PutIntent) -> None:
        self._connection.execute("INSERT OR REPLACE INTO intent VALUES(?, ?)", (change.id, change.body))

    def _drop_intent(self, change: c.DropIntent) -> None:
        if self._connection.execute("DELETE FROM intent WHERE id = ?", (change.id,)).rowcount != 1:
            raise _absent("end", "intent", change.id)

    def _put_locks(self, change: c.PutLocks) -> None:
        self._connection.execute("UPDATE record SET lock = NULL")
        for (kind, object_id), lock in change.numbers.items():
            done = self._connection.execute(
                "UPDATE record SET lock = ? WHERE kind = ? AND id = ?", (lock, kind, object_id)
            )
            if done.rowcount != 1:
                raise _absent("renumber", kind, object_id)

    def _forget_events(self, change: c.ForgetEvents) -> None:
        query = "SELECT seq, time, total FROM event WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
        row = self._connection.execute(query, (change.last,)).fetchone()
        if row is None:
            return
        last, moment, total = row
        self._connection.execute(
            "UPDATE journal SET pruned = ?, pruned_total = ?, pruned_time = max(pruned_time, ?)",
            (last, total, moment),
        )
        self._connection.execute("DELETE FROM gap WHERE last < ?", (last,))
        self.event_count -= self._connection.execute("DELETE FROM event WHERE seq <= ?", (last,)).rowcount
        self._pruned_total = total

    def _explain(self, error: sqlite3.IntegrityError, kind: str, object_id: str, name: str) -> None:
        """Raise NameInUse if that is what the violated constraint means."""
        if "record_name" not in str(error):
            return
        kinds = ("container", "pod") if kind in {"container", "pod"} else (kind, kind)
        owner = self._connection.execute(
            "SELECT kind, id FROM record WHERE name = ? AND kind IN (?, ?) AND id <> ?",
            (name, *kinds, object_id),
        ).fetchone()
        of = f"the {owner[0]} {owner[1][:12]} has it" if owner else "it is in use"
        raise NameInUse(
            f"cannot give the {kind} the name '{name}': {of}",
            subject=name,
            hint="choose another name, or remove or rename that one",
        ) from error


def _absent(verb: str, kind: str, object_id: str) -> InternalError:
    return InternalError(f"cannot {verb} the {kind} '{object_id}': it is not recorded", subject=object_id)


def load_from(connection: sqlite3.Connection, last_seq: int, journal_id: str) -> c.Loaded:
    """Everything but the events, from any connection."""
    connection.execute("BEGIN")
    try:
        rows = connection.execute(
            "SELECT kind, id, name, lock, definition, body FROM record JOIN state USING(number) ORDER BY number"
        )
        return c.Loaded(
            meta=dict(connection.execute("SELECT key, value FROM meta")),
            records=[c.Record(*row) for row in rows],
            last_seq=last_seq,
            journal_id=journal_id,
            intents=dict(connection.execute("SELECT id, body FROM intent")),
        )
    finally:
        connection.execute("ROLLBACK")
