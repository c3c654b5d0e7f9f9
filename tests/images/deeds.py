"""What tests do elsewhere: untold, or told by supervisors of which one comes after the other."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from pyman.names import EventStatus
from supervisor.images.deeds import Deed, Deeds
from supervisor.images.events import event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from supervisor.images.traces import Trace
    from supervisor.state.changes import EventDraft
    from supervisor.state.database import Database
    from supervisor.storage.store import Store

__all__ = ["PUSHED", "Told", "Untold", "begun", "settled"]

PUSHED = event(EventStatus.PUSH, "1" * 64, "there", None)


class Untold(Deed):
    """Nothing of it is recorded."""

    def __init__(self) -> None:
        self.trace = None

    async def intend(self, trace: Trace) -> None:
        self.trace = trace

    async def carry_out(self, trace: Trace, act: Callable[[], Awaitable[object]]) -> None:
        self.trace = trace
        await act()


class Told:
    """The state of an engine, and what it has told."""

    def __init__(self, database: Database, store: Store, place: Path) -> None:
        self.database = database
        self._store = store
        self.place = place
        self.events: list[Any] = []
        self.registries: Any = None
        database.on_events = self.events.extend

    @property
    def statuses(self) -> list[str]:
        return [each.status for each in self.events]

    @property
    def intents(self) -> dict[str, bytes]:
        return self.database.load().intents

    @asynccontextmanager
    async def supervisor(self) -> AsyncIterator[Deeds]:
        """One that begins where the one before has ended. It is killed at the end of the block."""
        async with trio.open_nursery() as nursery:
            deeds = Deeds(self.database, self._store, trio.CapacityLimiter(1), str(self.place / "builds"))
            deeds.open(self.registries, lambda _: [], nursery)
            await deeds.recover(self.intents)
            yield deeds
            nursery.cancel_scope.cancel()

    async def settle(self) -> None:
        """What the next supervisor finds out."""
        async with self.supervisor() as deeds:
            await settled(deeds)


async def settled(deeds: Deeds) -> None:
    """Nothing is left to be found out."""
    for question in list(deeds._questions.values()):
        await question.ended.wait()


def begun(deeds: Deeds, told: EventDraft = PUSHED) -> Deed:
    """A deed whose end never comes: its supervisor is killed before."""
    return Deed(deeds, [told], ExitStack())
