"""What a container wants that another one has: who is about to give it back is waited for, and nobody else."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api.spec import PortMapping
from pyman.errors import PortInUse
from pyman.names import State
from supervisor.network.plans import NetworkPlan, Port
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


class Busy:
    """Claims of a bridge that another engine is taking away."""

    def __init__(self, times: float) -> None:
        """`times`: that one looks in vain."""
        self._left = times
        self.looked: list[float] = []

    def need(self, bridge: str) -> bool:
        assert bridge == "br1"
        self.looked.append(trio.current_time())
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize(("times", "seconds"), [(0, 0.0), (3, 0.06), (math.inf, DEADLINE)])
async def test_another_engine_that_takes_a_bridge_away_is_waited_for_but_not_for_ever(
    autojump_clock: trio.testing.MockClock, times: float, seconds: float
) -> None:
    """Nobody tells of locks of files: they are looked at now and then."""
    del autojump_clock
    _, taking = held_by(state=State.RUNNING, wanted=Wanted.RUNNING)
    claims: Any = Busy(times)
    began = trio.current_time()
    await taking.bridge(NetworkPlan("web", "a" * 64, interface="br1"), claims)
    assert trio.current_time() - began == pytest.approx(seconds)
    assert all(later - look > 0.019 for look, later in pairwise(claims.looked))
