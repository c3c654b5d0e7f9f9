"""Image events, exactly once each, though what they tell of happens in a store that others share.

(What happens in no store, but in a registry, a file or a program, is in `deeds`.)

First an intent is committed: what is about to be done, how the store shows that it was, and the events of it. Then it
is done. Then the events and the end of the intent are one commit. A supervisor that is killed in between finds the
intent when it starts, looks at the store, and commits the events or drops them. The store is thus believed, and not
the intent.

The statuses and names are Podman's: the image's id, and the name by which it was asked for.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from pyman.errors import PymanError, StateDamaged
from pyman.names import EventType
from supervisor.logging import log
from supervisor.state.changes import DropIntent, EventDraft, PutIntent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.names import EventStatus
    from supervisor.state.changes import Change
    from supervisor.state.database import Database
    from supervisor.storage.records import Image
    from supervisor.storage.store import Store

__all__ = ["Busy", "Intent", "Ledger", "Proof", "event"]

_PREFIX = "image-"
T = TypeVar("T")


class Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store looks like if it was done. All that is said has to be so."""

    image: str
    """Id."""
    gone: bool = False
    """There is no such image. Otherwise there is one,"""
    names: tuple[str, ...] = ()
    """which has all these names,"""
    lost: tuple[str, ...] = ()
    """and none of these,"""
    digest: str = ""
    """and a manifest of this digest,"""
    mounts: int = -1
    """and is mounted so often; -1: however often."""

    def shown_by(self, images: Iterable[Image]) -> bool:
        """But for the mounts."""
        found = next((image for image in images if image.id == self.image), None)
        if found is None or self.gone:
            return self.gone and found is None
        return (
            set(self.names) <= set(found.names)
            and not set(self.lost) & set(found.names)
            and (not self.digest or self.digest in found.digests)
        )


class Intent(msgspec.Struct, frozen=True):
    """As it is recorded."""

    proof: Proof
    events: list[EventDraft]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Intent).decode


def event(
    status: EventStatus,
    id: str,
    name: str,
    actor: Actor | None,
    attributes: Mapping[str, str] | None = None,
) -> EventDraft:
    return EventDraft(
        type=EventType.IMAGE,
        status=status,
        id=id,
        name=name,
        attributes=dict(attributes or {}),
        actor=actor,
    )


class Busy:
    """Whether something is under way, for whoever waits for its end."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = trio.Event()
        self._idle.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._count += 1
        if self._idle.is_set():
            self._idle = trio.Event()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    async def wait_idle(self) -> None:
        await self._idle.wait()


class Ledger:
    """One for an engine."""

    def __init__(self, database: Database, store: Store, limiter: trio.CapacityLimiter) -> None:
        self._database = database
        self._store = store
        self._limiter = limiter
        self.mounts: Callable[[str], int] = lambda _image: 0
        """How often an image is mounted; blocking."""
        self._busy = Busy()

    async def wait_idle(self) -> None:
        """Until nothing is being done that is still to be told."""
        await self._busy.wait_idle()

    async def tell(self, *events: EventDraft) -> None:
        """Events of what has changed nothing: a failed pull. Not cancelled."""
        with trio.CancelScope(shield=True), self._busy.at_work():
            await self._database.commit([], events)

    async def carry_out(self, proof: Proof, events: Sequence[EventDraft], act: Callable[[], T]) -> T:
        """Do something to the store, in a thread, and tell it. Not cancelled once it has begun. What `act` raises
        is raised, and then it has not happened."""
        await trio.lowlevel.checkpoint_if_cancelled()
        key = f"{_PREFIX}{secrets.token_hex(16)}"
        with trio.CancelScope(shield=True), self._busy.at_work():
            await self._database.commit([PutIntent(key, _encode(Intent(proof, list(events))))])
            try:
                done = await trio.to_thread.run_sync(act, limiter=self._limiter)
            except BaseException:
                await self._database.commit([DropIntent(key)])
                raise
            await self._database.commit([DropIntent(key)], events)
        return done

    async def recover(self, intents: Mapping[str, bytes]) -> None:
        """What a supervisor that was killed has left: told, or dropped. Before anything else changes the store.
        StateDamaged, StorageFailed."""
        for key, body in intents.items():
            if not key.startswith(_PREFIX):
                continue
            try:
                intent = _decode(body)
            except msgspec.DecodeError as error:
                raise StateDamaged(f"cannot read what was about to be done to an image: {error}") from None
            happened = await trio.to_thread.run_sync(
                partial(self._happened, intent.proof), limiter=self._limiter
            )
            changes: list[Change] = [DropIntent(key)]
            await self._database.commit(changes, intent.events if happened else [])
            log.info(
                "what was begun with an image",
                image=intent.proof.image[:12],
                done=happened,
                events=[event.status for event in intent.events],
            )

    def _happened(self, proof: Proof) -> bool:
        if not proof.shown_by(self._store.images()):
            return False
        try:
            return proof.mounts < 0 or self.mounts(proof.image) == proof.mounts
        except PymanError:
            return False
