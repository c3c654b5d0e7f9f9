"""Two engines of one host, with directories of their own: they tell one another nothing, and share the default network."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.runtime.networks.wired.claims import Claims
from tests.networking.conftest import CONFIG, HOST, OUTSIDE, TALK, Net, ask
from tests.support import processes, sharing
from tests.support.engine import Engine
from tests.support.hosts import OWN, HostPlace, elements, inhabitants
from tests.support.runtimes import make_place
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""An ordinary user's engines have a sandbox each."""

IDLE = True
BRIDGE = "podman0"
BARE = sorted(OWN)
WITH = sorted((*OWN, BRIDGE))


@pytest.fixture
def other(net: Net, request: pytest.FixtureRequest) -> Iterator[Net]:
    with contextlib.closing(make_place("crun")) as around:
        engine = Engine(HostPlace(net.host, around), config=CONFIG)
        with sharing.owned(engine, request):
            yield Net(engine, net.host, net.outside)


def test_no_address_is_given_twice(net: Net, other: Net) -> None:
    net.serve("a", "-p", "8081:80")
    other.serve("b", "-p", "8082:80")
    assert net.address("a") != other.address("b")
    assert ask(net.outside, HOST, 8081).startswith("a ")
    assert ask(net.outside, HOST, 8082).startswith("b ")
    assert net.asks("a", other.address("b")) == f"b {net.address('a')}"


def test_one_that_is_asked_for_is_refused_until_its_container_ends(net: Net, other: Net) -> None:
    address = "10.88.0.77"
    net.run("a", "--ip", address)
    net.engine.kill()  # nobody needs to be there for it
    words = ("run", "--rm", "--ip", address, *other.root, "true")
    refused = other.engine.cli(*words, check=False)
    assert refused.returncode == 126
    assert (
        f"cannot use the address '{address}' on network 'podman': a container of another engine"
        in refused.stderr
    )
    net.engine.cli("stop", "a")
    other.engine.cli(*words)


def test_it_follows_those_who_come_on_a_network_and_leave_it(net: Net, other: Net) -> None:
    for each in (net, other):
        each.run("box")
    wanted = "10.88.0.78"
    net.engine.cli("network", "disconnect", "podman", "box")
    net.engine.cli("network", "connect", "--ip", wanted, "podman", "box")
    other.engine.cli("network", "disconnect", "podman", "box")
    connect = ("network", "connect", "--ip", wanted, "podman", "box")
    assert "a container of another engine has it" in other.engine.cli(*connect, check=False).stderr
    net.engine.cli("network", "disconnect", "podman", "box")
    other.engine.cli(*connect)
    assert other.address("box") == wanted


def test_a_restart_by_policy_keeps_it(net: Net, other: Net) -> None:
    net.run("a", "--restart", "always", "--ip", "10.88.0.79")
    first = net.pid("a")
    net.kill("a")
    until(lambda: net.engine.inspect("a")["State"]["Pid"] not in (0, first), "it is not there again")
    refused = other.engine.cli("run", "--rm", "--ip", "10.88.0.79", *other.root, "true", check=False)
    assert "a container of another engine has it" in refused.stderr


def test_where_the_other_serves_names_its_program_is_named(net: Net, other: Net) -> None:
    for each in (net, other):
        each.engine.cli("network", "create", "--subnet", "10.90.9.0/24", "shared")
    net.serve("a", "--network", "shared")
    (server,) = (pid for pid in inhabitants(net.host) if "aardvark-dns" in processes.describe(pid))
    words = ("run", "--rm", "--network", "shared", *other.root, "true")
    refused = other.engine.cli(*words, check=False)
    assert f"at 10.90.9.1, port 53: process {server} (aardvark-dns) has that" in refused.stderr
    net.engine.cli("rm", "--force", "--time", "0", "a")
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there", 5)
    other.engine.cli(*words)
    for each in (net, other):
        each.engine.cli("network", "rm", "shared")


@pytest.fixture
def claims(net: Net) -> Iterator[Claims]:
    """Another engine's. What is claimed by them is not any more when they are closed."""
    with net.host.does(lambda: Claims("/run/pyman")) as claims:
        yield claims


def test_a_bridge_that_another_engine_needs_stays_until_it_does_not(net: Net, claims: Claims) -> None:
    net.run("a")
    assert not claims.no_one_needs(BRIDGE)
    assert claims.need(BRIDGE)
    net.engine.cli("rm", "--force", "a")
    until(lambda: sorted(net.host.links()) == WITH, "the container has not gone")
    told = elements(net.host)
    assert any(BRIDGE in each for each in told)
    time.sleep(2.5)  # looked at twice
    assert sorted(net.host.links()) == WITH
    assert elements(net.host) == told
    claims.close()
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there", 5)
    assert not elements(net.host)


def test_who_takes_a_bridge_away_is_waited_for(net: Net, claims: Claims) -> None:
    net.run("box")
    net.engine.cli("network", "disconnect", "podman", "box")
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there", 5)
    for words in (("run", "--rm", *net.root, "true"), ("network", "connect", "podman", "box")):
        until(lambda: claims.no_one_needs(BRIDGE), "somebody needs it")
        with net.engine.spawn(*words) as coming:
            time.sleep(0.5)
            assert coming.poll() is None
            claims.need_no_more(BRIDGE)
            assert coming.wait(20) == 0


def test_a_bridge_is_needed_from_before_it_is_made(net: Net, other: Net) -> None:
    """Whoever comes while the last one's bridge is being taken away has all that he needs."""
    net.engine.cli("run", "--rm", *net.root, "true")
    for _ in range(4):
        begun = time.monotonic()
        while time.monotonic() - begun < 1.3:  # the other's bridge goes meanwhile
            told = other.engine.out("run", "--rm", *other.root, *TALK, "ask", OUTSIDE, "7", "tcp", "2")
            assert told == f"outside {HOST}"
        net.engine.cli("run", "--rm", *net.root, "true")
        time.sleep(0.9)
