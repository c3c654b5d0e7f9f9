"""What the packet filter does for containers: one nftables table of the engine's own.

The rules are made once; a network is elements of sets, and a published port one element of a map, so that a thousand of
them cost a packet what one does. No other table is looked at or changed. Whatever somebody else has done to the rules, or
flushed them, `rebuild` makes them anew in one transaction, and adds the elements that are missing.

Everything blocks, acts in the network namespace of the calling thread, and can be repeated. NetworkFailed, NotSupported.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.network.kernel import connections, elements, nft
from supervisor.network.kernel.elements import Element, Set
from supervisor.network.kernel.refusing import told
from supervisor.network.plans import DNS_PORT, EVERYWHERE, first_addresses, is_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from supervisor.network.plans import Attachment, NetworkPlan, Port

__all__ = ["add_network", "is_there", "publish", "rebuild", "remove_network", "unpublish"]

_TABLE = "pyman"
_INET = f"inet {_TABLE}"
_DOING = "set up the packet filter"
_SERVICE = ("inet_proto", "inet_service")
_SETS = {
    "subnets4": Set(("ipv4_addr",), interval=True),
    "subnets6": Set(("ipv6_addr",), interval=True),
    "bridges": Set(("ifname",)),
    "internal": Set(("ifname",)),
    "isolated": Set(("ifname",)),
    "strict": Set(("ifname",)),
    "same": Set(("ifname", "ifname")),
    "publish4": Set(_SERVICE, ("ipv4_addr", "inet_service")),
    "publish6": Set(_SERVICE, ("ipv6_addr", "inet_service")),
    "publish4at": Set(("ipv4_addr", *_SERVICE), ("ipv4_addr", "inet_service")),
    "publish6at": Set(("ipv6_addr", *_SERVICE), ("ipv6_addr", "inet_service")),
}
_OF_BRIDGES = ("bridges", "internal", "isolated", "strict", "same")
_CHAINS = {
    # A bridge may send to 127.0.0.0/8 (route_localnet), so that the host reaches published ports there; from the
    # containers' side nobody may.
    "guard": (
        "type filter hook prerouting priority raw; policy accept;",
        "ip daddr 127.0.0.0/8 iifname @bridges drop",
    ),
    "publish": (
        "",
        "dnat ip to ip daddr . meta l4proto . th dport map @publish4at",
        "dnat ip to meta l4proto . th dport map @publish4",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6at",
        "dnat ip6 to meta l4proto . th dport map @publish6",
    ),
    "prerouting": (
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local jump publish",
    ),
    # The kernel lets nothing from ::1 out of the host, so who tries is refused at once and tries 127.0.0.1.
    "output": (
        "type nat hook output priority -100; policy accept;",
        "ip6 daddr ::1 accept",
        "fib daddr type local jump publish",
    ),
    # What comes back through the host has to have gone through it; between networks the true source address stays.
    "postrouting": (
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
        "ct status dnat ip saddr @subnets4 ip daddr @subnets4 masquerade",
        "ct status dnat ip6 saddr @subnets6 ip6 daddr @subnets6 masquerade",
        "ip saddr @subnets4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade",
        "ip6 saddr @subnets6 oifname != @bridges ip6 daddr != ff00::/8 masquerade",
    ),
    # First what nearly every packet is. Ports that are published are so for everybody. What belongs to no connection would
    # go out with the container's address.
    "forward": (
        "type filter hook forward priority filter; policy accept;",
        "ct state established,related accept",
        "iifname . oifname @same accept",
        "iifname @internal drop",
        "oifname @internal drop",
        "iifname @bridges ct state invalid drop",
        "ct status dnat accept",
        "iifname @strict oifname @bridges drop",
        "iifname @bridges oifname @strict drop",
        "iifname @isolated oifname @isolated drop",
    ),
}


def _text() -> str:
    sets = [
        f"{'map' if known.value else 'set'} {name} {{ type {' . '.join(known.key)}"
        f"{' : ' if known.value else ''}{' . '.join(known.value)};{' flags interval;' if known.interval else ''} }}"
        for name, known in _SETS.items()
    ]
    chains = [f"chain {name} {{\n{chr(10).join(lines)}\n}}" for name, lines in _CHAINS.items()]
    return "\n".join([*sets, *chains])


_RULES = _text()
_VERSION = f"rules-{hashlib.sha256(_RULES.encode()).hexdigest()[:8]}"
"""A chain without rules, whose name tells by which rules the table was made."""
_WHOLE = f"table {_INET} {{\n{_RULES}\nchain {_VERSION} {{ }}\n}}"


def is_there() -> bool:
    """The table, that is, with the rules that this version of the engine makes."""
    with told(_DOING):
        count = sum(len(lines) - 1 for lines in _CHAINS.values())
        return elements.chain_is_there(_TABLE, _VERSION) and elements.rules(_TABLE) == count


def rebuild(networks: Iterable[NetworkPlan], published: Iterable[tuple[Port, Sequence[Attachment]]]) -> None:
    """The table with all of its rules, without an instant in which they are not there. What is in its sets stays: other
    engines of the host have theirs there, too. Unless somebody has made other sets of these names."""
    with told(_DOING):
        # Asked of the kernel: what nftables says of it is different for each of them, and of some it dies.
        has_others = elements.has_other_sets(_TABLE, _SETS)
    if has_others:
        nft.run("\n".join([f"table {_INET}", f"delete table {_INET}", _WHOLE]))
    else:
        try:
            nft.run("\n".join([_WHOLE, f"flush table {_INET}", _WHOLE]))
        except NetworkFailed:  # somebody may have made other chains of these names
            nft.run(_chains_anew())
    networks = list(networks)
    found = [each for network in networks for each in _of_network(network)]
    ports = [each for port, attachments in published for each in _of_port(port, attachments)]
    with told(_DOING):
        elements.remove(_TABLE, _SETS, _others_of({each.interface for each in networks}, found))
        elements.add(_TABLE, _SETS, [*found, *ports])


def _chains_anew() -> str:
    names = [*_CHAINS, _VERSION]
    there = [f"add chain {_INET} {name}" for name in names]
    gone = [f"delete chain {_INET} {name}" for name in names]
    return "\n".join([f"add table {_INET}", *there, f"flush table {_INET}", *gone, _WHOLE])


def add_network(network: NetworkPlan, others: Iterable[NetworkPlan] = ()) -> None:
    """A network with a bridge that containers are about to be on. What another network had on the same bridge does not hold
    for this one: `others` are those that have."""
    found = _of_network(network)
    beside = [each for other in others if other.interface == network.interface for each in _of_network(other)]
    with told(_DOING):
        elements.remove(_TABLE, _SETS, _others_of([network.interface], [*found, *beside]))
        elements.add(_TABLE, _SETS, found)


def remove_network(network: NetworkPlan, others: Iterable[NetworkPlan] = ()) -> None:
    """Its elements, but not those that `others` have as well; those that are not there are not missed."""
    kept = {each for other in others for each in _of_network(other)}
    with told(_DOING):
        elements.remove(_TABLE, _SETS, [each for each in _of_network(network) if each not in kept])


def _others_of(bridges: Iterable[str], wanted: Sequence[Element]) -> list[Element]:
    """All that can be said of bridges, but what is wanted."""
    known = [Element(name, (bridge,) * len(_SETS[name].key)) for bridge in bridges for name in _OF_BRIDGES]
    return [each for each in known if each not in wanted]


def publish(ports: Iterable[Port], attachments: Sequence[Attachment]) -> None:
    """Lead ports of the host into a container: to its first address of either kind on a bridge, if it has one. A container
    that has gone, and of which nobody could tell the packet filter, has them no longer."""
    ports = list(ports)
    with told(_DOING):
        elements.add(_TABLE, _SETS, [each for port in ports for each in _of_port(port, attachments)])
        targets = frozenset(first_addresses(attachments).values())
        _forget(ports, lambda address: address not in targets)


def unpublish(
    ports: Iterable[Port], attachments: Sequence[Attachment], others: frozenset[str] = frozenset()
) -> None:
    """The opposite; what is not there is not missed, and what leads to another address stays. `others`: addresses that are
    somebody else's by now."""
    ports = list(ports)
    going = [each for port in ports for each in _of_port(port, attachments) if each.value[0] not in others]
    with told(_DOING):
        elements.remove(_TABLE, _SETS, going)
        _forget(ports, (frozenset(first_addresses(attachments).values()) - others).__contains__)


def _forget(ports: Iterable[Port], wrong: Callable[[str], bool]) -> None:
    """Those who send to them, and are led to an address that is a wrong one."""
    udp = {
        (port.host_port, "" if port.host_ip in EVERYWHERE else port.host_ip)
        for port in ports
        if port.protocol == "udp"
    }
    if udp:
        connections.forget(udp, wrong)


def _of_network(network: NetworkPlan) -> list[Element]:
    name = network.interface
    if network.is_unmanaged:
        return []
    found = [Element("bridges", (name,)), Element("same", (name, name))]
    if network.internal:
        found.append(Element("internal", (name,)))
    else:
        found += [
            Element("subnets6" if is_ipv6(each.subnet) else "subnets4", (each.subnet,))
            for each in network.subnets
        ]
    if network.isolate:
        found.append(Element("strict" if network.isolate == "strict" else "isolated", (name,)))
    if network.dns_port:
        found += [
            Element(
                "publish6at" if is_ipv6(each.gateway) else "publish4at",
                (each.gateway, protocol, str(DNS_PORT)),
                (each.gateway, str(network.dns_port)),
            )
            for each in network.subnets
            for protocol in ("tcp", "udp")
            if each.gateway
        ]
    return found


def _of_port(port: Port, attachments: Sequence[Attachment]) -> list[Element]:
    found, firsts = [], first_addresses(attachments)
    for ipv6 in (False, True):
        if port.host_ip and is_ipv6(port.host_ip) != ipv6:
            continue
        if (target := firsts.get(ipv6)) is None:
            continue
        family = "6" if ipv6 else "4"
        service = (port.protocol, str(port.host_port))
        value = (target, str(port.container_port))
        if port.host_ip in EVERYWHERE:
            found.append(Element(f"publish{family}", service, value))
        else:
            found.append(Element(f"publish{family}at", (port.host_ip, *service), value))
    return found
