"""Changes and events to try the state with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.api.event import Actor
from supervisor.state.database import EventDraft, PutRecord

if TYPE_CHECKING:
    from pyman.api.event import Event
    from supervisor.state.database import Database

ACTOR = Actor(uid=0, pid=1)


def container(number: int, name: str = "", *, lock: int | None = None, size: int = 64) -> PutRecord:
    return PutRecord(
        kind="container",
        id=f"{number:064x}",
        name=name or f"name{number}",
        lock=lock,
        definition=b"d" * size,
        state=b"s" * size,
    )


def draft(status: str = "create", number: int = 0, **attributes: str) -> EventDraft:
    return EventDraft(
        type="container",
        status=status,
        id=f"{number:064x}",
        name=f"name{number}",
        image="localhost/image:latest",
        attributes=attributes,
        actor=ACTOR,
    )


def listen(database: Database) -> list[Event]:
    """What the database announces from now on, as it comes."""
    heard: list[Event] = []
    database.on_events = heard.extend
    return heard
