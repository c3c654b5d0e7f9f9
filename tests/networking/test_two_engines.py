"""Two engines of one host, with directories of their own: they tell one another nothing, and share the default network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import process
from supervisor.network.kernel import netfilter
from supervisor.network.plans import NetworkPlan
from supervisor.runtime.networks.wired.claims import Claims
from supervisor.runtime.networks.wired.ending import end_all
from supervisor.runtime.records import Observed
from tests.networking.bridges import BRIDGE, expected
from tests.networking.conftest import CONFIG, HOST, OUTSIDE, TALK, Net, ask
from tests.networking.programs import helper
from tests.support import processes, sharing
from tests.support.engine import Engine
from tests.support.hosts import LONG, OWN, HostPlace, elements
from tests.support.runtimes import make_place
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""An ordinary user's engines have a sandbox each."""

IDLE = True
SECOND = "podman1"
BARE = sorted(OWN)
WITH = sorted((*OWN, BRIDGE))
REFUSED = "a container of another engine has it"


@pytest.fixture
def other(net: Net, request: pytest.FixtureRequest) -> Iterator[Net]:
    with contextlib.closing(make_place("crun")) as around:
        engine = Engine(HostPlace(net.host, around), config=CONFIG)
        with sharing.owned(engine, request):
            yield Net(engine, net.host, net.outside)


@pytest.fixture
def claims(net: Net) -> Iterator[Claims]:
    """Another engine's. What is claimed by them is not any more when they are closed."""
    with net.host.does(lambda: Claims("/run/pyman")) as claims:
        yield claims


def default(net: Net) -> NetworkPlan:
    (network,) = json.loads(net.engine.out("network", "inspect", "podman"))
    return NetworkPlan("podman", network["id"], interface=network["network_interface"])


def refusal(net: Net, *options: str) -> str:
    return net.engine.cli("run", "--rm", *options, *net.root, "true", check=False).stderr


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
    assert REFUSED in other.engine.cli(*connect, check=False).stderr
    net.engine.cli("network", "disconnect", "podman", "box")
    other.engine.cli(*connect)
    assert other.address("box") == wanted


def test_a_restart_by_policy_keeps_it(net: Net, other: Net) -> None:
    net.run("a", "--restart", "always", "--ip", "10.88.0.79")
    first = net.pid("a")
    net.kill("a")
    until(lambda: net.engine.inspect("a")["State"]["Pid"] not in (0, first), "it is not there again")
    refused = other.engine.cli("run", "--rm", "--ip", "10.88.0.79", *other.root, "true", check=False)
    assert REFUSED in refused.stderr


def test_nobody_gets_it_while_a_restart_follows_at_once(net: Net, claims: Claims) -> None:
    net.run("a", "--restart", "always", "--restart-delay", "0", "--ip", "10.88.0.79")
    plan, over = default(net), threading.Event()

    def could_be_had() -> bool:
        while not over.is_set():
            if claims.take(plan, "10.88.0.79") or claims.no_one_needs(BRIDGE):
                return True
        return False

    with ThreadPoolExecutor(1) as pool:
        tried = pool.submit(could_be_had)
        try:
            for _ in range(3):
                seq = net.engine.last_seq()
                net.kill("a")
                net.engine.await_event(lambda event: event["Status"] == "start", seq)
        finally:
            over.set()
        assert not tried.result()
    net.engine.cli("stop", "a")
    assert claims.take(plan, "10.88.0.79")


def test_a_restart_that_comes_too_late_leaves_the_other_what_he_has(net: Net, other: Net) -> None:
    again = ("--restart", "always", "--restart-delay", "0")
    net.run("named", *again, "--ip", "10.88.0.83")
    net.run("any", *again)
    given = net.address("any")
    states = [net.engine.inspect(name)["State"] for name in ("named", "any")]
    net.engine.kill_keeper()
    for state in states:
        os.kill(state["Pid"], signal.SIGKILL)
    assert not processes.wait_gone([state["ConmonPid"] for state in states], 20)
    other.run("a", "--ip", "10.88.0.83")
    other.run("b", "--ip", given)
    net.engine.start()
    until(lambda: net.pid("any"), "it is not there again")
    assert net.address("any") != given
    until(lambda: REFUSED in net.engine.inspect("named")["State"]["Error"], "it is not refused")
    other.engine.cli("rm", "--force", "a")
    net.engine.cli("start", "named")
    assert net.address("named") == "10.88.0.83"


def test_who_began_on_no_network_has_what_he_gets_later(net: Net, other: Net) -> None:
    net.engine.cli("create", "--name", "a", "--stop-timeout", "0", *net.root, "sleep", "1000")
    net.engine.cli("network", "disconnect", "podman", "a")
    net.engine.cli("start", "a")
    net.engine.cli("network", "connect", "--ip", "10.88.0.80", "podman", "a")
    for _ in range(2):
        assert REFUSED in refusal(other, "--ip", "10.88.0.80")
        net.engine.kill()


def test_what_a_killed_supervisor_has_claimed_and_not_recorded_is_free_again(
    net: Net, other: Net, claims: Claims
) -> None:
    net.run("a", "--ip", "10.88.0.81")
    net.engine.cli("create", "--name", "b", "--stop-timeout", "0", *net.root, "sleep", "1000")
    net.engine.cli("network", "disconnect", "podman", "b")
    net.engine.cli("start", "b")
    plan = default(net)
    for number, name in enumerate(("a", "b")):
        monitor = process.ref_of(net.engine.inspect(name)["State"]["ConmonPid"])
        with net.host.does(partial(Claims, "/run/pyman", monitor)) as connecting:
            assert connecting.take(plan, f"10.88.0.{90 + number}")
            assert connecting.need(f"podman{90 + number}")
    for number in (90, 91):
        assert not claims.take(plan, f"10.88.0.{number}")
        assert not claims.no_one_needs(f"podman{number}")
    net.engine.kill()
    for number in (90, 91):
        assert claims.take(plan, f"10.88.0.{number}")
        assert claims.no_one_needs(f"podman{number}")
    assert REFUSED in refusal(other, "--ip", "10.88.0.81")
    assert not claims.no_one_needs(BRIDGE)


def test_what_is_refused_in_part_is_claimed_in_no_part(net: Net) -> None:
    net.engine.cli(
        "network", "create", "--ipv6", "--subnet", "10.90.8.0/24", "--subnet", "fd90:8::/64", "both"
    )
    net.run("a", "--network", "both:ip6=fd90:8::9")
    net.run("b")
    words = ("network", "connect", "--ip", "10.90.8.9", "--ip6", "fd90:8::9", "both", "b")
    assert "container 'a' has it" in net.engine.cli(*words, check=False).stderr
    net.run("c", "--network", "both:ip=10.90.8.9")


@pytest.mark.parametrize("supervisor", ["alive", "killed"])
def test_without_its_monitor_a_container_has_what_it_had(net: Net, other: Net, supervisor: str) -> None:
    net.serve("a", "--ip", "10.88.0.82", "-p", "8080:80", "-p", "8080:80/udp")
    monitor, seq = net.engine.inspect("a")["State"]["ConmonPid"], net.engine.last_seq()
    if supervisor == "killed":
        net.engine.kill_keeper()
    os.kill(monitor, signal.SIGKILL)
    if supervisor == "killed":
        net.engine.start()
    net.engine.await_event(lambda event: event["Status"] == "monitor-lost", seq)
    for _ in range(2):
        assert REFUSED in refusal(other, "--ip", "10.88.0.82")
        for kind in ("tcp", "udp"):
            assert "it is in use on the host" in refusal(other, "-p", f"8080:80/{kind}")
            assert ask(net.outside, HOST, 8080, kind).startswith("a ")
        net.engine.kill()
    net.engine.cli("rm", "--force", "a")
    other.serve("b", "--ip", "10.88.0.82", "-p", "8080:80")
    assert ask(net.outside, HOST, 8080).startswith("b ")


def test_networks_of_their_own_on_one_bridge_share_its_addresses(net: Net, other: Net) -> None:
    for each in (net, other):
        each.engine.cli("network", "create", "--disable-dns", "own")
    net.serve("a", "--network", "own")
    other.serve("b", "--network", "own")
    assert SECOND in net.host.links()
    assert net.asks("a", other.address("b")) == f"b {net.address('a')}"
    wanted = f"own:ip={net.address('a')}"
    assert REFUSED in refusal(other, "--network", wanted)
    other.engine.cli("rm", "--force", "b")
    other.engine.cli("network", "rm", "own")
    assert net.address("a")


def test_what_is_taken_away_late_is_not_the_others(net: Net, other: Net) -> None:
    """A port that was free by then leads to the container that has it."""
    for kind in ("tcp", "udp"):
        net.serve("a", "-p", f"8080:80/{kind}", "-p", f"127.0.0.1:8081:80/{kind}")
        monitor, first = (net.engine.inspect("a")["State"][name] for name in ("ConmonPid", "Pid"))
        net.engine.kill_keeper()
        os.kill(first, signal.SIGKILL)
        assert not processes.wait_gone([first, monitor], 20)
        other.serve("b", "-p", f"8080:80/{kind}", "-p", f"127.0.0.1:8081:80/{kind}")
        net.host.does(lambda: end_all(str(net.engine.root / "pyman" / "state.db"), "/run/pyman"))
        netfilter.close()
        assert ask(net.outside, HOST, 8080, kind).startswith("b ")
        net.engine.start()
        net.engine.cli("rm", "--force", "a")
        assert ask(net.outside, HOST, 8080, kind).startswith("b ")
        assert ask(net.host, "127.0.0.1", 8081, kind).startswith("b ")
        other.engine.cli("rm", "--force", "b")


def test_neither_takes_the_others_interface_away(net: Net, other: Net) -> None:
    on_mine = ("--network", "podman:host_interface_name=mine")
    net.serve("a", *on_mine, "-p", "8081:80")
    assert "the host has another interface 'mine'" in other.refused(*on_mine)
    other.engine.cli("create", "--name", "b", *on_mine, *other.root, "sleep", "1000")
    assert other.engine.cli("start", "b", check=False).returncode
    other.engine.cli("rm", "b")
    assert ask(net.outside, HOST, 8081).startswith("a ")


def test_where_the_other_serves_names_its_program_is_named(net: Net, other: Net) -> None:
    for each in (net, other):
        each.engine.cli("network", "create", "--subnet", "10.90.9.0/24", "shared")
    net.serve("a", "--network", "shared")
    server = helper(net, "aardvark-dns")
    words = ("run", "--rm", "--network", "shared", *other.root, "true")
    refused = other.engine.cli(*words, check=False)
    assert f"at 10.90.9.1, port 53: process {server} (aardvark-dns) has that" in refused.stderr
    net.engine.cli("rm", "--force", "--time", "0", "a")
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there")
    other.engine.cli(*words)
    for each in (net, other):
        each.engine.cli("network", "rm", "shared")


def test_a_bridge_that_another_engine_needs_stays_until_it_does_not(net: Net, claims: Claims) -> None:
    net.run("a")
    assert not claims.no_one_needs(BRIDGE)
    assert claims.need(BRIDGE)
    net.engine.cli("rm", "--force", "a")
    until(lambda: sorted(net.host.links()) == WITH, "the container has not gone")
    told = elements(net.host)
    assert any(BRIDGE in each for each in told)
    net.engine.cli("network", "create", "second")
    for _ in range(2):
        # All that has been left is looked at in one go: when that is gone the bridge has been looked at.
        net.engine.cli("run", "--rm", "--network", "second", *net.root, "true")
        until(lambda: SECOND not in net.host.links(), "the second bridge is still there")
    assert sorted(net.host.links()) == WITH
    assert elements(net.host) == told
    claims.close()
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there")
    assert not elements(net.host)


def test_who_takes_a_bridge_away_is_waited_for(net: Net, claims: Claims) -> None:
    net.run("box")
    net.engine.cli("network", "disconnect", "podman", "box")
    until(lambda: sorted(net.host.links()) == BARE, "the bridge is still there")
    for words in (("run", "--rm", *net.root, "true"), ("network", "connect", "podman", "box")):
        until(lambda: claims.no_one_needs(BRIDGE), "somebody needs it")
        with net.engine.spawn(*words) as coming:
            for _ in range(2):  # it takes another one as long as it would take itself
                net.engine.cli("run", "--rm", "--network", "none", *net.root, "true")
            assert coming.poll() is None
            claims.keep(Observed())
            assert coming.wait(20) == 0


def test_a_bridge_is_needed_from_before_it_is_made(net: Net, other: Net) -> None:
    """Whoever comes while the last one's bridge is being taken away has all that he needs."""
    net.engine.cli("run", "--rm", *net.root, "true")
    for _ in range(3):
        for leaving, coming in ((net, other), (other, net)):
            words = ("run", "--rm", *coming.root, *TALK, "ask", OUTSIDE, "7", "tcp", str(LONG))
            is_leaving = True
            while is_leaving:
                assert coming.engine.out(*words) == f"outside {HOST}"
                is_leaving = bool(expected(leaving))
