"""The addresses of the host's interfaces, as the kernel lists them."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

__all__ = ["first_address"]

_SIOCGIFCONF = 0x8912
_IFCONF = struct.Struct("iP")
_ADDRESSES = 64
"""So many are looked at."""
_NAME = 16
_ENTRY = _NAME + (24 if struct.calcsize("P") == 8 else 16)
"""Bytes that the kernel writes for each one, and of the interface's name in them."""
_IPV6 = "/proc/net/if_inet6"


def first_address() -> str:
    """The first IPv4 address that is not a loopback or link-local one; without any, an IPv6 address; without that, an
    empty text."""
    try:
        found = _ipv4()
    except OSError:
        found = []
    for address in found:
        if not (address.startswith(("127.", "169.254.", "0.")) or int(address.partition(".")[0]) >= 224):
            return address
    return _last_ipv6()


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


def _last_ipv6() -> str:
    address = ""
    try:
        with open(_IPV6, encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 3 and fields[3] == "00":  # of the whole internet
                    address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
    except (OSError, ValueError):
        return ""
    return address
