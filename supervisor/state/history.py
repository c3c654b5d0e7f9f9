"""Reading the stored events: pages for cursors, and where a time or a number of events falls.

Functions of a reading connection, to be run in a thread (`Database.read`). Each reads in one
transaction, so that what it says of events and of gaps fits together even while the journal is trimmed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from pyman.api.event import Event, Gap

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

__all__ = ["RETENTION", "Doomed", "Page", "find_prune", "find_start", "read_page"]

RETENTION = "retention"

LOOK = 1024
"""Events that one read looks at, at most, for some that match."""
PRUNE_STEP = 512
"""Events removed in one transaction, about 2 ms: commits get their turn in between."""

_decode = msgspec.json.Decoder(Event).decode


class Page(msgspec.Struct, frozen=True):
    items: list[Event | Gap]
    """What fits, oldest first."""
    last: int
    """The number up to which everything has been looked at."""


class Doomed(msgspec.Struct, frozen=True):
    """Events to remove: how many, and the last number of each transaction that removes some of them."""

    count: int
    steps: list[int]


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def read_page(
    connection: sqlite3.Connection,
    after: int,
    upto: int,
    limit: int,
    matches: Callable[[Event], bool] | None = None,
) -> Page:
    """The events after number `after` up to `upto` that match, at most `limit` of them, and the gaps
    between them. A gap of retention reaches from `after` to the last event removed."""
    with _snapshot(connection):
        (pruned,) = connection.execute("SELECT pruned FROM journal").fetchone()
        items: list[Event | Gap] = []
        if pruned > after:
            items.append(Gap(first=after + 1, last=min(pruned, upto), reason=RETENTION))
            after = min(pruned, upto)
        query = "SELECT first, last, reason FROM gap WHERE last > ? AND first <= ? ORDER BY first"
        gaps = connection.execute(query, (after, upto)).fetchall()
        events: list[Event | Gap] = []
        look = max(LOOK, limit)
        last = upto
        query = "SELECT seq, body FROM event WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        for looked, (seq, body) in enumerate(connection.execute(query, (after, upto, look)), start=1):
            event = _decode(body)
            if matches is None or matches(event):
                events.append(event)
            if looked == look or len(events) == limit:
                last = seq
                break
    lost = [Gap(max(first, after + 1), min(end, upto), why) for first, end, why in gaps if first <= last]
    between = [*events, *lost]
    between.sort(key=lambda item: item.seq if isinstance(item, Event) else item.first)
    return Page(items + between, last)


def find_start(connection: sqlite3.Connection, since: int | None) -> int:
    """The number before the first event that is not older than `since` (ns since the epoch), or before
    the oldest there is. 0 where retention may have removed events that are not older than `since`:
    reading from there tells the gap."""
    with _snapshot(connection):
        pruned, pruned_time = connection.execute("SELECT pruned, pruned_time FROM journal").fetchone()
        if since is None:
            return int(pruned)
        if pruned and pruned_time >= since:
            return 0
        (seq,) = connection.execute("SELECT min(seq) FROM event WHERE time >= ?", (since,)).fetchone()
        if seq is None:
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
            return max(int(last), int(pruned))
    return int(seq) - 1


def find_prune(connection: sqlite3.Connection, keep: int, until: int | None) -> Doomed:
    """The events to remove so that the newest `keep` stay and, with `until` (ns since the epoch), all
    that are not older; only from the oldest on, without holes."""
    with _snapshot(connection):
        query = "SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET ?"
        bound = connection.execute(query, (keep,)).fetchone()
        last = bound[0] if bound is not None else 0
        if until is not None:
            query = "SELECT min(seq) FROM event WHERE time >= ?"
            (first_kept,) = connection.execute(query, (until,)).fetchone()
            if first_kept is not None:
                last = min(last, first_kept - 1)
        rows = connection.execute("SELECT seq FROM event WHERE seq <= ? ORDER BY seq", (last,)).fetchall()
    steps = [seq for (seq,) in rows[PRUNE_STEP - 1 :: PRUNE_STEP]]
    if rows and steps[-1:] != [rows[-1][0]]:
        steps.append(rows[-1][0])
    return Doomed(len(rows), steps)
