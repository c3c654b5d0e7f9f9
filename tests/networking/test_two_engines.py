"""Two engines of one host, with directories of their own: they tell one another nothing, and share the default network."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import CONFIG, HOST, Net, ask
from tests.support import processes, sharing
from tests.support.engine import Engine
from tests.support.hosts import HostPlace, inhabitants
from tests.support.runtimes import make_place
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""An ordinary user's engines have a sandbox each."""

IDLE = True


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
    until(lambda: len(net.host.links()) == 2, "the bridge is still there", 5)
    other.engine.cli(*words)
    for each in (net, other):
        each.engine.cli("network", "rm", "shared")
