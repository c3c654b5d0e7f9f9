"""From the definition of a network to what links and the packet filter are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import NotSupported
from supervisor.network.plans import NetworkPlan, Route, Subnet

if TYPE_CHECKING:
    from pyman.api.network import Network

_ASKED = 53

__all__ = ["check_source", "plan_of"]


def check_source(network: Network) -> None:
    """That the addresses of a network's containers do not come from where nobody asks. NotSupported."""
    if network.ipam_options.get("driver") == "dhcp":
        raise NotSupported(
            f"cannot be on network '{network.name}': its addresses come from a DHCP server, and none is asked",
            subject=network.name,
            hint="make it with --ipam-driver none, or give it subnets",
        )


def plan_of(network: Network, dns_port: int = 0) -> NetworkPlan:
    """`dns_port`: where names are served there. Options that are no numbers were refused when the definition was read."""
    options = network.options
    isolate = options.get("isolate", "")
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
        dns=network.dns_enabled,
        dns_port=0 if dns_port == _ASKED or not network.dns_enabled else dns_port,
        dns_servers=list(network.network_dns_servers),
        vrf=options.get("vrf", ""),
        mode=options.get("mode", ""),
        broadcast_limit=int(options["bclim"]) if options.get("bclim") else None,
    )
