"""The data types of the state: records, the changes that can be made to them, drafts of events.

A record is two parts: its *definition* (what the object is; written at create, update, rename) and its
*state* (what is known of it now; written often). Both are opaque bytes here: the runtime encodes them.
Every change says what it expects to find; a change to something that is not there fails its transaction.
"""

from __future__ import annotations

import msgspec

from pyman.api.event import Actor

__all__ = [
    "Change",
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


class Record(msgspec.Struct, frozen=True):
    """An object as it is stored. `kind`: container, exec, pod, volume; names are unique across container
    and pod, and within each other kind; an empty name belongs to any number of records. `lock` is the
    number of its lock, unique among all records."""

    kind: str
    id: str
    name: str
    lock: int | None
    definition: bytes
    state: bytes


class PutRecord(msgspec.Struct, frozen=True):
    """Make a record, or replace the one of that kind and id. NameInUse if another one has the name."""

    kind: str
    id: str
    name: str
    lock: int | None
    definition: bytes
    state: bytes


class PutState(msgspec.Struct, frozen=True):
    kind: str
    id: str
    state: bytes


class PutDefinition(msgspec.Struct, frozen=True):
    """Update a definition, rename included. NameInUse if another record has the name."""

    kind: str
    id: str
    name: str
    definition: bytes


class DeleteRecord(msgspec.Struct, frozen=True):
    kind: str
    id: str


class PutMeta(msgspec.Struct, frozen=True):
    """A fact about the whole state, by key; made or replaced."""

    key: str
    value: str


class PutIntent(msgspec.Struct, frozen=True):
    """What is about to be done outside the database; made or replaced."""

    id: str
    body: bytes


class DropIntent(msgspec.Struct, frozen=True):
    """The end of an intent. It fails where the intent is gone: an intent is settled exactly once."""

    id: str


class PutLocks(msgspec.Struct, frozen=True):
    """New lock numbers for all records that have one (`system renumber`): (kind, id) to number."""

    numbers: dict[tuple[str, str], int]


class ForgetEvents(msgspec.Struct, frozen=True):
    """Remove the events up to and including the number `last`; those who ask for them get a gap."""

    last: int


Change = (
    PutRecord
    | PutState
    | PutDefinition
    | DeleteRecord
    | PutMeta
    | PutIntent
    | DropIntent
    | PutLocks
    | ForgetEvents
)


class EventDraft(msgspec.Struct, frozen=True):
    """An event before it has a time and a number; both are given when it is committed. The attributes are
    kept as they are, without a copy: labels may be shared by all events of an object, and never changed."""

    type: str
    status: str
    id: str = ""
    name: str = ""
    image: str = ""
    attributes: dict[str, str] = {}
    actor: Actor | None = None


class Loaded(msgspec.Struct, frozen=True):
    """All that the state holds, except the events. Records come in the order they were first made."""

    meta: dict[str, str]
    records: list[Record]
    last_seq: int
    """The number of the last event ever, 0 if there was none."""
    journal_id: str
    intents: dict[str, bytes] = {}


class Retention(msgspec.Struct, frozen=True):
    """How much of the journal is kept: at most about so many events, and so many bytes of encoded events."""

    entries: int = 100_000
    bytes: int = 64 * 1024 * 1024
