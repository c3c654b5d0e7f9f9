"""What containers leave behind: nobody waits for it to go, and it does go, whatever dies in between."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, netfilter
from supervisor.runtime.networks.wired.ending import end_all
from tests.networking.bridges import BRIDGE, expected
from tests.networking.conftest import HOST
from tests.support import processes
from tests.support.hosts import elements
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""Of an ordinary user all of it is in the sandbox: test_sandbox.py."""

OWN = {"lo", "wire"}
ITS_BRIDGE = "podman1"
"""Of the first network that is made."""
SOCKETS = "/run/pyman"
FINDS, MOST = 3, 20
"""How often the next one has to find the bridge, of so many times."""


def is_idle(net: Net) -> None:
    until(lambda: set(net.host.links()) == OWN, lambda: f"left: {net.host.links()}")


def index(net: Net) -> str:
    return net.host.run("ip", "-o", "link", "show", BRIDGE).partition(":")[0]


def test_the_next_container_finds_the_bridge_of_the_last_and_an_idle_one_goes(net: Net) -> None:
    names = ["one", "two"]
    for name in names:
        publish = ("--publish", "8080:80", "--stop-timeout", "0")
        net.engine.cli("create", "--name", name, *publish, *net.root, "sleep", "1000")
    net.engine.cli("start", "one")
    found = 0
    for _ in range(MOST):
        before, soon = index(net), net.follows(names[1], names[0])
        assert index(net) == before or not soon
        found += index(net) == before
        names.reverse()
        if found == FINDS:
            break
    assert found == FINDS
    net.engine.cli("rm", "--force", *names)

    def is_gone() -> bool:
        looked_after = expected(net)
        if BRIDGE not in net.host.links():
            return True
        assert looked_after
        return False

    until(is_gone, "it is still there")
    is_idle(net)
    until(lambda: not expected(net), "it is still expected")


def test_a_network_that_is_removed_leaves_its_subnet_at_once(net: Net) -> None:
    create = ("network", "create", "--subnet", "10.90.9.0/24", "n")
    for _ in range(2):
        net.engine.cli(*create)
        net.run("one", "--network", "n")
        net.engine.cli("rm", "--force", "one")
        net.engine.cli("network", "rm", "n")
    for _ in range(2):
        net.engine.cli(*create)
        net.run("one", "--network", "n")
        net.engine.cli("network", "rm", "--force", "n")
    is_idle(net)
    assert not expected(net)


@pytest.mark.parametrize("when", ["while it runs", "at its end", "when all is over"])
def test_a_killed_supervisors_bridge_goes_with_the_next_one(net: Net, when: str) -> None:
    net.serve("one")
    if when == "while it runs":
        net.engine.kill()
        assert net.asks("one", "127.0.0.1").startswith("one")
        net.engine.cli("rm", "--force", "one")
    else:
        net.engine.cli("kill", "one")
        if when == "when all is over":
            net.engine.cli("rm", "one")
        net.engine.kill()
        net.engine.cli("rm", "--force", "--ignore", "one")
    is_idle(net)
    until(lambda: not expected(net), "it is still expected")


def test_an_orderly_end_of_the_supervisor_waits_for_nothing_idle(net: Net) -> None:
    net.serve("one")
    net.engine.cli("rm", "--force", "one")
    net.engine.stop()
    assert set(net.host.links()) == OWN
    net.engine.start()


def test_what_somebody_holds_the_namespace_of_leaves_its_network_nevertheless(net: Net) -> None:
    """With a descriptor, as a debugger may: the kernel does not take the interface away then."""
    net.run("one")
    held = os.open(f"/proc/{net.pid('one')}/ns/net", os.O_RDONLY)
    try:
        net.engine.cli("rm", "--force", "one")
        is_idle(net)
    finally:
        os.close(held)


def test_a_container_in_the_namespace_of_another_one_that_ends_is_off_the_network(net: Net) -> None:
    net.run("one")
    net.run("two", "--network", "container:one")
    os.kill(net.pid("one"), signal.SIGKILL)
    net.engine.cli("wait", "one")
    until(lambda: "eth0" not in net.inside("two", "ip", "-br", "link"), "it has its interface still")
    net.engine.cli("rm", "--force", "two", "one")
    is_idle(net)


def test_an_interface_with_a_name_of_its_own_on_the_host_is_the_next_runs(net: Net) -> None:
    net.serve("one", "--network", "podman:host_interface_name=mine")
    for _ in range(3):
        net.engine.cli("stop", "one")
        net.engine.cli("start", "one")
    net.run("two")
    net.engine.cli("rm", "--force", "two")
    until(lambda: len(net.host.links()) == 4, lambda: f"there are others: {net.host.links()}")
    assert "mine" in net.host.links()
    assert net.asks("one", "127.0.0.1").startswith("one")


def test_a_bridge_that_another_engine_has_removed_is_made_again(net: Net) -> None:
    """As Podman does after the last container of its own."""
    net.run("one")
    net.engine.cli("rm", "--force", "one")
    net.host.run("ip", "link", "del", BRIDGE, check=False)
    net.serve("two", "--publish", "8080:80")
    net.run("three")
    assert net.asks("three", net.address("two")) == f"two {net.address('three')}"


def test_what_somebody_holds_the_namespace_of_leaves_its_network_with_the_next_supervisor(net: Net) -> None:
    net.run("one")
    held = os.open(f"/proc/{net.pid('one')}/ns/net", os.O_RDONLY)
    try:
        net.engine.cli("rm", "--force", "one")
        net.engine.kill()
        is_idle(net)
        until(lambda: not expected(net), "it is still expected")
    finally:
        os.close(held)


@pytest.mark.parametrize("occasion", ["left", "removed", "another made", "orderly end", "killed"])
def test_a_bridge_that_others_have_interfaces_on_stays_until_an_occasion_comes(
    net: Net, occasion: str
) -> None:
    """Of an internal network, so that what the packet filter has of it would cut off the next one on that bridge."""
    net.engine.cli("network", "create", "--internal", "n")
    net.engine.cli("network", "create", "other")
    net.run("one", "--network", "n")
    net.host.run("ip", "link", "add", "others", "type", "veth", "peer", "name", "others2")
    net.host.run("ip", "link", "set", "others", "master", ITS_BRIDGE)
    net.engine.cli("rm", "--force", "one")
    # All that has been left is looked at in one go, or one after the other.
    net.engine.cli("run", "--rm", "--network", "other", *net.root, "true")
    until(lambda: len(expected(net)) == 1, "the other one is looked after")
    assert set(net.host.links()) == {*OWN, ITS_BRIDGE, "others", "others2"}
    assert ITS_BRIDGE in net.host.run("nft", "list", "set", "inet", "pyman", "internal")
    net.host.run("ip", "link", "del", "others")
    match occasion:
        case "left":
            net.engine.cli("run", "--rm", "--network", "n", *net.root, "true")
        case "removed":
            net.engine.cli("network", "rm", "n")
        case "another made":
            net.run("two", "--network", "other")
            assert ITS_BRIDGE not in net.host.links()
            net.engine.cli("rm", "--force", "two")
        case "orderly end":
            net.engine.stop()
            assert set(net.host.links()) == OWN
            net.engine.start()
        case "killed":
            net.engine.kill()
    is_idle(net)
    until(lambda: not expected(net), "it is still expected")
    assert not elements(net.host)


@pytest.mark.parametrize("change", ["flush ruleset", "add rule inet pyman forward drop"])
def test_other_rules_than_the_engines_are_replaced_for_all_when_the_next_network_is_needed(
    net: Net, change: str
) -> None:
    """Somebody else's, or those of another version of it."""
    net.serve("one", "--publish", "8080:80")
    net.engine.cli("network", "create", "other")
    net.host.run("nft", *change.split())
    net.run("two", "--network", "other")
    assert net.asks("two", HOST, 8080).startswith("one")


def test_a_reset_leaves_nothing_on_the_host(net: Net) -> None:
    net.serve("one", "--publish", "8080:80")
    net.engine.kill_keeper()
    net.engine.cli("system", "reset", "--force")
    assert set(net.host.links()) == OWN
    assert not elements(net.host)
    net.engine.start()


def _end_without_supervisor(net: Net, name: str) -> None:
    state = net.engine.inspect(name)["State"]
    net.engine.kill_keeper()
    os.kill(state["Pid"], signal.SIGKILL)
    assert not processes.wait_gone({state["ConmonPid"]}, 20)


def test_what_no_supervisor_can_take_away_any_more_the_records_tell(net: Net) -> None:
    net.serve("one", "--publish", "8080:80")
    held = os.open(f"/proc/{net.pid('one')}/ns/net", os.O_RDONLY)
    _end_without_supervisor(net, "one")
    net.host.does(lambda: end_all(str(net.engine.root / "pyman" / "state.db"), SOCKETS))
    os.close(held)
    assert set(net.host.links()) == OWN
    assert not elements(net.host)
    netfilter.close()
    net.engine.start()


def test_of_that_one_failure_leaves_nothing_else(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NetworkFailed("cannot set up the packet filter: no")

    net.serve("one", "--publish", "8080:80")
    _end_without_supervisor(net, "one")
    state = str(net.engine.root / "pyman" / "state.db")
    with monkeypatch.context() as patches:
        patches.setattr(firewall, "unpublish", fails)
        with pytest.raises(NetworkFailed, match="filter: no"):
            net.host.does(lambda: end_all(state, SOCKETS))
    assert set(net.host.links()) == OWN
    assert elements(net.host)
    net.host.does(lambda: end_all(state, SOCKETS))
    assert not elements(net.host)
    netfilter.close()
    net.engine.start()
