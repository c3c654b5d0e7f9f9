"""What the packet filter does for containers: one nftables table of the engine's own.

The rules are made once; a network is elements of sets, and a published port one element of a map, so that a thousand of
them cost a packet what one does. No other table is looked at or changed. Whatever somebody else has done to the table, or
flushed it, `rebuild` makes it anew in one transaction.

Everything blocks, acts in the network namespace of the calling thread, and can be repeated. NetworkFailed, NotSupported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.network import nft
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.network.plans import Attachment, NetworkPlan, Port

__all__ = ["add_network", "is_there", "publish", "rebuild", "remove_network", "unpublish"]

TABLE = "inet pyman"

_RULES = """
set subnets4 { type ipv4_addr; flags interval; }
set subnets6 { type ipv6_addr; flags interval; }
set bridges { type ifname; }
set internal { type ifname; }
set isolated { type ifname; }
set strict { type ifname; }
set same { type ifname . ifname; }
map publish4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
map publish6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map publish4at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map publish6at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
}
chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @publish4at
    dnat ip to meta l4proto . th dport map @publish4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6at
    dnat ip6 to meta l4proto . th dport map @publish6
}
chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
}
chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
}
chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
    ip6 saddr ::1 oifname @bridges masquerade
    ct status dnat ip saddr @subnets4 ip daddr @subnets4 masquerade
    ct status dnat ip6 saddr @subnets6 ip6 daddr @subnets6 masquerade
    ip saddr @subnets4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade
    ip6 saddr @subnets6 oifname != @bridges ip6 daddr != ff00::/8 masquerade
}
chain forward {
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same accept
    iifname @internal drop
    oifname @internal drop
    ct state established,related accept
    iifname @strict oifname @bridges drop
    iifname @bridges oifname @strict drop
    iifname @isolated oifname @isolated drop
}
"""
"""`guard`: a bridge may send to 127.0.0.0/8 (route_localnet), so that the host reaches published ports there; from the
containers' side nobody may. `postrouting`: what comes back through the host has to have gone through it; between networks
the true source address stays."""


def is_there() -> bool:
    """The table, that is, and all of its chains."""
    try:
        told = nft.run(f"list table {TABLE}")
    except NetworkFailed:
        return False
    return all(f"chain {name} {{" in told for name in ("guard", "publish", "postrouting", "forward"))


def rebuild(networks: Iterable[NetworkPlan], published: Iterable[tuple[Port, Sequence[Attachment]]]) -> None:
    """The table, from nothing, without an instant in which it is not there."""
    lines = [f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{{_RULES}}}"]
    for network in networks:
        lines += _changed("add", _of_network(network))
    for port, attachments in published:
        lines += _changed("add", _of_port(port, attachments))
    nft.run("\n".join(lines))


def add_network(network: NetworkPlan) -> None:
    """A network with a bridge that containers are about to be on."""
    nft.run("\n".join(_changed("add", _of_network(network))))


def remove_network(network: NetworkPlan) -> None:
    """Its elements; those that are not there are not missed."""
    _remove(_of_network(network))


def publish(ports: Iterable[Port], attachments: Sequence[Attachment]) -> None:
    """Lead ports of the host into a container: to its first address of either kind."""
    elements = [element for port in ports for element in _of_port(port, attachments)]
    if not elements:
        return
    commands = "\n".join(_changed("add", elements))
    try:
        nft.run(commands)
    except NetworkFailed:
        # The port of a container that has gone, of which nobody could tell the packet filter.
        _remove([(name, key, "") for name, key, _ in elements])
        nft.run(commands)


def unpublish(ports: Iterable[Port], attachments: Sequence[Attachment]) -> None:
    """The opposite; what is not there is not missed."""
    _remove([(name, key, "") for port in ports for name, key, _ in _of_port(port, attachments)])


Element = tuple[str, str, str]
"""Set or map, key, value."""


def _changed(verb: str, elements: Iterable[Element]) -> list[str]:
    return [
        f"{verb} element {TABLE} {name} {{ {key}{f' : {value}' if value else ''} }}"
        for name, key, value in elements
    ]


def _remove(elements: list[Element]) -> None:
    if not elements:
        return
    try:
        nft.run("\n".join(_changed("delete", elements)))
    except NetworkFailed:
        # One that is not there keeps the others from going.
        if len(elements) > 1:
            for element in elements:
                _remove([element])


def _of_network(network: NetworkPlan) -> list[Element]:
    name = f'"{network.interface}"'
    found = [("bridges", name, ""), ("same", f"{name} . {name}", "")]
    if network.internal:
        found.append(("internal", name, ""))
    else:
        found += [
            ("subnets6" if is_ipv6(each.subnet) else "subnets4", each.subnet, "") for each in network.subnets
        ]
    if network.isolate:
        found.append(("strict" if network.isolate == "strict" else "isolated", name, ""))
    return found


def _of_port(port: Port, attachments: Sequence[Attachment]) -> list[Element]:
    found: list[Element] = []
    for ipv6 in (False, True):
        if port.host_ip and is_ipv6(port.host_ip) != ipv6 and port.host_ip != "::":
            continue
        target = _first(attachments, ipv6=ipv6)
        if not target:
            continue
        service = f"{port.protocol} . {port.host_port}"
        value = f"{target} . {port.container_port}"
        family = "6" if ipv6 else "4"
        if port.host_ip in ("", "0.0.0.0", "::"):  # noqa: S104 - what users write
            found.append((f"publish{family}", service, value))
        else:
            found.append((f"publish{family}at", f"{port.host_ip} . {service}", value))
    return found


def _first(attachments: Sequence[Attachment], *, ipv6: bool) -> str:
    for attachment in attachments:
        for address in attachment.addresses:
            if attachment.driver == "bridge" and is_ipv6(address.address) == ipv6:
                return address.address
    return ""
