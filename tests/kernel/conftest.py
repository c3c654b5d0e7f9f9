"""A process that collects orphans, as the supervisor does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from supervisor.kernel import ancestry, children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.kernel.process import ProcessRef


class Orphans:
    """Pid to wait status of what was collected."""

    def __init__(self) -> None:
        self.collected: dict[int, int] = {}
        self.refs: list[ProcessRef] = []
        self._arrived = trio.Event()

    def note(self, ref: ProcessRef, status: int) -> None:
        self.collected[ref.pid] = status
        self.refs.append(ref)
        self._arrived.set()

    async def wait_for(self, number: int) -> None:
        with trio.fail_after(10):
            while len(self.collected) < number:
                self._arrived = trio.Event()
                await self._arrived.wait()


@pytest.fixture
async def orphans() -> AsyncIterator[Orphans]:
    ancestry.become_subreaper()
    orphans = Orphans()
    async with trio.open_nursery() as nursery:
        await nursery.start(children.reap_orphans, orphans.note)
        yield orphans
        nursery.cancel_scope.cancel()
