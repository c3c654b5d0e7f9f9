"""What is done outside the state database, where other engines see it, and told exactly once.

An intent is committed first, then the change is made, and the event comes in one transaction with the intent's end. A
supervisor that finds an intent looks whether the change is there, before it makes or shows anything of the kind.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import trio

from pyman.errors import PymanError, StateDamaged
from supervisor.logging import log
from supervisor.state.changes import DropIntent, PutIntent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from supervisor.state.changes import Change, EventDraft
    from supervisor.state.database import Database

__all__ = ["Intents"]

T = TypeVar("T", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode


class Intents(Generic[T]):
    """All that are recorded as one type. `prefix`: how their keys begin. `what`: they are about, for messages."""

    def __init__(self, database: Database, kind: type[T], prefix: str, what: str) -> None:
        self._database = database
        self._kind = kind
        self._prefix = prefix
        self._what = what
        self._settled = trio.Event()
        self._settled.set()

    async def begin(self, intent: T) -> str:
        """Its key."""
        key = f"{self._prefix}{secrets.token_hex(16)}"
        await self._database.commit([self.put(key, intent)], durable=True)
        return key

    def put(self, key: str, intent: T) -> PutIntent:
        """For a transaction of other things."""
        return PutIntent(key, _encode(intent))

    async def tell(self, key: str, events: Sequence[EventDraft], *further: Change) -> None:
        """It is done."""
        await self._database.commit([DropIntent(key), *further], events, durable=True)

    async def drop(self, key: str) -> None:
        """There is nothing to tell."""
        await self._database.commit([DropIntent(key)])

    async def wait_settled(self) -> None:
        """Until what was found is told, or given up."""
        await self._settled.wait()

    def recover(
        self, nursery: trio.Nursery, intents: Mapping[str, bytes], finish: Callable[[str, T], Awaitable[None]]
    ) -> None:
        """Have those that a killed supervisor has left finished in the background, one after the other. StateDamaged."""
        try:
            left = {
                key: msgspec.json.decode(body, type=self._kind)
                for key, body in intents.items()
                if key.startswith(self._prefix)
            }
        except msgspec.DecodeError as error:
            raise StateDamaged(f"cannot read what was about to be done to a {self._what}: {error}") from None
        self._settled = trio.Event()
        nursery.start_soon(self._settle, left, finish)

    async def _settle(self, left: Mapping[str, T], finish: Callable[[str, T], Awaitable[None]]) -> None:
        try:
            for key, intent in left.items():
                await finish(key, intent)
        except PymanError as error:  # the next start takes up what is still intended
            log.warning(f"cannot find out what became of a {self._what}", error=str(error))
        finally:
            self._settled.set()
