"""What networks are made of outlives the supervisor; a helper program that is killed comes back, and its containers stay."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.networking.conftest import HOST, OUTSIDE, ask, await_answer, pause
from tests.support import processes
from tests.support.hosts import helpers
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

BACK = 2.0
"""Seconds in which a helper program has to be back."""
LONGEST = 1.0
"""Seconds without an answer, by which nobody is interrupted."""


def test_a_killed_supervisor_interrupts_nothing(net: Net) -> None:
    """Connections live on, ports and names are there throughout, and the helpers are the same processes."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "-p", "8080:80")
    net.run("a", "--network", "n")
    before = helpers(net.engine.path)

    def kill() -> float:
        with (
            net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept,
            net.meanwhile_on(net.outside, "hold", HOST, "8080") as held,
            net.meanwhile_on(net.inner("a"), "hold", net.address("web"), "80") as held_inside,
        ):
            for _ in range(3):
                net.engine.kill()
                assert net.asks("a", "web").startswith("web ")
                assert net.asks("a", OUTSIDE, 7).startswith("outside ")
        assert (held[1], held_inside[1]) == ("1", "1"), "a connection has ended"
        assert kept[2] == "0", "somebody was refused"
        return pause(kept)

    quickly(kill, LONGEST)
    assert helpers(net.engine.path) == before
    net.serve("b", "--network", "n")
    assert net.asks("a", "b").startswith("b ")
    assert net.address("b") not in (net.address("a"), net.address("web"))


def told(net: Net, status: str) -> list[dict[str, Any]]:
    return [event for event in net.engine.events(type=["network"]) if event["Status"] == status]


@pytest.mark.parametrize("supervisor", ["alive", "killed"])
def test_killed_helpers_come_back_and_no_container_is_restarted(net: Net, supervisor: str) -> None:
    """All of them at once, also while there is no supervisor."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "-p", "8080:80")
    net.run("a", "--network", "n")
    pids = {name: net.pid(name) for name in ("web", "a")}
    killed = helpers(net.engine.path)
    assert killed
    if supervisor == "killed":
        net.engine.kill(wait=False)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if supervisor == "killed":
        net.engine.wait_ready()
    await_answer(partial(net.asks, "a", "web"), "web ")
    await_answer(partial(ask, net.outside, HOST, 8080), "web ")
    await_answer(partial(net.asks, "a", OUTSIDE, 7), "outside ")
    until(lambda: len(told(net, "helper-restarted")) >= len(killed), "nobody was told")
    assert sorted(helpers(net.engine.path).values()) == sorted(killed.values())
    assert {name: net.pid(name) for name in pids} == pids
    assert len(told(net, "helper-lost")) == len(told(net, "helper-restarted")) == len(killed)
    assert not [event for event in net.engine.events() if event["Status"] in ("died", "restart")]


def test_killed_helpers_are_back_within_the_time_that_is_promised(net: Net) -> None:
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "-p", "8080:80")

    def kill() -> float:
        killed, former = helpers(net.engine.path), len(told(net, "helper-restarted"))
        assert killed
        begun = time.time()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(told(net, "helper-restarted")) == former + len(killed), "they are not back")
        return int(told(net, "helper-restarted")[-1]["TimeNano"]) / 1e9 - begun

    quickly(kill, BACK)


def test_helpers_end_with_the_last_container(net: Net) -> None:
    net.engine.cli("network", "create", "n")
    net.run("a", "--network", "n")
    net.run("b", "--network", "n")
    there = helpers(net.engine.path)
    assert there
    net.engine.cli("rm", "--force", "a")
    assert helpers(net.engine.path) == there
    net.engine.cli("rm", "--force", "b")
    assert not processes.wait_gone(there, 20)
