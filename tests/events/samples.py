"""Events to try the journal with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.event import Event
from supervisor.state.database import EventDraft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyman.api.event import Gap
    from supervisor.events.journal import Cursor
    from supervisor.state.database import Database


def draft(status: str = "start", name: str = "one", kind: str = "container", **attributes: str) -> EventDraft:
    return EventDraft(kind, status, id=name * 20, name=name, image="image", attributes=attributes)


async def commit(database: Database, count: int = 1, status: str = "start") -> list[Event]:
    events: list[Event] = []
    for _ in range(count):
        events += await database.commit([], [draft(status)])
    return events


async def drain(cursor: Cursor) -> list[Event | Gap]:
    """Everything up to the cursor's end."""
    items: list[Event | Gap] = []
    while batch := await cursor.next():
        items += batch
    return items


def numbers(items: Iterable[Event | Gap]) -> list[int | tuple[int, int, str]]:
    """Events as their numbers, gaps as triples."""
    return [item.seq if isinstance(item, Event) else (item.first, item.last, item.reason) for item in items]
