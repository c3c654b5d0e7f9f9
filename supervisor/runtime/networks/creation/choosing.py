"""How a container is to be on networks, checked against what these are: by their names, with an interface for each."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING

from pyman.api.spec import NetworkWish
from pyman.errors import InvalidArgument, NotSupported
from supervisor.network.definitions.addresses import check_host_address, parse_address
from supervisor.network.definitions.options import DRIVERS, check_interface_name
from supervisor.network.planning import check_source, is_leased

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyman.api.network import Network
    from supervisor.network.definitions.directory import Networks
    from supervisor.runtime.container import Container

__all__ = ["further", "on_host", "settled"]

_MOST = 128
"""Networks of a container, and aliases on one."""
_ALIAS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_MAC = re.compile(r"[0-9a-f]{12}")
_HOST_INTERFACE = "host_interface_name"
_NONE: Mapping[str, str] = {}


def settled(
    wishes: Sequence[tuple[str, NetworkWish]],
    known: Networks,
    *,
    as_device: bool = False,
    rootless: bool = False,
    taken: Mapping[str, str] = _NONE,
) -> dict[str, NetworkWish]:
    """`wishes`: with names, ids, or beginnings of ids. `as_device`: who names no interface gets one that is called as the
    network's on the host. `taken`: names of interfaces on the host, and whose they are to be. InvalidArgument, NotSupported,
    NoSuchNetwork, AmbiguousId, StorageFailed."""
    _refuse_many(len(wishes))
    found: dict[str, NetworkWish] = {}
    for wanted, wish in wishes:
        network = known.find(wanted)
        if network.name in found:
            raise InvalidArgument(
                f"cannot be on network '{network.name}' more than once", subject=network.name
            )
        check_source(network, rootless=rootless)
        found[network.name] = _checked(network, wish, taken, as_device=as_device)
    return _with_interfaces(found)


def further(
    networks: Mapping[str, NetworkWish],
    network: Network,
    wish: NetworkWish,
    *,
    as_device: bool = False,
    rootless: bool = False,
    taken: Mapping[str, str] = _NONE,
) -> dict[str, NetworkWish]:
    """Those that a container is on, with one more (`settled`). InvalidArgument, NotSupported."""
    _refuse_many(len(networks) + 1)
    check_source(network, rootless=rootless)
    checked = _checked(network, wish, taken, as_device=as_device)
    return _with_interfaces({**networks, network.name: checked})


def _refuse_many(count: int) -> None:
    if count > _MOST:
        raise InvalidArgument(f"cannot be on more than {_MOST} networks")


def on_host(networks: Networks, containers: Iterable[Container], name: str) -> dict[str, str]:
    """Names of interfaces on the host that networks and containers are to have, whether they are there or not; and whose
    they are. `name`: of the one container that does not count."""
    found = {
        wish.options[_HOST_INTERFACE]: f"that of container '{container.name}'"
        for container in containers
        if container.name != name and not container.observed.leaving
        for wish in container.definition.spec.networks.values()
        if _HOST_INTERFACE in wish.options
    }
    bridges = [each for each in networks.by_name.values() if each.driver == "bridge"]
    return found | {each.network_interface: f"the bridge of network '{each.name}'" for each in bridges}


def _checked(
    network: Network, wish: NetworkWish, taken: Mapping[str, str], *, as_device: bool
) -> NetworkWish:
    """With everything in the form in which it is compared."""
    if network.driver not in DRIVERS:
        raise NotSupported(
            f"cannot be on network '{network.name}': its driver '{network.driver}' is not known",
            subject=network.name,
            hint=f"known are {', '.join(DRIVERS)}",
        )
    if len(wish.aliases) > _MOST:
        raise InvalidArgument(f"cannot have more than {_MOST} aliases on network '{network.name}'")
    for alias in wish.aliases:
        if not _ALIAS.fullmatch(alias):
            raise InvalidArgument(
                f"cannot use the alias '{alias[:80]}' on network '{network.name}'",
                subject=alias[:80],
                hint="it may have letters, digits, '_', '.' and '-'",
            )
    if wish.interface_name:
        check_interface_name(wish.interface_name, "interface")
        if wish.interface_name == "lo":
            raise InvalidArgument("cannot use the interface 'lo': it is the loopback's", subject="lo")
    return NetworkWish(
        _addresses(network, wish.static_ips),
        list(dict.fromkeys(wish.aliases)),
        _mac(network, wish.static_mac) if wish.static_mac else "",
        wish.interface_name or (network.network_interface if as_device else ""),
        _options(network, wish.options, taken),
    )


def _addresses(network: Network, texts: Iterable[str]) -> list[str]:
    """At most one in each subnet."""
    blocks = [(ip_network(subnet.subnet, strict=False), subnet.gateway) for subnet in network.subnets]
    found: dict[object, str] = {}
    for text in texts:
        address = parse_address(text, "address")
        if is_leased(network):
            raise InvalidArgument(
                f"cannot use the address '{address}' on network '{network.name}': its DHCP server gives the addresses",
                subject=str(address),
                hint="let the server know the container by --mac-address",
            )
        fits = [(block, gateway) for block, gateway in blocks if address in block]
        if not fits:
            subnets = ", ".join(str(block) for block, _ in blocks)
            raise InvalidArgument(
                f"cannot use the address '{address}': it is in no subnet of network '{network.name}'",
                subject=str(address),
                hint=f"it has {subnets}" if subnets else "it has none: its addresses come from elsewhere",
            )
        ((block, gateway), *_) = fits
        check_host_address(address, block, "address")
        if gateway and address == parse_address(gateway, "gateway"):
            raise InvalidArgument(
                f"cannot use the address '{address}': it is the gateway of network '{network.name}'",
                subject=str(address),
            )
        if block in found:
            raise InvalidArgument(
                f"cannot use the address '{address}' besides '{found[block]}': a container has one in each subnet of"
                f" network '{network.name}'",
                subject=str(address),
            )
        found[block] = str(address)
    return list(found.values())


def _mac(network: Network, text: str) -> str:
    digits = re.sub("[:.-]", "", text.lower())
    if network.driver == "ipvlan":
        raise InvalidArgument(
            f"cannot use the MAC address '{text[:80]}' on network '{network.name}': with ipvlan all have the host's",
            subject=text[:80],
        )
    if not _MAC.fullmatch(digits) or int(digits, 16) == 0 or int(digits[:2], 16) & 1:
        raise InvalidArgument(
            f"cannot use the MAC address '{text[:80]}'",
            subject=text[:80],
            hint="it must be six bytes such as 92:d0:c6:0a:29:33, the first one even",
        )
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def _options(network: Network, options: Mapping[str, str], taken: Mapping[str, str]) -> dict[str, str]:
    for key, value in options.items():
        if network.driver != "bridge" or key != _HOST_INTERFACE:
            hint = f"it has {_HOST_INTERFACE}" if network.driver == "bridge" else "it has none"
            raise InvalidArgument(
                f"cannot use the option '{key[:80]}' on network '{network.name}' of the driver {network.driver}",
                subject=key[:80],
                hint=hint,
            )
        check_interface_name(value, "interface")
        if value in taken:
            raise InvalidArgument(f"cannot use the interface '{value}': it is {taken[value]}", subject=value)
    return dict(options)


def _with_interfaces(wishes: dict[str, NetworkWish]) -> dict[str, NetworkWish]:
    """eth0 and so on for those that nobody has named."""
    names, ends = set[str](), set[str]()
    for wish in wishes.values():
        _refuse_again(wish.interface_name, names)
        _refuse_again(wish.options.get(_HOST_INTERFACE, ""), ends)
    free = (name for name in map("eth{}".format, range(len(wishes) + len(names))) if name not in names)
    return {
        network: wish
        if wish.interface_name
        else NetworkWish(wish.static_ips, wish.aliases, wish.static_mac, next(free), wish.options)
        for network, wish in wishes.items()
    }


def _refuse_again(interface: str, names: set[str]) -> None:
    if interface and interface in names:
        raise InvalidArgument(
            f"cannot use the interface '{interface}' on more than one network", subject=interface
        )
    names.add(interface)
