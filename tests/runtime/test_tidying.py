"""What is taken away of networks after their containers, without anybody waiting for it, or with somebody."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from supervisor.network.plans import Attachment, NetworkPlan
from supervisor.runtime.networks.wired.tidying import Outcome, Tidying

if TYPE_CHECKING:
    from collections.abc import Sequence

WEB = NetworkPlan("web", "a" * 64)
ON_BRIDGE = NetworkPlan("a", "a" * 64, interface="br1")
ON_WEB = Attachment("web", WEB.id, host_interface="veth0")


async def test_who_removes_a_network_waits_for_what_is_taken_away_already(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    told: list[str] = []
    begun, may_end = trio.Event(), trio.Event()

    async def interfaces_gone(attachments: Sequence[Attachment], netns: int | None) -> None:
        assert (attachments, netns) == ([ON_WEB], None)
        begun.set()
        await may_end.wait()

    async def bridge_gone(network: NetworkPlan, netns: int | None) -> Outcome:
        told.append(f"the bridge of {network.name} is gone from {netns}")
        return Outcome.DONE

    async def removal() -> None:
        await tidying.tidy_network(WEB.id)
        told.append("removed")

    async with trio.open_nursery() as nursery:
        tidying = Tidying(None, nursery.start_soon, interfaces_gone, bridge_gone)
        tidying.note(WEB, None, ON_WEB)
        await begun.wait()
        nursery.start_soon(removal)
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        may_end.set()
    # The one that had left just now was to rest for a moment more: for who removes the network it does not.
    assert told == ["the bridge of web is gone from None", "removed"]


async def test_one_that_somebody_is_about_to_be_on_is_looked_at_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    looked: list[float] = []

    async def interfaces_gone(attachments: Sequence[Attachment], netns: int | None) -> None:
        raise AssertionError((attachments, netns))

    async def bridge_gone(network: NetworkPlan, netns: int | None) -> Outcome:
        assert (network, netns) == (WEB, None)
        looked.append(trio.current_time() - begun)
        return Outcome.DONE if len(looked) == 3 else Outcome.LATER

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        tidying = Tidying(None, nursery.start_soon, interfaces_gone, bridge_gone)
        tidying.note(WEB, None)
    assert looked == pytest.approx([1, 2, 3])


async def test_but_not_by_a_supervisor_that_ends() -> None:
    async def interfaces_gone(attachments: Sequence[Attachment], netns: int | None) -> None:
        raise AssertionError((attachments, netns))

    async def bridge_gone(network: NetworkPlan, netns: int | None) -> Outcome:
        looked.append((network, netns))
        return Outcome.LATER

    looked: list[tuple[NetworkPlan, int | None]] = []
    async with trio.open_nursery() as nursery:
        tidying = Tidying(None, nursery.start_soon, interfaces_gone, bridge_gone)
        tidying.note(WEB, None)
        await tidying.tidy_all()
    assert looked == [(WEB, None)]


async def test_one_that_others_need_is_looked_at_again_on_occasions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not by the clock. When somebody leaves another network on its bridge, makes or removes one, and at the end."""
    del autojump_clock
    same, elsewhere = (
        NetworkPlan(name, name * 64, interface=bridge) for name, bridge in (("b", "br1"), ("c", "br2"))
    )
    looked: list[str] = []
    needed = {"a"}

    async def interfaces_gone(attachments: Sequence[Attachment], netns: int | None) -> None:
        raise AssertionError((attachments, netns))

    async def bridge_gone(network: NetworkPlan, netns: int | None) -> Outcome:
        assert netns is None
        looked.append(network.id[0])
        return Outcome.NEEDED if network.id[0] in needed else Outcome.DONE

    async def left(network: NetworkPlan) -> list[str]:
        looked.clear()
        tidying.note(network, None)
        await trio.sleep(100)
        return list(looked)

    async with trio.open_nursery() as nursery:
        tidying = Tidying(None, nursery.start_soon, interfaces_gone, bridge_gone)
        assert await left(ON_BRIDGE) == ["a"]
        assert await left(elsewhere) == ["c"]
        assert await left(same) == ["b", "a"]
        for occasion in (
            partial(tidying.tidy_network, ON_BRIDGE.id),
            partial(tidying.look_again, None),
            tidying.tidy_all,
        ):
            looked.clear()
            await occasion()
            assert looked == ["a"]
        needed.clear()
        assert await left(same) == ["b", "a"]
        assert await left(same) == ["b"]
        await tidying.tidy_all()
        assert looked == ["b"]


async def test_what_was_in_a_namespace_that_is_gone_is_not_looked_at_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    looked: list[str] = []

    async def interfaces_gone(attachments: Sequence[Attachment], netns: int | None) -> None:
        raise AssertionError((attachments, netns))

    async def bridge_gone(network: NetworkPlan, netns: int | None) -> Outcome:
        del netns
        looked.append(network.name)
        return Outcome.NEEDED

    async with trio.open_nursery() as nursery:
        tidying = Tidying(None, nursery.start_soon, interfaces_gone, bridge_gone)
        tidying.note(WEB, None)
        await trio.sleep(100)
        tidying.begin_anew()
        await tidying.look_again(None)
    assert looked == ["web"]
