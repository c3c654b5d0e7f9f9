"""Networks and containers on them for the tests, made as the engine makes them, and what the packet filter has of them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, links
from supervisor.network.plans import Address, Attachment, NetworkPlan, Subnet, label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor.network.plans import Port
    from tests.support.hosts import Machine

__all__ = [
    "FIRST",
    "SECOND",
    "attachment",
    "connected",
    "elements_of",
    "unless_the_kernel_cannot",
    "with_",
]

FIRST = NetworkPlan(
    "first",
    "1" * 64,
    interface="br1",
    subnets=[Subnet("10.1.0.0/24", "10.1.0.1"), Subnet("fd01::/64", "fd01::1")],
)
SECOND = NetworkPlan("second", "2" * 64, interface="br2", subnets=[Subnet("10.2.0.0/24", "10.2.0.1")])


def with_(plan: NetworkPlan, **changes: object) -> NetworkPlan:
    return msgspec.structs.replace(plan, **changes)


def attachment(network: NetworkPlan, number: int, interface: str = "eth0") -> Attachment:
    """The container with that number on a network."""
    addresses = []
    for subnet in network.subnets:
        base = subnet.gateway.rpartition(".")[0] if "." in subnet.gateway else "fd01:"
        joint = "." if "." in subnet.gateway else ":"
        addresses.append(Address(f"{base}{joint}{number}", subnet.prefix))
    return Attachment(
        network.name,
        network.id,
        driver=network.driver,
        interface=interface,
        host_interface=f"v{network.interface}x{number}" if network.driver == "bridge" else "",
        label=label_of("tests", str(number), network.id),
        addresses=addresses,
    )


def connected(
    host: Machine,
    machine: Machine,
    network: NetworkPlan,
    number: int,
    ports: Sequence[Port] = (),
    **more: str,
) -> Attachment:
    """As the engine does it."""
    made = attachment(network, number, **more)

    def work() -> None:
        if not firewall.is_there():
            firewall.rebuild([], [])
        if network.driver == "bridge":
            links.ensure_bridge(network)
            firewall.add_network(network)
        links.attach(machine.netns, network, made, hairpin=bool(ports))
        firewall.publish(ports, [made])

    host.does(work)
    return made


def elements_of(host: Machine, name: str) -> list[Any]:
    """What is in a set or a map of the packet filter."""
    kind = "map" if name.startswith("publish") else "set"
    told = json.loads(host.run("nft", "-j", "list", kind, "inet", "pyman", name))
    return list(told["nftables"][1][kind].get("elem", []))


@contextmanager
def unless_the_kernel_cannot(host: Machine, *words: str) -> Iterator[None]:
    """Kernels are built without some of it: then that is what is told."""
    try:
        host.run(*words)
    except AssertionError:
        with pytest.raises(NetworkFailed, match=r"cannot .*: operation not supported"):
            yield
    else:
        host.run("ip", "link", "del", "tried")
        yield
