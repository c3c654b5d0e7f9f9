"""A volume in memory, and in the form in which it is recorded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.names import EventType
from supervisor.state.changes import EventDraft, PutRecord

if TYPE_CHECKING:
    from pyman.api.event import Actor
    from pyman.names import EventStatus
    from supervisor.runtime.volumes.records import Volume, VolumeObserved

__all__ = ["Entry", "recorded"]

_encode = msgspec.json.Encoder().encode


class Entry:
    """A volume. Whoever changes `observed` commits it first."""

    __slots__ = ("definition", "filling", "holds", "mounting", "noting", "observed")

    def __init__(self, definition: Volume, observed: VolumeObserved) -> None:
        self.definition = definition
        self.observed = observed
        self.holds = 0
        """How much work is under way that needs it mounted."""
        self.mounting = trio.Lock()
        """Held by whoever mounts or unmounts it."""
        self.noting = trio.Lock()
        """Held by whoever records a change of it: what two change at once counts both."""
        self.filling = threading.Lock()
        """Held by whoever gives it its first contents and its owner."""

    @property
    def name(self) -> str:
        return self.definition.name

    def event(self, status: EventStatus, actor: Actor | None, **attributes: str) -> EventDraft:
        return EventDraft(
            type=EventType.VOLUME.value,
            status=status.value,
            id=self.name,
            name=self.name,
            attributes={**self.definition.labels, **attributes},
            actor=actor,
        )


def recorded(entry: Entry) -> PutRecord:
    """The change that records it as new."""
    definition = entry.definition
    return PutRecord(
        "volume",
        definition.name,
        definition.name,
        definition.lock,
        _encode(definition),
        _encode(entry.observed),
    )
