"""The addresses of the host's interfaces, as the kernel lists them."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["first_address", "outer_address"]

_SIOCGIFCONF, _SIOCGIFADDR = 0x8912, 0x8915
_IFCONF = struct.Struct("iP")
_ADDRESSES = 64
"""So many are looked at."""
_NAME = 16
_ENTRY = _NAME + (24 if struct.calcsize("P") == 8 else 16)
"""Bytes that the kernel writes for each one, and of the interface's name in them."""
_IPV6 = "/proc/net/if_inet6"
_ROUTES, _ROUTES_IPV6 = "/proc/net/route", "/proc/net/ipv6_route"
_UP, _REJECTS = 0x0001, 0x0200
"""Flags of routes."""


def first_address(excluded: Collection[str] = ()) -> str:
    """The first IPv4 address that is not a loopback or link-local one; without any, an IPv6 address; without that, an
    empty text."""
    try:
        found = _ipv4()
    except OSError:
        found = []
    for address in found:
        if address in excluded:
            continue
        if not (address.startswith(("127.", "169.254.", "0.")) or int(address.partition(".")[0]) >= 224):
            return address
    return next((address for _, address in reversed(_ipv6()) if address not in excluded), "")


def outer_address(*, ipv6: bool, interface: str = "") -> str:
    """The first address of an interface, or of the one with the first default route; an empty text: there is none."""
    try:
        interface = interface or (_default_ipv6() if ipv6 else _default_ipv4())
        if not interface:
            return ""
        if ipv6:
            return next((address for name, address in _ipv6() if name == interface), "")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            answer = fcntl.ioctl(
                asked, _SIOCGIFADDR, os.fsencode(interface)[: _NAME - 1].ljust(_ENTRY, b"\0")
            )
        return socket.inet_ntoa(answer[_NAME + 4 : _NAME + 8])
    except (OSError, ValueError):
        return ""


def _default_ipv4() -> str:
    with open(_ROUTES, encoding="ascii") as file:
        for line in list(file)[1:]:
            name, destination, _, flags, *_, mask = line.split()[:8]
            if destination == mask == "0" * 8 and int(flags, 16) & (_UP | _REJECTS) == _UP:
                return name
    return ""


def _default_ipv6() -> str:
    with open(_ROUTES_IPV6, encoding="ascii") as file:
        for line in file:
            destination, length, *_, flags, name = line.split()
            if destination == "0" * 32 and length == "00" and int(flags, 16) & (_UP | _REJECTS) == _UP:
                return name
    return ""


def _ipv4() -> list[str]:
    room = array.array("B", bytes(_ENTRY * _ADDRESSES))
    start, length = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFCONF, _IFCONF.pack(length, start))
    used = _IFCONF.unpack(answer)[0]
    data = room.tobytes()[:used]
    # After the name comes a sockaddr_in: two bytes of the family, two of the port, the address.
    return [
        socket.inet_ntoa(data[at + _NAME + 4 : at + _NAME + 8]) for at in range(0, len(data) - _NAME, _ENTRY)
    ]


def _ipv6() -> list[tuple[str, str]]:
    """Those of the whole internet, with their interfaces; without IPv6 there are none."""
    found = []
    try:
        with open(_IPV6, encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 5 and fields[3] == "00":
                    found.append((fields[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))))
    except (OSError, ValueError):
        return []
    return found
