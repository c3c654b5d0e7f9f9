"""Interfaces, addresses and routes of containers' networks, by netlink.

A bridge and the hosts' ends of containers' interfaces are in the network namespace of the calling thread; the
container's own is given as a descriptor, and entered by a thread that ends. Everything blocks and can be repeated.
NetworkFailed tells what was to be done, and what the kernel says.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyman.errors import NetworkFailed
from supervisor.kernel import inside
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.plans import Attachment, NetworkPlan

__all__ = ["attach", "detach", "detach_inside", "ensure_bridge", "parts_of", "remove_bridge"]

_NODAD = 0x02
"""IFA_F_NODAD: an address of IPv6 can be used at once; the engine knows that nobody else has it."""
_PVID_UNTAGGED = 0x02 | 0x04
_DEFAULT_METRIC = 100
_MACVLAN_MODES = {"": "bridge"}
_IPVLAN_MODES = {"": 0, "l2": 0, "l3": 1, "l3s": 2}
_SYSTEM = "/proc/sys/net"


def ensure_bridge(network: NetworkPlan) -> None:
    """A network's bridge with its addresses, up, and what it needs of the host's settings."""
    name = network.interface
    with _netlink(f"make the bridge '{name}' of network '{network.name}'") as netlink:
        index = _index(netlink, name)
        if index is None:
            more: dict[str, Any] = {"mtu": network.mtu} if network.mtu else {}
            if network.vlan:
                more["br_vlan_filtering"] = 1
            with _unless(errno.EEXIST):
                netlink.link("add", ifname=name, kind="bridge", **more)
            index = _index(netlink, name)
            _set_of(name, network)
        if not network.internal:
            _set("ipv4/ip_forward", "1")
        for subnet in network.subnets:
            if subnet.gateway:
                with _unless(errno.EEXIST):
                    netlink.addr(
                        "add",
                        index=index,
                        address=subnet.gateway,
                        prefixlen=subnet.prefix,
                        **({"flags": _NODAD} if is_ipv6(subnet.gateway) else {}),
                    )
        netlink.link("set", index=index, state="up")


def _set_of(name: str, network: NetworkPlan) -> None:
    if any(is_ipv6(subnet.subnet) for subnet in network.subnets):
        _set(f"ipv6/conf/{name}/accept_dad", "0")
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        if not network.internal:
            _set("ipv6/conf/all/forwarding", "1")
    _set(f"ipv4/conf/{name}/route_localnet", "1")  # the packet filter lets only the host use it
    _set(f"ipv4/conf/{name}/rp_filter", "2")


def _set(name: str, value: str) -> None:
    """A sysctl, where it is another one. Not every host lets it be written; then the network works as far as it goes."""
    path = f"{_SYSTEM}/{name}"
    with suppress(OSError), open(path, "r+", encoding="ascii") as file:
        if file.read().strip() != value:
            file.seek(0)
            file.write(value)


def parts_of(network: NetworkPlan) -> list[str]:
    """The interfaces that are on a network's bridge."""
    with _netlink(f"look at the bridge '{network.interface}'") as netlink:
        index = _index(netlink, network.interface)
        if index is None:
            return []
        return [link.get("ifname") for link in netlink.get_links() if link.get("master") == index]


def remove_bridge(network: NetworkPlan) -> None:
    """It need not be there."""
    with _netlink(f"remove the bridge '{network.interface}' of network '{network.name}'") as netlink:
        _delete(netlink, network.interface)


def attach(netns: int, network: NetworkPlan, attachment: Attachment, *, hairpin: bool = False) -> str:
    """Give the container in a network namespace its interface on a network: the MAC address that it has.

    `hairpin`: what it sends to a port of the host may lead back to it. Where the kernel has the packet filter look at what a
    bridge forwards (br_netfilter), the bridge would drop that otherwise.
    """
    doing = f"connect a container to network '{network.name}'"
    try:
        if network.driver == "bridge":
            _make_pair(netns, network, attachment, doing, hairpin=hairpin)
        else:
            _make_below(netns, network, attachment, doing)
        return inside.joined(netns, "network", lambda: _configure(network, attachment, doing))
    except BaseException:
        if attachment.host_interface:
            with suppress(NetworkFailed):
                detach(attachment)
        raise


def _make_pair(
    netns: int, network: NetworkPlan, attachment: Attachment, doing: str, *, hairpin: bool
) -> None:
    mtu: dict[str, Any] = {"mtu": network.mtu} if network.mtu else {}
    peer = {"ifname": attachment.interface, "net_ns_fd": netns, **mtu}
    if attachment.mac:
        peer["address"] = attachment.mac
    with _netlink(doing) as netlink:
        _delete(netlink, attachment.host_interface)  # an earlier attempt's
        netlink.link("add", ifname=attachment.host_interface, kind="veth", peer=peer, **mtu)
        index = _index(netlink, attachment.host_interface)
        bridge = _index(netlink, network.interface)
        _set(f"ipv6/conf/{attachment.host_interface}/accept_dad", "0")
        netlink.link("set", index=index, master=bridge, state="up")
        if hairpin:
            netlink.brport("set", index=index, mode=1)
        if network.vlan:
            information = {"vid": network.vlan, "flags": _PVID_UNTAGGED}
            netlink.vlan_filter("del", index=index, vlan_info={"vid": 1, "flags": 0})
            netlink.vlan_filter("add", index=index, vlan_info=information)


def _make_below(netns: int, network: NetworkPlan, attachment: Attachment, doing: str) -> None:
    with _netlink(doing) as netlink:
        above = _index(netlink, network.interface)
        if above is None:
            raise NetworkFailed(
                f"cannot {doing}: the host has no interface '{network.interface}'", subject=network.interface
            )
        wanted: dict[str, Any] = {
            "ifname": attachment.interface,
            "kind": network.driver,
            "link": above,
            "net_ns_fd": netns,
        }
        if network.driver == "macvlan":
            wanted["macvlan_mode"] = _MACVLAN_MODES.get(network.mode, network.mode)
        else:
            wanted["ipvlan_mode"] = _IPVLAN_MODES[network.mode]
        if attachment.mac:
            wanted["address"] = attachment.mac
        if network.mtu:
            wanted["mtu"] = network.mtu
        netlink.link("add", **wanted)


def _configure(network: NetworkPlan, attachment: Attachment, doing: str) -> str:
    """In the container's namespace."""
    with _netlink(doing) as netlink:
        netlink.link("set", index=1, state="up")
        index = _index(netlink, attachment.interface)
        if index is None:
            raise NetworkFailed(f"cannot {doing}: it has no interface '{attachment.interface}'")
        _set(f"ipv6/conf/{attachment.interface}/accept_ra", "0")
        for address in attachment.addresses:
            flags = {"flags": _NODAD} if is_ipv6(address.address) else {}
            with _unless(errno.EEXIST):
                netlink.addr("add", index=index, address=address.address, prefixlen=address.prefix, **flags)
        netlink.link("set", index=index, state="up")
        for gateway in network.default_routes:
            _route(netlink, "default", gateway, index, network.metric or _DEFAULT_METRIC)
        for route in network.routes:
            _route(netlink, route.destination, route.gateway, index, route.metric or _DEFAULT_METRIC)
        (link,) = netlink.get_links(index)
        return str(link.get("address"))


def _route(netlink: IPRoute, destination: str, gateway: str, index: int, metric: int) -> None:
    family = socket.AF_INET6 if is_ipv6(gateway) else socket.AF_INET
    with _unless(errno.EEXIST):
        netlink.route("add", dst=destination, gateway=gateway, oif=index, priority=metric, family=family)


def detach(attachment: Attachment) -> None:
    """Take the host's end away, and the container's with it. It need not be there."""
    with _netlink(f"disconnect a container from network '{attachment.network}'") as netlink:
        _delete(netlink, attachment.host_interface)


def detach_inside(netns: int, attachment: Attachment) -> None:
    """Take the container's interface away, whatever it is."""

    def work() -> None:
        with _netlink(f"disconnect a container from network '{attachment.network}'") as netlink:
            _delete(netlink, attachment.interface)

    inside.joined(netns, "network", work)


@contextmanager
def _netlink(doing: str) -> Iterator[IPRoute]:
    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        reason = os.strerror(error.code).lower() if error.code > 0 else str(error)
        raise NetworkFailed(f"cannot {doing}: {reason}") from error
    except OSError as error:
        raise NetworkFailed(f"cannot {doing}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _unless(code: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != code:
            raise


def _index(netlink: IPRoute, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _delete(netlink: IPRoute, name: str) -> None:
    index = _index(netlink, name)
    if index is not None:
        with _unless(errno.ENODEV):
            netlink.link("del", index=index)
