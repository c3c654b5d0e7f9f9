"""`io.pyman.Network`: the networks that containers can be on, as netavark and Podman write them down.

Networks are found by their names, by their ids, or by the beginning of an id that no other has. A network here is a
definition: addresses, bridges and rules are there while a container is on it.
"""

from __future__ import annotations

import msgspec

from pyman.api.container import ExistsReply
from pyman.api.method import Access, Interface, Method, Nothing
from pyman.api.selection import ErrorInfo, ResultsReply, Selection
from pyman.api.spec import NetworkWish

__all__ = [
    "INTERFACE",
    "ConnectNetworkRequest",
    "ConnectionReply",
    "CreateNetworkReply",
    "CreateNetworkRequest",
    "DisconnectNetworkRequest",
    "InspectNetwork",
    "InspectNetworksReply",
    "InspectNetworksRequest",
    "LeaseRange",
    "ListNetworksReply",
    "ListNetworksRequest",
    "Network",
    "NetworkAddress",
    "NetworkContainer",
    "NetworkInterface",
    "NetworkRequest",
    "PruneNetworksRequest",
    "ReloadNetworksRequest",
    "RemoveNetworksRequest",
    "RemovedNetwork",
    "RemovedNetworksReply",
    "Route",
    "Subnet",
    "SubnetWish",
    "UpdateNetworkReply",
    "UpdateNetworkRequest",
]


class LeaseRange(msgspec.Struct, frozen=True):
    """The addresses that containers are given, both ends included."""

    start_ip: str = ""
    """Empty: the subnet's first."""
    end_ip: str = ""
    """Empty: the subnet's last."""


class Subnet(msgspec.Struct, frozen=True):
    subnet: str
    """In CIDR notation: the network's address, not one in it."""
    gateway: str = ""
    """The bridge's address; empty: there is none."""
    lease_range: LeaseRange | None = None


class Route(msgspec.Struct, frozen=True):
    """What containers reach in another way than by the gateway."""

    destination: str
    """In CIDR notation."""
    gateway: str = ""
    metric: int | None = None


class Network(msgspec.Struct, frozen=True):
    """Podman's and netavark's document."""

    name: str
    id: str
    """64 hexadecimal digits."""
    driver: str = "bridge"
    """bridge, macvlan or ipvlan, or what another engine knows."""
    network_interface: str = ""
    """The bridge; of macvlan and ipvlan the host's interface that they are made on, empty: the one of its default
    route."""
    created: str = "0001-01-01T00:00:00Z"
    """RFC 3339."""
    subnets: list[Subnet] = []
    routes: list[Route] = []
    ipv6_enabled: bool = False
    internal: bool = False
    """Nothing outside of it is reached."""
    dns_enabled: bool = False
    """Containers find one another by their names."""
    network_dns_servers: list[str] = []
    """Who is asked for other names; empty: whom the host asks."""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """The driver's."""
    ipam_options: dict[str, str] = {}
    """`driver`: host-local, dhcp or none."""


class NetworkAddress(msgspec.Struct, frozen=True):
    ipnet: str
    """An address with the length of its subnet's prefix."""
    gateway: str = ""


class NetworkInterface(msgspec.Struct, frozen=True):
    subnets: list[NetworkAddress] = []
    mac_address: str = ""


class NetworkContainer(msgspec.Struct, frozen=True):
    """A container on a network."""

    name: str
    interfaces: dict[str, NetworkInterface] = {}
    """By their names in the container."""


class InspectNetwork(Network, frozen=True):
    containers: dict[str, NetworkContainer] = {}
    """Those that run, by their ids."""


class NetworkRequest(msgspec.Struct, frozen=True):
    name: str
    """Or the id, or its beginning."""


class SubnetWish(msgspec.Struct, frozen=True):
    """A subnet as it is asked for."""

    subnet: str
    """In CIDR notation."""
    gateway: str = ""
    """Empty: the subnet's first address, unless the network has no gateway."""
    ip_range: str = ""
    """In CIDR notation, or `START-END`; empty: the whole subnet."""


class CreateNetworkRequest(msgspec.Struct, frozen=True):
    name: str = ""
    """Empty: podman1 or the like, the first that is free."""
    driver: str = ""
    """bridge, macvlan or ipvlan; empty: bridge."""
    network_interface: str = ""
    """As in `Network`; empty: podman1 or the like, for a bridge."""
    subnets: list[SubnetWish] = []
    """None: one of those that are free, where the driver needs one."""
    routes: list[Route] = []
    ipv6_enabled: bool = False
    """With a subnet of each kind: what is missing is chosen."""
    internal: bool = False
    dns_enabled: bool = True
    network_dns_servers: list[str] = []
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """mtu, metric, no_default_route; of a bridge vlan, isolate, vrf, mode; of macvlan and ipvlan mode, parent; of macvlan
    bclim."""
    ipam_driver: str = ""
    """host-local, dhcp or none; empty: what the driver and the subnets call for."""
    ignore: bool = False
    """One of that name that is there is taken."""


class CreateNetworkReply(msgspec.Struct, frozen=True):
    network: Network
    created: bool
    """False: it was there."""


class UpdateNetworkRequest(msgspec.Struct, frozen=True):
    name: str
    """Or the id, or its beginning."""
    add_dns_servers: list[str] = []
    remove_dns_servers: list[str] = []
    """They need not be there."""


class UpdateNetworkReply(msgspec.Struct, frozen=True):
    network: Network
    changed: bool
    """False: it was so."""


class ConnectNetworkRequest(msgspec.Struct, frozen=True):
    name: str
    """Or the id, or its beginning."""
    container: str
    options: NetworkWish = NetworkWish()


class DisconnectNetworkRequest(msgspec.Struct, frozen=True):
    name: str
    """Or the id, or its beginning."""
    container: str
    force: bool = False
    """Also where there is no such network any more."""


class ConnectionReply(msgspec.Struct, frozen=True):
    changed: bool
    """False: it was so."""


class ReloadNetworksRequest(msgspec.Struct, frozen=True):
    selection: Selection
    """With `all`: those that run and are on networks."""


class ListNetworksRequest(msgspec.Struct, frozen=True):
    filters: dict[str, list[str]] = {}
    """name, id, driver, label, label!, dangling, until."""


class ListNetworksReply(msgspec.Struct, frozen=True):
    networks: list[Network]
    """By their names."""
    damaged: list[ErrorInfo] = []
    """Files of networks that cannot be used."""


class InspectNetworksRequest(msgspec.Struct, frozen=True):
    names: list[str]


class InspectNetworksReply(msgspec.Struct, frozen=True):
    networks: list[InspectNetwork]
    errors: list[ErrorInfo] = []


class RemoveNetworksRequest(msgspec.Struct, frozen=True):
    names: list[str]
    force: bool = False
    """With the containers that are on it."""
    timeout: float | None = None
    """With `force`: seconds until SIGKILL; none: the container's own."""


class PruneNetworksRequest(msgspec.Struct, frozen=True):
    """Those that no container is on, but for the default one."""

    filters: dict[str, list[str]] = {}
    """label, label!, until."""


class RemovedNetwork(msgspec.Struct, frozen=True):
    name: str
    """As it was asked for."""
    error: ErrorInfo | None = None


class RemovedNetworksReply(msgspec.Struct, frozen=True):
    networks: list[RemovedNetwork]


INTERFACE = Interface(
    name="io.pyman.Network",
    doc="Networks.",
    methods=(
        Method("Create", CreateNetworkRequest, CreateNetworkReply, "Define a network.", access=Access.OWNER),
        Method(
            "Update",
            UpdateNetworkRequest,
            UpdateNetworkReply,
            "Change whom a network asks for other names.",
            access=Access.OWNER,
        ),
        Method(
            "Connect",
            ConnectNetworkRequest,
            ConnectionReply,
            "Put a container on a network, at once where it runs.",
            access=Access.OWNER,
        ),
        Method(
            "Disconnect",
            DisconnectNetworkRequest,
            Nothing,
            "Take a container off a network, at once where it runs.",
            access=Access.OWNER,
        ),
        Method(
            "Reload",
            ReloadNetworksRequest,
            ResultsReply,
            "Make anew what somebody has removed of running containers' networks.",
            access=Access.OWNER,
        ),
        Method("List", ListNetworksRequest, ListNetworksReply, "The networks that fit.", access=Access.READ),
        Method(
            "Inspect",
            InspectNetworksRequest,
            InspectNetworksReply,
            "What is known of networks.",
            access=Access.READ,
        ),
        Method(
            "Exists", NetworkRequest, ExistsReply, "Whether there is one that is meant.", access=Access.READ
        ),
        Method(
            "Remove",
            RemoveNetworksRequest,
            RemovedNetworksReply,
            "Remove networks.",
            access=Access.OWNER,
        ),
        Method(
            "Prune",
            PruneNetworksRequest,
            RemovedNetworksReply,
            "Remove the networks that no container is on.",
            access=Access.OWNER,
        ),
    ),
)
