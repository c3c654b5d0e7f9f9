"""`io.pyman.Event`: the journal of what happened."""

from __future__ import annotations

import msgspec

from pyman.api.container import ListContainer
from pyman.api.method import Access, Interface, Method, Vanish

__all__ = [
    "INTERFACE",
    "Actor",
    "Event",
    "Gap",
    "PruneEventsReply",
    "PruneEventsRequest",
    "Snapshot",
    "SubscribeReply",
    "SubscribeRequest",
]


class Actor(msgspec.Struct, frozen=True, rename="pascal"):
    """Whose request led to the event; absent where the engine acted by itself."""

    uid: int
    pid: int


class Event(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(name="ID")
    image: str
    name: str
    status: str
    time: str
    """RFC 3339 with nanoseconds, UTC."""
    time_nano: int
    """Nanoseconds since the epoch."""
    type: str
    attributes: dict[str, str]
    """Labels, and details by status: `containerExitCode`, `signal`, `execID`, …"""
    seq: int
    """Grows by one with every event of the journal, except across an explicit gap."""
    actor: Actor | None = None


class Gap(msgspec.Struct, frozen=True):
    """Events `first` to `last` (sequence numbers, both included) cannot be told."""

    first: int
    last: int
    reason: str
    """`retention`, `power-cut`, or `journal` (the cursor belongs to another journal)."""


class Snapshot(msgspec.Struct, frozen=True):
    """The state at `seq`: every event after it is a change to it."""

    containers: list[ListContainer]
    seq: int


class SubscribeRequest(msgspec.Struct, frozen=True):
    filters: dict[str, list[str]] = {}
    """container, event, type, label, image, pod, volume: values of one key are alternatives, keys must all fit."""
    since: int | None = None
    """Nanoseconds since the epoch, as `until`."""
    until: int | None = None
    since_seq: int | None = None
    """Only events after this number."""
    journal: str = ""
    """The journal that `since_seq` belongs to; another one answers with a gap and starts at its beginning."""
    stream: bool = True
    """False: end after the last event there is."""
    snapshot: bool = False
    """Begin with the present state; events follow from there."""


class SubscribeReply(msgspec.Struct, frozen=True):
    """The first reply carries only `journal` and `seq`, the last event there is at that moment (and the
    snapshot, if asked for): the subscription stands. Then one event or one gap each."""

    journal: str = ""
    seq: int = 0
    snapshot: Snapshot | None = None
    event: Event | None = None
    gap: Gap | None = None


class PruneEventsRequest(msgspec.Struct, frozen=True):
    keep: int = 0
    """How many of the newest stay."""
    until: int | None = None
    """Only those older; nanoseconds since the epoch."""


class PruneEventsReply(msgspec.Struct, frozen=True):
    removed: int


INTERFACE = Interface(
    name="io.pyman.Event",
    doc=(__doc__ or "").strip(),
    methods=(
        Method(
            "Subscribe",
            SubscribeRequest,
            SubscribeReply,
            "Follow the journal.",
            access=Access.EVENTS,
            streaming=True,
            vanish=Vanish.CANCEL,
        ),
        Method("Prune", PruneEventsRequest, PruneEventsReply, "Forget old events.", access=Access.OWNER),
    ),
)
