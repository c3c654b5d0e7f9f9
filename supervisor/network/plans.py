"""What is to be: networks, and containers on them, with everything that the kernel has to be told.

`Attachment` and `Port` are recorded with their container, so that whoever finds the record can make all of it, or take it
away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_METRIC",
    "DNS_PORT",
    "EVERYWHERE",
    "UNMANAGED",
    "Address",
    "Attachment",
    "NetworkPlan",
    "Port",
    "Route",
    "Subnet",
    "first_addresses",
    "is_ipv6",
    "label_of",
    "labelled",
]

DEFAULT_METRIC = 100
"""Of routes, as with netavark."""
DNS_PORT = 53
"""Where name servers are asked."""
EVERYWHERE = {"": (4, 6), "0.0.0.0": (4,), "::": (6,)}  # noqa: S104 - what users write
"""Of which families all addresses of the host are meant, by what is said in place of one."""
UNMANAGED = "unmanaged"
"""The mode of a bridge that others care for."""


class Address(msgspec.Struct, frozen=True):
    address: str
    prefix: int
    """Bits of the subnet."""

    @property
    def text(self) -> str:
        return f"{self.address}/{self.prefix}"


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container on a network."""

    network: str
    network_id: str
    driver: str = "bridge"
    """bridge, macvlan or ipvlan; pasta or slirp4netns where that program is the whole network, which has its name."""
    interface: str = "eth0"
    """In the container."""
    host_interface: str = ""
    """The other end of it, on a bridge: at most 15 bytes."""
    label: str = ""
    """What that says of itself on the host, as its alias (`label_of`): what else has its name is not it."""
    addresses: list[Address] = []
    mac: str = ""
    aliases: list[str] = []
    """Names besides the container's own."""
    gateway: str = ""
    """With a lease: what the DHCP server has named."""
    servers: list[str] = []
    """With a lease: whom the DHCP server has told to ask for names."""
    searches: list[str] = []
    """With a lease: domains in which it has told to look for them."""
    words: list[str] = []
    """Of a network that is a program's: its options, as they were configured and asked for when the run began."""


class Port(msgspec.Struct, frozen=True):
    """One port of the host that leads into a container."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    """tcp, udp or sctp."""
    host_ip: str = ""
    """Empty: all of the host's addresses."""


class Subnet(msgspec.Struct, frozen=True):
    subnet: str
    """As 10.88.0.0/16."""
    gateway: str = ""
    """The host's address there; empty: it has none."""

    @property
    def prefix(self) -> int:
        return int(self.subnet.partition("/")[2])


class Route(msgspec.Struct, frozen=True):
    """In the container, besides those that its addresses bring."""

    destination: str
    gateway: str
    metric: int | None = None


class NetworkPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network, as far as links and the packet filter are concerned."""

    name: str
    id: str
    driver: str = "bridge"
    interface: str = ""
    """The bridge; of macvlan and ipvlan the host's interface that they are on, or empty: that of the default route."""
    subnets: list[Subnet] = []
    routes: list[Route] = []
    internal: bool = False
    """No way out of it, nor in."""
    isolate: str = ""
    """true: from other networks that are so; strict: from all others."""
    mtu: int = 0
    """0: the kernel's."""
    vlan: int = 0
    """0: none."""
    metric: int = 0
    """Of the default route; 0: `DEFAULT_METRIC`."""
    no_default_route: bool = False
    vrf: str = ""
    """The host's virtual router that the bridge is of."""
    dns: bool = False
    """Containers find one another by their names."""
    dns_port: int = 0
    """Where that is served, if not where it is asked (`DNS_PORT`); 0: there."""
    dns_servers: list[str] = []
    """Who is asked for other names; none: whom the host asks."""
    mode: str = ""
    """Of macvlan (bridge, private, vepa, passthru) and ipvlan (l2, l3, l3s); of a bridge: managed or `UNMANAGED`."""
    broadcast_limit: int | None = None
    """Of macvlan (bclim)."""
    leased: bool = False
    """A DHCP server there gives the addresses."""

    @property
    def is_unmanaged(self) -> bool:
        """Its bridge is there without the engine, and is left as it is."""
        return self.mode == UNMANAGED

    @property
    def default_routes(self) -> list[str]:
        """The gateways that everything else is sent to."""
        if self.internal or self.no_default_route:
            return []
        return [subnet.gateway for subnet in self.subnets if subnet.gateway]


def is_ipv6(address: str) -> bool:
    return ":" in address


def label_of(engine: str, container: str, network_id: str) -> str:
    """Of the host's end of a container's interface: whose it is. `engine`: the id of its journal."""
    return f"pyman {engine} {container} {network_id}"


def labelled(label: str) -> tuple[str, str]:
    """The engine and the network that a label names; nothing if it is none."""
    match label.split(" "):
        case ["pyman", engine, _, network_id]:
            return engine, network_id
    return "", ""


def first_addresses(attachments: Iterable[Attachment]) -> dict[bool, str]:
    """Where a container's published ports lead: its first address of either kind, by whether it is of IPv6. Nothing but a
    bridge leads ports, so those on others do not count, and who is on none has none."""
    found: dict[bool, str] = {}
    for attachment in attachments:
        for each in attachment.addresses if attachment.driver == "bridge" else ():
            found.setdefault(is_ipv6(each.address), each.address)
    return found
