"""The host's ends of containers' interfaces: each is known for whose it is, and nothing else of its name is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.networking.bridges import BRIDGE
from tests.networking.conftest import HOST, ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.networking.conftest import Net

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""An ordinary user's are in a sandbox, where nobody else has any."""

IDLE = True
MINE = "mine"
ON_MINE = ("--network", f"podman:host_interface_name={MINE}")


@pytest.fixture
def theirs(net: Net) -> Iterator[str]:
    """A bridge that is the host's own, and is called so."""
    net.host.run("ip", "link", "add", MINE, "type", "bridge")
    yield MINE
    net.host.run("ip", "link", "del", MINE)


def test_one_of_the_hosts_own_stays_and_is_told(net: Net, theirs: str) -> None:
    said = net.refused(*ON_MINE)
    assert said.endswith(f"a container to network 'podman': the host has another interface '{theirs}'")
    assert theirs in net.host.links()


def test_an_interface_that_another_container_has_is_refused_and_stays(net: Net) -> None:
    net.serve("one", *ON_MINE, "--publish", "8080:80")
    said = net.refused(*ON_MINE)
    assert f"cannot use the interface '{MINE}': it is that of container 'one'" in said
    assert ask(net.outside, HOST, 8080).startswith("one ")


def test_who_replaces_a_container_has_its_interface(net: Net) -> None:
    net.run("one", *ON_MINE)
    net.run("one", *ON_MINE, "--replace")
    assert MINE in net.host.links()


def test_a_bridge_of_another_network_is_refused_and_stays(net: Net) -> None:
    net.serve("one")
    net.engine.cli("network", "create", "n")
    on_bridge = f"n:host_interface_name={BRIDGE}"
    said = net.refused("--network", on_bridge)
    assert f"cannot use the interface '{BRIDGE}': it is the bridge of network 'podman'" in said
    assert ask(net.host, net.address("one"), 80).startswith("one ")
