"""What a container wants that another one has: who is about to give it back is waited for, and nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api.spec import PortMapping
from pyman.errors import PortInUse
from pyman.names import State
from supervisor.network.plans import Port
from supervisor.runtime.networks.wired.allocation import Allocation
from supervisor.runtime.networks.wired.taking import Taking
from supervisor.runtime.records import Observed, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE = 30.0
PORT = [Port(8080, 80)]


def held_by(*, state: State, wanted: Wanted) -> tuple[Allocation, Taking]:
    """A port, by a container that was there before; and another container that wants it."""
    allocation = Allocation()
    allocation.note("former", [], PORT)
    former = SimpleNamespace(name="old", observed=Observed(state=state, wanted=wanted, finished_at=1))
    services: Any = SimpleNamespace(
        allocation=allocation,
        settings=SimpleNamespace(pyman=SimpleNamespace(call_deadline=DEADLINE)),
        find={"former": former}.get,
    )
    return allocation, Taking(services, "next")


async def taken(taking: Taking) -> Sequence[Port]:
    return await taking.ports([PortMapping(80, 8080)])


async def test_who_is_ending_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    allocation, taking = held_by(state=State.STOPPED, wanted=Wanted.STOPPED)
    async with trio.open_nursery() as nursery:

        async def give_back() -> None:
            await trio.sleep(1)
            allocation.give_back("former")

        nursery.start_soon(give_back)
        assert await taken(taking) == PORT
    assert autojump_clock.current_time() < DEADLINE


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (State.CREATED, Wanted.RUNNING),
        (State.EXITED, Wanted.RUNNING),
        (State.RUNNING, Wanted.RUNNING),
        (State.STOPPED, Wanted.RUNNING),
        (State.STOPPING, Wanted.STOPPED),
    ],
)
async def test_nobody_else_is(autojump_clock: trio.testing.MockClock, state: State, wanted: Wanted) -> None:
    """Neither one that has ended before and is being started."""
    _, taking = held_by(state=state, wanted=wanted)
    began = autojump_clock.current_time()
    with pytest.raises(PortInUse, match="container 'old' has it"):
        await taken(taking)
    assert autojump_clock.current_time() == began
