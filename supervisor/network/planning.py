"""From the definition of a network to what links and the packet filter are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import NotSupported
from supervisor.network.plans import DNS_PORT, UNMANAGED, NetworkPlan, Route, Subnet

if TYPE_CHECKING:
    from pyman.api.network import Network

__all__ = ["check_source", "is_leased", "plan_of"]


def is_leased(network: Network) -> bool:
    """A DHCP server gives the addresses of its containers."""
    return network.ipam_options.get("driver") == "dhcp"


def check_source(network: Network, *, rootless: bool = False) -> None:
    """That the addresses of a network's containers come from where they can be asked for. NotSupported."""
    if not is_leased(network):
        return
    reason = hint = ""
    if rootless:
        reason = "and in an ordinary user's sandbox there is none"
        hint = "give it a subnet"
    elif network.driver == "ipvlan":
        reason = "which cannot tell containers of the driver ipvlan from their host"
        hint = "use the driver macvlan, or give it a subnet"
    elif network.driver == "bridge" and network.options.get("mode") != UNMANAGED:
        reason = "and on a bridge of its own there is none"
        hint = "make it with --opt mode=unmanaged, for a bridge that leads to one, or give it a subnet"
    if reason:
        raise NotSupported(
            f"cannot be on network '{network.name}': its addresses come from a DHCP server, {reason}",
            subject=network.name,
            hint=hint,
        )


def plan_of(network: Network, dns_port: int = 0) -> NetworkPlan:
    """`dns_port`: where names are served there. Options that are no numbers were refused when the definition was read."""
    options = network.options
    isolate = options.get("isolate", "")
    dns = network.dns_enabled and not is_leased(network)  # nobody has an address there who could serve them
    return NetworkPlan(
        name=network.name,
        id=network.id,
        driver=network.driver,
        interface=network.network_interface or options.get("parent", ""),
        subnets=[Subnet(each.subnet, each.gateway) for each in network.subnets],
        routes=[
            Route(each.destination, each.gateway, each.metric) for each in network.routes if each.gateway
        ],
        internal=network.internal,
        isolate="" if isolate == "false" else isolate,
        mtu=int(options.get("mtu") or 0),
        vlan=int(options.get("vlan") or 0),
        metric=int(options.get("metric") or 0),
        no_default_route=options.get("no_default_route") == "true",
        dns=dns,
        dns_port=0 if dns_port == DNS_PORT or not dns else dns_port,
        dns_servers=list(network.network_dns_servers),
        vrf=options.get("vrf", ""),
        mode=options.get("mode", ""),
        broadcast_limit=int(options["bclim"]) if options.get("bclim") else None,
        leased=is_leased(network),
    )
