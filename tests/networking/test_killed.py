"""What networks are made of outlives the supervisor; a helper program that is killed comes back, and its containers stay."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, OUTSIDE, ask
from tests.support import processes
from tests.support.hosts import helpers

if TYPE_CHECKING:
    from tests.networking.conftest import Net

BACK = 2.0
"""Seconds in which a helper program has to be back."""


def test_a_killed_supervisor_interrupts_nothing(net: Net) -> None:
    """Connections live on, ports and names are there throughout, and the helpers are the same processes."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "-p", "8080:80")
    net.run("a", "--network", "n")
    before = helpers(net.engine.path)
    with (
        net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept,
        net.meanwhile_on(net.inner("a"), "hold", net.address("web"), "80") as held,
    ):
        for _ in range(3):
            net.engine.kill()
            assert net.asks("a", "web").startswith("web ")
            assert net.asks("a", OUTSIDE, 7).startswith("outside ")
    assert float(kept[0]) < 1
    assert held[1] == "1"
    assert helpers(net.engine.path) == before
    net.serve("b", "--network", "n")
    assert net.asks("a", "b").startswith("b ")
    assert net.address("b") not in (net.address("a"), net.address("web"))


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
    deadline = time.monotonic() + BACK
    while not (net.asks("a", "web", seconds=0.2) and ask(net.outside, HOST, 8080, seconds=0.2)):
        assert time.monotonic() < deadline, sorted(killed.values())
    assert net.asks("a", OUTSIDE, 7).startswith("outside ")
    assert sorted(helpers(net.engine.path).values()) == sorted(killed.values())
    assert {name: net.pid(name) for name in pids} == pids
    told = [event["Status"] for event in net.engine.events() if event["Type"] == "network"]
    assert told.count("helper-lost") == told.count("helper-restarted") == len(killed)
    assert not [event for event in net.engine.events() if event["Status"] in ("died", "restart")]


def test_helpers_end_with_the_last_container(net: Net) -> None:
    net.engine.cli("network", "create", "n")
    net.run("a", "--network", "n")
    net.run("b", "--network", "n")
    there = helpers(net.engine.path)
    assert there
    net.engine.cli("rm", "--force", "a")
    assert helpers(net.engine.path) == there
    net.engine.cli("rm", "--force", "b")
    assert not processes.wait_gone(there, 5)
