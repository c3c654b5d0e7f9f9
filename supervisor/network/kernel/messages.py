"""What the kernel is told and says of interfaces, addresses and routes, as netlink's messages have it."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from supervisor.network.kernel import netlink
from supervisor.network.kernel.netlink import ACK, CREATE, EXCLUSIVE, Message, attribute, number, text
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.kernel.netlink import Wire

__all__ = [
    "Destination",
    "Interface",
    "Message",
    "address",
    "addresses",
    "bridge",
    "everything_local",
    "filtering",
    "find",
    "ipvlan",
    "macvlan",
    "marked",
    "pair",
    "port",
    "ports_of",
    "remove",
    "route",
    "routes",
    "settings",
    "up",
    "vlan",
    "way_out",
]

_LINK = struct.Struct("=BxHiII")
"""Family, kind, index, flags, mask of flags."""
_ADDRESS = struct.Struct("=BBBBI")
"""Family, prefix, flags, scope, index."""
_ROUTE = struct.Struct("=BBBBBBBBI")
"""Family, lengths of destination and source, service, table, origin, scope, kind, flags."""
_NEW_LINK, _DELETE_LINK, _GET_LINK, _SET_LINK = 16, 17, 18, 19
_NEW_ADDRESS, _GET_ADDRESS = 20, 22
_NEW_ROUTE, _GET_ROUTE = 24, 26
_UP = 1
_MAC, _NAME, _MTU, _BELOW, _MASTER, _ALIAS = 1, 3, 4, 5, 10, 20
_INFORMATION, _FAMILIES, _NETNS = 18, 26, 28
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5
_PEER = 1
_VLAN_FILTERING = 7
_HAIRPIN = 4
_MODE = 1
_BROADCAST_LIMIT = 9
_MACVLAN_MODES = {"private": 1, "vepa": 2, "": 4, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"": 0, "l2": 0, "l3": 1, "l3s": 2}
_IPV4_SETTINGS, _IPV6_GENERATION, _GENERATE_NONE = 1, 8, 1
_VLAN = 2
_PVID_UNTAGGED = 0x02 | 0x04
_A_ADDRESS, _A_LOCAL = 1, 2
_NO_DAD = 0x02
_R_DESTINATION, _R_INTERFACE, _R_GATEWAY, _R_METRIC = 1, 4, 5, 6
_MAIN_TABLE, _STATIC, _UNICAST, _LOCAL, _SCOPE_HOST = 254, 4, 1, 2, 254
_RULE = struct.Struct("=BBBBBxxBI")
"""Family, lengths of destination and source, service, table, action, flags."""
_NEW_RULE, _TO_TABLE = 32, 1
_RULE_PRIORITY, _RULE_MARK, _TABLE = 6, 10, 15


class Interface(msgspec.Struct, frozen=True):
    index: int = 0
    name: str = ""
    kind: str = ""
    mtu: int = 0
    master: int = 0
    is_up: bool = False
    alias: str = ""


# ---------------------------------------------------------------------- interfaces


def bridge(name: str, mac: bytes, mtu: int, master: int, *, vlans: bool) -> list[Message]:
    """MTU and master: 0 for none. It need not be new."""
    parts = [text(_NAME, name), attribute(_MAC, mac)]
    if master:
        parts.append(number(_MASTER, master))
    data = attribute(_VLAN_FILTERING, b"\x01") if vlans else b""
    made = [_new(*parts, _information("bridge", data), but=(errno.EEXIST,))]
    if mtu:
        # One that it is made with is the kernel's to change: to 1500 as soon as nothing is on the bridge.
        made.append(_set(0, text(_NAME, name), _mtu(mtu)))
    return made


def pair(name: str, mtu: int, netns: int, interface: str, mac: str) -> Message:
    """A name here, and the name and the address of the other end in a container."""
    peer = _LINK.pack(0, 0, 0, 0, 0) + _inside(netns, interface, mac) + _mtu(mtu)
    return _new(text(_NAME, name), _mtu(mtu), _information("veth", attribute(_PEER, peer)))


def macvlan(
    below: int, mode: str, broadcast_limit: int | None, mtu: int, netns: int, interface: str, mac: str
) -> Message:
    """In a container, on an interface of this namespace."""
    data = number(_MODE, _MACVLAN_MODES[mode])
    if broadcast_limit is not None:
        data += attribute(_BROADCAST_LIMIT, struct.pack("=i", broadcast_limit))
    return _new(
        _inside(netns, interface, mac), number(_BELOW, below), _mtu(mtu), _information("macvlan", data)
    )


def ipvlan(below: int, mode: str, mtu: int, netns: int, interface: str) -> Message:
    """Like `macvlan`; the address of the hardware is the other interface's."""
    data = attribute(_MODE, struct.pack("=H", _IPVLAN_MODES[mode]))
    return _new(_inside(netns, interface, ""), number(_BELOW, below), _mtu(mtu), _information("ipvlan", data))


def _inside(netns: int, interface: str, mac: str) -> bytes:
    hardware = attribute(_MAC, bytes.fromhex(mac.replace(":", ""))) if mac else b""
    return text(_NAME, interface) + number(_NETNS, netns) + hardware


def port(name: str, master: int, alias: str, *, hairpin: bool) -> list[Message]:
    """Up, on a bridge, where it has no use for an address of IPv6. `hairpin`: what comes from it may go back to it."""
    none = attribute(socket.AF_INET6, attribute(_IPV6_GENERATION, bytes([_GENERATE_NONE])))
    messages = [
        _set(0, text(_NAME, name), text(_ALIAS, alias), attribute(_FAMILIES, none)),
        _set(0, text(_NAME, name), number(_MASTER, master), up=True),
    ]
    if hairpin:
        data = attribute(_PORT_DATA, attribute(_HAIRPIN, b"\x01"))
        parts = text(_NAME, name) + attribute(_INFORMATION, text(_PORT_KIND, "bridge"), data)
        messages.append(Message(_NEW_LINK, _LINK.pack(0, 0, 0, 0, 0) + parts))
    return messages


def vlan(index: int, tag: int) -> list[Message]:
    """A port of a bridge in one, instead of in the first."""
    return [_of_vlan(_DELETE_LINK, index, 1, 0), _of_vlan(_SET_LINK, index, tag, _PVID_UNTAGGED)]


def _of_vlan(kind: int, index: int, tag: int, flags: int) -> Message:
    data = attribute(_FAMILIES, attribute(_VLAN, struct.pack("=HH", flags, tag)))
    return Message(kind, _LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0) + data)


def filtering(index: int) -> Message:
    """Let a bridge know of VLANs."""
    data = _information("bridge", attribute(_VLAN_FILTERING, b"\x01"))
    return Message(_NEW_LINK, _LINK.pack(0, 0, index, 0, 0) + data)


def up(index: int) -> Message:
    return _set(index, up=True)


def settings(index: int, values: dict[int, int]) -> Message:
    """What /proc/sys/net/ipv4/conf has of an interface, by the kernel's numbers."""
    numbers = attribute(_IPV4_SETTINGS, *(number(name, value) for name, value in values.items()))
    return _set(index, attribute(_FAMILIES, attribute(socket.AF_INET, numbers)))


def remove(index: int) -> Message:
    """It need not be there any more. By its number, which no other one gets: by its name that might be another one by now."""
    return Message(_DELETE_LINK, _LINK.pack(0, 0, index, 0, 0), but=(errno.ENODEV,))


def _new(*parts: bytes, but: tuple[int, ...] = ()) -> Message:
    return Message(_NEW_LINK, _LINK.pack(0, 0, 0, 0, 0) + b"".join(parts), ACK | CREATE | EXCLUSIVE, but)


def _set(index: int, *parts: bytes, up: bool = False) -> Message:
    flags = _UP if up else 0
    return Message(_SET_LINK, _LINK.pack(0, 0, index, flags, flags) + b"".join(parts))


def _information(kind: str, data: bytes) -> bytes:
    return attribute(_INFORMATION, text(_KIND, kind), attribute(_DATA, data))


def _mtu(mtu: int) -> bytes:
    """0: the kernel's choice."""
    return number(_MTU, mtu) if mtu else b""


# ---------------------------------------------------------------------- addresses and routes


def address(index: int, value: str, prefix: int) -> Message:
    """It need not be new. One of IPv6 can be used at once: the engine knows that nobody else has it."""
    raw = netlink.address(value)
    body = _ADDRESS.pack(_family(value), prefix, _NO_DAD if is_ipv6(value) else 0, 0, index)
    parts = attribute(_A_LOCAL, raw) + attribute(_A_ADDRESS, raw)
    return Message(_NEW_ADDRESS, body + parts, ACK | CREATE | EXCLUSIVE, (errno.EEXIST,))


def route(index: int, destination: str, gateway: str, metric: int) -> Message:
    """It need not be new. Without a destination: for everything that no other route is for."""
    place, _, length = destination.partition("/")
    body = _ROUTE.pack(_family(gateway), int(length or 0), 0, 0, _MAIN_TABLE, _STATIC, 0, _UNICAST, 0)
    parts = [attribute(_R_DESTINATION, netlink.address(place))] if destination else []
    parts += [
        attribute(_R_GATEWAY, netlink.address(gateway)),
        number(_R_INTERFACE, index),
        number(_R_METRIC, metric),
    ]
    return Message(_NEW_ROUTE, body + b"".join(parts), ACK | CREATE | EXCLUSIVE, (errno.EEXIST,))


def marked(family: int, mark: int, table: int, priority: int) -> Message:
    """What has a mark goes by a table of routes. It need not be new."""
    numbers = ((_RULE_PRIORITY, priority), (_RULE_MARK, mark), (_TABLE, table))
    body = _RULE.pack(family, 0, 0, 0, 0, _TO_TABLE, 0) + b"".join(number(*each) for each in numbers)
    return Message(_NEW_RULE, body, ACK | CREATE | EXCLUSIVE, (errno.EEXIST,))


def everything_local(family: int, index: int, table: int) -> Message:
    """By a table of routes, whatever it is for is for this host itself. It need not be new."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, _STATIC, _SCOPE_HOST, _LOCAL, 0)
    parts = number(_R_INTERFACE, index) + number(_TABLE, table)
    return Message(_NEW_ROUTE, body + parts, ACK | CREATE | EXCLUSIVE, (errno.EEXIST,))


def _family(address: str) -> int:
    return socket.AF_INET6 if is_ipv6(address) else socket.AF_INET


# ---------------------------------------------------------------------- questions


def find(wire: Wire, name: str) -> Interface | None:
    """The interface of this host that has the name. OSError."""
    try:
        return _interface(wire.ask(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0) + text(_NAME, name)))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def ports_of(wire: Wire, master: int) -> Iterator[Interface]:
    """Of a bridge, by its number."""
    for body in wire.ask_all(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0) + number(_MASTER, master)):
        found = _interface(body)
        if found.master == master:
            yield found


def addresses(wire: Wire) -> Iterator[tuple[int, str, int]]:
    """Of this host: the interface's number, an address, and its prefix."""
    for body in wire.ask_all(_GET_ADDRESS, bytes(_ADDRESS.size)):
        _, prefix, _, _, index = _ADDRESS.unpack_from(body)
        values = dict(netlink.attributes(body[_ADDRESS.size :]))
        if raw := values.get(_A_LOCAL) or values.get(_A_ADDRESS):
            yield index, str(ip_address(raw)), prefix


class Destination(NamedTuple):
    """Of a route to others."""

    address: str
    """Empty: everything that no other route is for."""
    prefix: int
    interface: int
    """0: several."""
    metric: int


def routes(wire: Wire, family: int = 0, table: int = 0) -> Iterator[Destination]:
    """0: all of them."""
    for body in wire.ask_all(_GET_ROUTE, _ROUTE.pack(family, 0, 0, 0, table, 0, 0, 0, 0)):
        _, prefix, _, _, found, _, _, kind, _ = _ROUTE.unpack_from(body)
        values = dict(netlink.attributes(body[_ROUTE.size :]))
        if kind == _UNICAST and table in (0, found):
            raw = values.get(_R_DESTINATION)
            yield Destination(
                str(ip_address(raw)) if raw else "",
                prefix,
                _number(values.get(_R_INTERFACE)),
                _number(values.get(_R_METRIC)),
            )


def way_out(wire: Wire) -> Interface | None:
    """The interface of the default route."""
    found = [
        (each.metric, each.interface)
        for each in routes(wire, socket.AF_INET, _MAIN_TABLE)
        if not each.prefix and each.interface
    ]
    if not found:
        return None
    return _interface(wire.ask(_GET_LINK, _LINK.pack(0, 0, min(found)[1], 0, 0)))


def _interface(body: bytes) -> Interface:
    values = dict(netlink.attributes(body[_LINK.size :]))
    information = dict(netlink.attributes(values.get(_INFORMATION, b"")))
    _, _, index, flags, _ = _LINK.unpack_from(body)
    return Interface(
        index=index,
        name=_text(values.get(_NAME)),
        kind=_text(information.get(_KIND)),
        mtu=_number(values.get(_MTU)),
        master=_number(values.get(_MASTER)),
        is_up=bool(flags & _UP),
        alias=_text(values.get(_ALIAS)),
    )


def _text(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes | None) -> int:
    return struct.unpack("=I", raw)[0] if raw else 0
