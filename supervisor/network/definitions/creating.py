"""From what somebody asks for to the definition of a network: Podman's rules, as a function of what there is.

A subnet that is named may overlap neither that of another network nor one in which the host has an address. One that is
chosen keeps clear of the host's routes as well, as long as there is such a one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pyman.api.network import Network, Route, Subnet
from pyman.errors import InvalidArgument, NameInUse
from supervisor.network.definitions import addresses
from supervisor.network.definitions.document import NAME, NAME_MOST, checked
from supervisor.network.definitions.options import DRIVERS, check_interface_name, checked_options
from supervisor.network.plans import UNMANAGED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pyman.api.network import CreateNetworkRequest, SubnetWish
    from supervisor.network.definitions.addresses import Block
    from supervisor.network.definitions.live import Live
    from supervisor.settings.model import SubnetPool

__all__ = ["Surroundings", "check_name", "define", "with_servers"]

_BRIDGE_STEM = "podman"
"""How the names of bridges begin that nobody has named: what firewalls know of Podman."""
_MODES = frozenset(
    ("none", "host", "bridge", "private", "slirp4netns", "pasta", "container", "ns", "default")
)
"""Words that --network takes for something else."""
_DOCKER = {"com.docker.network.driver.mtu": "mtu"}
_DOCKER_BRIDGE = "com.docker.network.bridge.name"
_HOST_LOCAL, _DHCP, _NONE = "host-local", "dhcp", "none"


class Surroundings(NamedTuple):
    networks: Mapping[str, Network]
    """Those that are there, by their names."""
    damaged: Collection[str]
    """The names that files have which cannot be used."""
    live: Live
    pools: Sequence[SubnetPool]


def check_name(name: str) -> None:
    """InvalidArgument."""
    if not NAME.fullmatch(name) or len(name) > NAME_MOST:
        raise InvalidArgument(
            f"cannot use the name '{name}' for a network",
            subject=name,
            hint=f"it may have {NAME_MOST} letters, digits, '_', '.' and '-', and begins with a letter or digit",
        )
    if name in _MODES:
        raise InvalidArgument(
            f"cannot use the name '{name}' for a network: --network has another meaning for it", subject=name
        )


def define(wish: CreateNetworkRequest, around: Surroundings, id: str, created: str) -> Network:
    """`id`, `created`: of the new network. InvalidArgument, NameInUse."""
    driver = wish.driver or "bridge"
    if driver not in DRIVERS:
        raise InvalidArgument(
            f"cannot use the network driver '{driver}'",
            subject=driver,
            hint=f"there are {', '.join(DRIVERS)}",
        )
    if wish.name:
        check_name(wish.name)
        if wish.name in around.networks:
            raise NameInUse(f"cannot make network '{wish.name}': there is one", subject=wish.name)
    name = wish.name or _free_name(around)
    options, interface = _options(driver, wish)
    network = Network(
        name=name,
        id=id,
        driver=driver,
        network_interface=interface,
        created=created,
        subnets=[_subnet(each) for each in wish.subnets],
        routes=[_route(each) for each in wish.routes],
        ipv6_enabled=wish.ipv6_enabled,
        internal=wish.internal,
        dns_enabled=wish.dns_enabled,
        network_dns_servers=_servers(wish.network_dns_servers),
        labels=dict(wish.labels),
        options=options,
        ipam_options={"driver": _ipam(driver, wish)},
    )  # fmt: skip
    network = _bridge(network, wish, around) if driver == "bridge" else _on_parent(network, around)
    if network.ipam_options["driver"] == _NONE:
        network = msgspec.structs.replace(network, dns_enabled=False)
    _refuse_servers_without_names(network, "make")
    return checked(network)


def with_servers(network: Network, add: Sequence[str], drop: Sequence[str]) -> Network:
    """Those that are dropped need not be there. InvalidArgument."""
    added, dropped = _servers(add), {*_servers(drop)}
    kept = [each for each in network.network_dns_servers if each not in dropped]
    changed = msgspec.structs.replace(network, network_dns_servers=list(dict.fromkeys([*kept, *added])))
    if added:
        _refuse_servers_without_names(changed, "update")
    return changed


def _servers(given: Sequence[str]) -> list[str]:
    return [str(addresses.parse_address(each, "name server")) for each in given]


def _refuse_servers_without_names(network: Network, verb: str) -> None:
    if network.network_dns_servers and not network.dns_enabled:
        raise InvalidArgument(
            f"cannot {verb} network '{network.name}': it has name servers, but no names", subject=network.name,
            hint="containers find one another by names on a bridge with addresses, unless that is disabled",
        )  # fmt: skip


def _free_name(around: Surroundings) -> str:
    """Of a network or a bridge."""
    taken = {*around.networks, *around.damaged, *around.live.interfaces}
    taken |= {each.network_interface for each in around.networks.values() if each.driver == "bridge"}
    number = 1  # 0 is the default network's
    while f"{_BRIDGE_STEM}{number}" in taken:
        number += 1
    return f"{_BRIDGE_STEM}{number}"


def _options(driver: str, wish: CreateNetworkRequest) -> tuple[dict[str, str], str]:
    """With the interface, which some name by an option."""
    options, interface = dict(wish.options), wish.network_interface
    if driver == "bridge":
        for docker, own in _DOCKER.items():
            if docker in options:
                options[own] = options.pop(docker)
        named = options.pop(_DOCKER_BRIDGE, "")
    else:
        named = options.pop("parent", "")
    if named and interface and named != interface:
        raise InvalidArgument(
            f"cannot use both '{named}' and '{interface}' as the interface of a network", subject=interface
        )
    return checked_options(driver, options), named or interface


# ---------------------------------------------------------------------- subnets and routes


def _subnet(wish: SubnetWish) -> Subnet:
    leases = addresses.lease_range(wish.ip_range) if wish.ip_range else None
    return Subnet(wish.subnet, wish.gateway, leases)


def _route(route: Route) -> Route:
    block = addresses.parse_block(route.destination, "destination of a route")
    gateway = addresses.parse_address(route.gateway, "gateway of a route")
    if addresses.parse_address(route.destination.partition("/")[0], "destination of a route") != block[0]:
        raise InvalidArgument(
            f"cannot use the destination of a route '{route.destination}': that is an address in the network '{block}'",
            subject=route.destination,
        )
    if block.version != gateway.version:
        raise InvalidArgument(
            f"cannot use the gateway '{gateway}' for a route to '{block}': they are of different kinds",
            subject=str(gateway),
        )
    if route.metric is not None and not 0 <= route.metric < 1 << 32:
        raise InvalidArgument(
            f"cannot use the metric {route.metric} for a route to '{block}'", subject=route.destination
        )
    return Route(str(block), str(gateway), route.metric)


def _ipam(driver: str, wish: CreateNetworkRequest) -> str:
    asked, subnets = wish.ipam_driver, wish.subnets
    if asked not in ("", _HOST_LOCAL, _DHCP, _NONE):
        raise InvalidArgument(
            f"cannot use the IPAM driver '{asked}'",
            subject=asked,
            hint=f"there are {_HOST_LOCAL}, {_DHCP} and {_NONE}",
        )
    if asked in (_DHCP, _NONE) and subnets:
        raise InvalidArgument(f"cannot use the IPAM driver '{asked}' together with subnets", subject=asked)
    if driver == "bridge":
        return asked or _HOST_LOCAL
    if asked == _HOST_LOCAL and not subnets:
        raise InvalidArgument(
            f"cannot use the IPAM driver '{asked}' for a network of the driver {driver} without a subnet",
            subject=asked,
        )
    chosen = asked or (_HOST_LOCAL if subnets else _DHCP)
    if chosen == _DHCP and driver == "ipvlan":
        raise InvalidArgument(
            "cannot use the IPAM driver 'dhcp' for a network of the driver ipvlan",
            subject=chosen,
            hint="its containers all have the address of the interface below: give a subnet",
        )
    return chosen


# ---------------------------------------------------------------------- drivers


def _bridge(network: Network, wish: CreateNetworkRequest, around: Surroundings) -> Network:
    bridge = network.network_interface
    if bridge:
        check_interface_name(bridge, "name of a bridge")
        tagged = network.options.get("vlan") not in (None, "", "0")
        for other in around.networks.values():
            if other.driver != "bridge" or other.network_interface != bridge:
                continue
            # Networks that differ by their VLAN may share one.
            if not tagged:
                raise InvalidArgument(
                    f"cannot use the name of a bridge '{bridge}': it is that of network '{other.name}'",
                    subject=bridge,
                )
            _refuse_other_kind(network, other)
    else:
        bridge = network.name if not wish.name else _free_name(around)
    network = msgspec.structs.replace(network, network_interface=bridge)
    if network.ipam_options["driver"] != _HOST_LOCAL:
        return network
    own = bridge if network.options.get("mode") == UNMANAGED else ""
    taken = list(_taken(around, own))
    for subnet in network.subnets:
        _refuse_taken(addresses.parse_block(subnet.subnet, "subnet"), taken)
    subnets = list(network.subnets)
    blocks = [addresses.parse_block(each.subnet, "subnet") for each in subnets]
    used = [*blocks, *(block for _, block in taken)]
    if not blocks or (network.ipv6_enabled and all(block.version == 6 for block in blocks)):
        subnets.append(Subnet(_chosen(around, used)))
    if network.ipv6_enabled and all(block.version == 4 for block in blocks):
        six = addresses.random_block(used)
        if six is None:
            raise InvalidArgument(
                "cannot find a free IPv6 subnet", hint="give one with --subnet", subject=network.name
            )
        subnets.append(Subnet(str(six)))
    return msgspec.structs.replace(network, subnets=subnets)


def _refuse_other_kind(network: Network, other: Network) -> None:
    """The packet filter knows networks by their bridges: what keeps one of them in would keep the other one in, too."""
    unmanaged = all(each.options.get("mode") == UNMANAGED for each in (network, other))
    if network.internal != other.internal and not unmanaged:
        kinds = "internal, and this one is not" if other.internal else "not internal, and this one is"
        raise InvalidArgument(
            f"cannot use the name of a bridge '{other.network_interface}': it is that of network '{other.name}', which is"
            f" {kinds}",
            subject=other.network_interface,
        )


def _taken(around: Surroundings, own: str) -> Iterator[tuple[str, Block]]:
    """With whose they are. `own`: an interface that is there for this network."""
    for network in around.networks.values():
        for subnet in network.subnets:
            yield f"network '{network.name}'", addresses.parse_block(subnet.subnet, "subnet")
    for interface, block in around.live.subnets:
        if interface != own:
            yield f"the host's interface '{interface}'", block


def _refuse_taken(block: Block, taken: Sequence[tuple[str, Block]]) -> None:
    for whose, other in taken:
        if block.version == other.version and block[0] <= other[-1] and other[0] <= block[-1]:  # type: ignore[operator]
            raise InvalidArgument(
                f"cannot use the subnet '{block}': {whose} has '{other}'", subject=str(block)
            )


def _chosen(around: Surroundings, used: Sequence[Block]) -> str:
    found = addresses.free_block(around.pools, [*used, *around.live.routes])
    # A route to all private networks, as of a tunnel, leaves nothing that is free of routes.
    found = found or addresses.free_block(around.pools, used)
    if found is None:
        raise InvalidArgument(
            "cannot find a free subnet",
            hint="give one with --subnet, or more of them as default_subnet_pools in containers.conf",
        )
    return str(found)


def _on_parent(network: Network, around: Surroundings) -> Network:
    parent = network.network_interface
    if parent and parent not in around.live.interfaces:
        raise InvalidArgument(
            f"cannot make network '{network.name}': the host has no interface '{parent}'", subject=parent
        )
    # Nobody on the host is reached from there whom containers could ask for names.
    return msgspec.structs.replace(network, dns_enabled=False)
