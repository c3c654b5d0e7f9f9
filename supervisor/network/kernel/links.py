"""Interfaces, addresses and routes of containers' networks.

A bridge and the hosts' ends of containers' interfaces are in the network namespace of the calling thread; the
container's own is given as a descriptor, and entered by a thread that ends. Everything blocks and can be repeated.
NetworkFailed tells what was to be done, and what the kernel says.

What the kernel is told goes in one go: to attach a container takes it a millisecond or two. To take an interface away takes
it ten times as long; it does so itself, a moment after a network namespace has ended.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.kernel import inside
from supervisor.logging import log
from supervisor.network.kernel import messages
from supervisor.network.kernel.netlink import Wire
from supervisor.network.kernel.refusing import told
from supervisor.network.plans import DEFAULT_METRIC, is_ipv6, labelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor.network.kernel.messages import Interface
    from supervisor.network.plans import Attachment, NetworkPlan

__all__ = [
    "attach",
    "attach_anew",
    "cleared",
    "detach",
    "detach_inside",
    "ensure_bridge",
    "ensure_gone",
    "has_addresses",
    "is_attached",
    "is_there",
    "mend",
    "remove_bridge",
]

_LOOPBACK = 1
_RP_FILTER, _ARP_NOTIFY, _ROUTE_LOCALNET = 8, 22, 26
_LOOSE = 2
_SYSTEM = "/proc/sys/net"


def ensure_bridge(network: NetworkPlan) -> None:
    """A network's bridge with its addresses, up, and what it needs of the host's settings. One that is unmanaged has to be
    there, and is left as it is."""
    name = network.interface
    with _wire(f"make the bridge '{name}' of network '{network.name}'") as wire:
        bridge = messages.find(wire, name)
        if bridge is not None and bridge.kind != "bridge":
            raise OSError(errno.EEXIST, "the host has another interface of that name")
        if network.is_unmanaged:
            if bridge is None:
                raise OSError(
                    errno.ENODEV, "the host does not have it, and does not want it made (mode=unmanaged)"
                )
            return
        if bridge is None:
            wire.tell(*_new_bridge(wire, network))
            bridge = _known(wire, name)
        elif network.vlan:
            wire.tell(messages.filtering(bridge.index))
        _set_of_host(network)
        wire.tell(
            # The packet filter lets only the host use it, to reach published ports at 127.0.0.1.
            messages.settings(bridge.index, {_ROUTE_LOCALNET: 1, _RP_FILTER: _LOOSE}),
            *(
                messages.address(bridge.index, subnet.gateway, subnet.prefix)
                for subnet in network.subnets
                if subnet.gateway
            ),
            messages.up(bridge.index),
        )


def _new_bridge(wire: Wire, network: NetworkPlan) -> list[messages.Message]:
    # With an address of its own: else it has the least of its ports', and what containers have learned of their gateway is
    # not true any more when one of them goes.
    mac = b"\x02" + hashlib.sha256(network.id.encode()).digest()[:5]
    way_out = None if network.mtu else messages.way_out(wire)
    mtu = way_out.mtu if way_out is not None else network.mtu
    vrf = _known(wire, network.vrf, "vrf").index if network.vrf else 0
    return messages.bridge(network.interface, mac, mtu, vrf, vlans=bool(network.vlan))


def _set_of_host(network: NetworkPlan) -> None:
    if not network.internal:
        _forward("ipv4/ip_forward")
    if any(is_ipv6(subnet.subnet) for subnet in network.subnets):
        _set(f"ipv6/conf/{network.interface}/disable_ipv6", "0")  # as a host may have it for new interfaces
        _set(f"ipv6/conf/{network.interface}/accept_dad", "0")
        _set(f"ipv6/conf/{network.interface}/accept_ra", "0")
        if not network.internal:
            _forward_ipv6()


def _forward_ipv6() -> None:
    """Without losing the host's own way out, if a router tells of it: who forwards does not listen to routers, unless he is
    told to."""
    if _get("ipv6/conf/all/forwarding") == "0":
        for name in os.listdir(f"{_SYSTEM}/ipv6/conf"):
            if name not in ("all", "default") and _get(f"ipv6/conf/{name}/accept_ra") == "1":
                _set(f"ipv6/conf/{name}/accept_ra", "2")
        _forward("ipv6/conf/all/forwarding")


def _forward(setting: str) -> None:
    _set(setting, "1")
    if _get(setting) == "0":
        log.warning("the host does not forward what containers send", setting=f"{_SYSTEM}/{setting}")


def is_there(network: NetworkPlan) -> bool:
    """Something has the name of the network's bridge, and is up."""
    with _wire(f"look for the bridge '{network.interface}' of network '{network.name}'") as wire:
        found = messages.find(wire, network.interface)
        return found is not None and found.is_up


def cleared(network: NetworkPlan, engine: str) -> list[Interface]:
    """What is on a network's bridge, after those hosts' ends were taken away that the engine has left of this network:
    none of its containers is on it."""
    with _wire(f"look at the bridge '{network.interface}'") as wire:
        bridge = messages.find(wire, network.interface)
        found = [] if bridge is None else list(messages.ports_of(wire, bridge.index))
        left = [each for each in found if labelled(each.alias) == (engine, network.id)]
        wire.tell(*(messages.remove(each.index) for each in left))
        return [each for each in found if each not in left]


def remove_bridge(network: NetworkPlan) -> None:
    """Unless something is on it, as another engine's containers may be. It need not be there; what else has its name stays."""
    if network.is_unmanaged:
        return
    with _wire(f"remove the bridge '{network.interface}' of network '{network.name}'") as wire:
        found = messages.find(wire, network.interface)
        if found is not None and found.kind == "bridge" and not list(messages.ports_of(wire, found.index)):
            wire.tell(messages.remove(found.index))


def ensure_gone(attachments: Iterable[Attachment]) -> None:
    """The hosts' ends that the kernel has not taken away by now."""
    with _wire("remove the interfaces of containers that have ended") as wire:
        found = [own for each in attachments if (own := _own(wire, each)) is not None]
        wire.tell(*(messages.remove(each.index) for each in found))


def attach(netns: int, network: NetworkPlan, attachment: Attachment, *, hairpin: bool = False) -> None:
    """Give the container in a network namespace its interface on a network.

    `hairpin`: what it sends to a port of the host may lead back to it. Where the kernel has the packet filter look at what a
    bridge forwards (br_netfilter), the bridge would drop that otherwise.
    """
    doing = f"connect a container to network '{network.name}'"
    try:
        with _wire(doing) as wire:
            if network.driver == "bridge":
                _make_pair(wire, netns, network, attachment, hairpin=hairpin)
            else:
                _make_below(wire, netns, network, attachment)
        inside.joined(netns, "network", lambda: _configure(network, attachment, doing))
    except BaseException:
        with suppress(NetworkFailed):
            detach(attachment)
        raise


def mend(netns: int, network: NetworkPlan, attachment: Attachment, *, hairpin: bool = False) -> None:
    """What is missing of what `attach` has made; what is there is left as it is."""
    if network.driver == "bridge" and not _is_on_bridge(network, attachment):
        attach(netns, network, attachment, hairpin=hairpin)
        return
    doing = f"connect a container to network '{network.name}'"
    try:
        inside.joined(netns, "network", lambda: _configure(network, attachment, doing))
    except NetworkFailed:
        attach(netns, network, attachment, hairpin=hairpin)


def is_attached(netns: int, network: NetworkPlan, attachment: Attachment) -> bool:
    """Whether a container has its interface on a network, whatever may be missing of addresses and routes."""
    if network.driver == "bridge":
        return _is_on_bridge(network, attachment)

    def has() -> bool:
        with _wire(f"look at the interfaces of a container on network '{network.name}'") as wire:
            return messages.find(wire, attachment.interface) is not None

    return inside.joined(netns, "network", has)


def attach_anew(netns: int, network: NetworkPlan, attachment: Attachment, *, hairpin: bool = False) -> None:
    """Where its bridge is not the one any more that it is on."""
    detach_inside(netns, attachment)
    attach(netns, network, attachment, hairpin=hairpin)


def _is_on_bridge(network: NetworkPlan, attachment: Attachment) -> bool:
    """Without asking for all that are on it."""
    with _wire(f"look at the bridge '{network.interface}'") as wire:
        bridge, end = (messages.find(wire, each) for each in (network.interface, attachment.host_interface))
        if bridge is None or end is None:
            return False
        return end.master == bridge.index and end.alias == attachment.label


def _make_pair(
    wire: Wire, netns: int, network: NetworkPlan, attachment: Attachment, *, hairpin: bool
) -> None:
    name = attachment.host_interface
    there = messages.find(wire, network.interface)
    if there is None or not there.is_up:
        ensure_bridge(
            network
        )  # another engine has found nobody on it, a moment ago; or somebody has broken it
    bridge = _known(wire, network.interface, "bridge")
    pair = messages.pair(name, network.mtu or bridge.mtu, netns, attachment.interface, attachment.mac)
    try:
        wire.tell(pair)
    except FileExistsError:
        former = messages.find(wire, name)
        if former is not None and former.alias != attachment.label:
            raise OSError(errno.EEXIST, f"the host has another interface '{name}'") from None
        # An earlier run's, which the kernel may just be taking away; or its name in the container is taken, which fails again.
        wire.tell(*([messages.remove(former.index)] if former is not None else []), pair)
    wire.tell(*messages.port(name, bridge.index, attachment.label, hairpin=hairpin))
    if network.vlan:
        wire.tell(*messages.vlan(_known(wire, name).index, network.vlan))


def _make_below(wire: Wire, netns: int, network: NetworkPlan, attachment: Attachment) -> None:
    below = messages.find(wire, network.interface) if network.interface else messages.way_out(wire)
    if below is None:
        lacks = f"interface '{network.interface}'" if network.interface else "default route to go by"
        raise OSError(errno.ENODEV, f"the host has no {lacks}")
    if network.driver == "macvlan":
        message = messages.macvlan(
            below.index,
            network.mode,
            network.broadcast_limit,
            network.mtu,
            netns,
            attachment.interface,
            attachment.mac,
        )
    else:
        message = messages.ipvlan(below.index, network.mode, network.mtu, netns, attachment.interface)
    wire.tell(message)


def _configure(network: NetworkPlan, attachment: Attachment, doing: str) -> None:
    """In the container's namespace."""
    name, metric = attachment.interface, network.metric or DEFAULT_METRIC
    with _wire(doing) as wire:
        own = _known(wire, name)
        # A lease's address, and what needs it, whoever has the lease puts there.
        addresses = [] if network.leased else attachment.addresses
        families = {is_ipv6(each.address) for each in addresses}
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        if True in families:
            _set(f"ipv6/conf/{name}/disable_ipv6", "0")
            _set(f"ipv6/conf/{name}/accept_dad", "0")
        wire.tell(
            messages.up(_LOOPBACK),
            # The others learn at once who has the addresses now.
            messages.settings(own.index, {_ARP_NOTIFY: 1, _RP_FILTER: _LOOSE}),
            *(messages.address(own.index, each.address, each.prefix) for each in addresses),
            messages.up(own.index),
            *(
                messages.route(own.index, "", gateway, metric)
                for gateway in network.default_routes
                if is_ipv6(gateway) in families
            ),
            *(
                messages.route(own.index, each.destination, each.gateway, each.metric or DEFAULT_METRIC)
                for each in network.routes
                if not network.leased
            ),
        )


def has_addresses(netns: int, attachment: Attachment) -> bool:
    """Whether the container's interface has those that are known of it, and there are some."""

    def work() -> bool:
        with _wire(f"look at a container's interface on network '{attachment.network}'") as wire:
            own = messages.find(wire, attachment.interface)
            there = {(index, address) for index, address, _ in messages.addresses(wire)}
            wanted = {(own.index if own is not None else 0, each.address) for each in attachment.addresses}
            return bool(wanted) and wanted <= there

    return inside.joined(netns, "network", work)


def detach(attachment: Attachment) -> None:
    """Take the host's end away, and the container's with it. It need not be there; what else has its name stays."""
    with _wire(f"disconnect a container from network '{attachment.network}'") as wire:
        if (found := _own(wire, attachment)) is not None:
            wire.tell(messages.remove(found.index))


def _own(wire: Wire, attachment: Attachment) -> Interface | None:
    """The host's end of a container's interface, if it is there."""
    if not attachment.host_interface:
        return None
    found = messages.find(wire, attachment.host_interface)
    return found if found is not None and found.alias == attachment.label else None


def detach_inside(netns: int, attachment: Attachment) -> None:
    """Take the container's interface away, whatever it is."""

    def work() -> None:
        with _wire(f"disconnect a container from network '{attachment.network}'") as wire:
            if (found := messages.find(wire, attachment.interface)) is not None:
                wire.tell(messages.remove(found.index))

    inside.joined(netns, "network", work)


def _known(wire: Wire, name: str, kind: str = "") -> Interface:
    found = messages.find(wire, name)
    if found is None or (kind and found.kind != kind):
        raise OSError(errno.ENODEV, f"there is no {kind or 'interface'} '{name}'")
    return found


@contextmanager
def _wire(doing: str) -> Iterator[Wire]:
    with told(doing), Wire() as wire:
        yield wire


def _get(name: str) -> str:
    """A sysctl; empty: the host does not have it."""
    try:
        with open(f"{_SYSTEM}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _set(name: str, value: str) -> None:
    """Not every host lets it be written; then the network works as far as it goes."""
    if _get(name) != value:
        with suppress(OSError), open(f"{_SYSTEM}/{name}", "w", encoding="ascii") as file:
            file.write(value)
