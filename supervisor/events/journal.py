"""The journal of events: the newest in memory, all that retention keeps in the database.

A subscriber is a `Cursor`: a position in the journal. It costs nothing while it waits, and the publisher
never waits for it: a cursor that has fallen behind what is in memory reads pages from the database.
Events are published in the loop, in the order of their numbers, by the database (`on_events`). A waiting
cursor is always at the journal's end; one whose filter an event does not fit is moved on, not woken.

Where events are gone a cursor is told with a `Gap`: removed by retention, lost in a power cut, or a
position that belongs to another journal.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.api.event import Gap
from pyman.errors import EngineStopped
from supervisor.state import history
from supervisor.state.database import ForgetEvents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyman.api.event import Event
    from supervisor.events.filters import Filter
    from supervisor.state.database import Database

__all__ = ["OTHER_JOURNAL", "Cursor", "Journal"]

TAIL = 1024
"""Events in memory, about 600 bytes each."""
PAGE = 64
"""Events read from the database at a time; what each of many slow subscribers may hold in memory."""

OTHER_JOURNAL = "journal"
_MOST = (1 << 63) - 1
"""What the database takes of numbers and times; clients may send any."""


def _held(number: int | None) -> int | None:
    return None if number is None else max(0, min(number, _MOST))


class Journal:
    """All of it runs in the loop. `tail` is the number of events kept in memory."""

    def __init__(self, database: Database, *, tail: int = TAIL) -> None:
        self.id = database.journal_id
        self.last_seq = database.last_seq
        """The number of the last event published. Read together with the in-memory state, without an
        `await` in between, it makes a snapshot: see `supervisor.state.database`."""
        self._database = database
        # The event with number n is at n % size; numbers given in one session have no holes.
        self._tail: list[Event | None] = [None] * tail
        self._started = database.last_seq
        self._waiting: dict[Cursor, trio.lowlevel.Task] = {}
        self._closed = False
        database.on_events = self.publish

    def publish(self, events: Sequence[Event]) -> None:
        """Called by the database, and only by it. Must not raise."""
        size = len(self._tail)
        for event in events:
            self._tail[event.seq % size] = event
        self.last_seq = events[-1].seq
        woken = []
        for cursor, task in self._waiting.items():
            if cursor.concerns(events):
                woken.append((cursor, task))
            else:
                cursor.position = max(cursor.position, self.last_seq)
        for cursor, task in woken:
            del self._waiting[cursor]
            trio.lowlevel.reschedule(task)

    def cursor(
        self,
        *,
        since_seq: int | None = None,
        since: int | None = None,
        until: int | None = None,
        journal: str = "",
        matches: Filter | None = None,
        stream: bool = True,
    ) -> Cursor:
        """A position in the journal: after the number `since_seq` (of the journal `journal`, if that is
        said), or before the first event not older than `since`.

        `until` ends it at that time, `stream` False after the last event that there is now. A cursor
        that only has an end begins with the oldest event there is; one that has nothing, with the next
        event to come. Times are nanoseconds since the epoch.
        """
        since_seq, since, until = map(_held, (since_seq, since, until))
        pending: list[Event | Gap] = []
        position = self.last_seq if since_seq is None else since_seq
        bounded = until is not None or not stream
        if since_seq is not None and journal and (journal != self.id or since_seq > self.last_seq):
            # The numbers of that journal say nothing about this one.
            pending.append(Gap(first=since_seq + 1, last=since_seq, reason=OTHER_JOURNAL))
            position = 0
        past = until is not None and until <= time.time_ns()
        return Cursor(
            self,
            position=position,
            search=since_seq is None and (since is not None or bounded),
            since=since,
            until=until,
            end=None if stream and not past else self.last_seq,
            matches=matches,
            pending=pending,
        )

    async def prune(self, keep: int = 0, until: int | None = None) -> int:
        """Remove the oldest events: all but the newest `keep`; with `until` only those older than that.
        Returns how many. Cursors that ask for them are told a gap."""
        find = partial(history.find_prune, keep=min(keep, _MOST), until=_held(until))
        doomed = await self._database.read(find)
        for last in doomed.steps:
            await self._database.commit([ForgetEvents(last)])
            self._started = max(self._started, last)  # nor from memory
        return doomed.count

    def close(self) -> None:
        """Cursors end after the last event; a waiting one at once."""
        self._closed = True
        for task in self._waiting.values():
            trio.lowlevel.reschedule(task)
        self._waiting.clear()

    def statistics(self) -> Mapping[str, int]:
        return {"last_seq": self.last_seq, "waiting": len(self._waiting)}

    @property
    def closed(self) -> bool:
        return self._closed

    def in_memory(self, seq: int) -> bool:
        return seq > max(self._started, self.last_seq - len(self._tail))

    def tail(self, after: int, upto: int) -> list[Event]:
        """Those with numbers after `after` up to `upto`; all of them are in memory."""
        size = len(self._tail)
        return [event for seq in range(after + 1, upto + 1) if (event := self._tail[seq % size]) is not None]

    async def page(self, after: int, upto: int, matches: Filter | None) -> history.Page:
        read = partial(history.read_page, after=after, upto=upto, limit=PAGE, matches=matches)
        return await self._database.read(read)

    async def find_start(self, since: int | None) -> int:
        return await self._database.read(partial(history.find_start, since=since))

    async def wait(self, cursor: Cursor) -> None:
        """Until an event is published that concerns the cursor, or the journal is closed."""

        def forget(_: object) -> trio.lowlevel.Abort:
            del self._waiting[cursor]
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[cursor] = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(forget)


class Cursor:
    """Made by `Journal.cursor`. One task at a time uses it; it needs no closing."""

    def __init__(
        self,
        journal: Journal,
        *,
        position: int,
        search: bool,
        since: int | None,
        until: int | None,
        end: int | None,
        matches: Filter | None,
        pending: list[Event | Gap],
    ) -> None:
        self.position = position
        """The number up to which everything has been told or did not fit."""
        self._journal = journal
        self._search = search
        self._since = since
        self._until = until
        self._end = end
        self._matches = matches
        self._pending = pending

    async def next(self, limit: int = PAGE) -> list[Event | Gap]:
        """What comes next: at least one and at most about `limit` events and gaps, in order. Waits for
        it. An empty list is the end: of a cursor with an end, or of the supervisor.

        A cancelled call takes nothing: the next one tells it. StateDamaged, StorageFailed if events that
        are no longer in memory cannot be read.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        slept = False
        try:
            if self._search:
                self.position = min(await self._journal.find_start(self._since), self._journal.last_seq)
                self._search = False
            while not self._pending:
                upto = self._journal.last_seq if self._end is None else self._end
                if self.position < upto:
                    await self._collect(upto)
                elif self._end is not None or self._journal.closed:
                    break
                elif await self._wait():
                    slept = True
                else:
                    self._end = self._journal.last_seq
        except EngineStopped:
            self._end = self.position
        if not slept:
            # Others get their turn between two batches. One that has just been woken has given it already:
            # that halves what an event costs with many subscribers.
            await trio.lowlevel.cancel_shielded_checkpoint()
        items, self._pending = self._pending[:limit], self._pending[limit:]
        return items

    def concerns(self, events: Sequence[Event]) -> bool:
        """Whether one of these events, that were just published, is to be told."""
        return any(event.seq > self.position and self._fits(event) for event in events)

    def _fits(self, event: Event) -> bool:
        if self._until is not None and event.time_nano > self._until:
            return False
        return self._matches is None or self._matches(event)

    async def _collect(self, upto: int) -> None:
        """Look at some of the events up to the number `upto`."""
        if self._journal.in_memory(self.position + 1):
            upto = min(upto, self.position + PAGE)
            self._pending += [e for e in self._journal.tail(self.position, upto) if self._fits(e)]
            self.position = upto
            if not self._pending:
                # A filter that nothing fits must not hold the loop.
                await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            page = await self._journal.page(self.position, upto, self._fits)
            self._pending += page.items
            self.position = page.last

    async def _wait(self) -> bool:
        """False: `until` has come."""
        if self._until is None:
            await self._journal.wait(self)
            return True
        # Wall time is what the user means; the timer is set anew if the clock was changed meanwhile.
        while (left := (self._until - time.time_ns()) / 1e9) > 0:
            with trio.move_on_after(left):
                await self._journal.wait(self)
                return True
        return False
