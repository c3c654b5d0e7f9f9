"""What the kernel remembers of those who talk over UDP: with whom, for as long as one of them does so often enough.

To whom a published port leads is asked once, at the first packet. So a sender who goes on would be led for ever to a container
that has ended, and past one that has begun after him, unless the kernel forgets. A connection of TCP or SCTP ends by itself.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from supervisor.network.kernel import messages, netfilter
from supervisor.network.kernel.netfilter import GENERAL
from supervisor.network.kernel.netlink import ACK, NESTED, Message, Wire, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["forget"]

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
"""Of the subsystem of connections."""
_ASKED, _ANSWERED, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_ADDRESSES, _SERVICE = 1, 2
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)
_PROTOCOL, _DESTINATION_PORT = 1, 3
_FILTER_ASKED, _BY_PROTOCOL = 1, 1 << 3
_NO_SUCH_SUBSYSTEM = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


class _Way(NamedTuple):
    """Of packets in one direction."""

    protocol: int
    source: str
    destination: str
    port: int
    """Of the destination."""


def forget(ports: Collection[tuple[int, str]], wrong: Callable[[str], bool]) -> None:
    """Those who send to ports of this host, by number and address (empty: any of the host's), and are led to an address
    that is a wrong one. OSError."""
    with Wire() as wire:
        own = frozenset(address for _, address, _ in messages.addresses(wire))
    with netfilter.wire() as wire:
        going = [
            message
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in _going(wire, family, ports, own, wrong)
        ]
        wire.tell(*going)


def _going(
    wire: Wire,
    family: int,
    ports: Collection[tuple[int, str]],
    own: frozenset[str],
    wrong: Callable[[str], bool],
) -> Iterator[Message]:
    try:
        found = list(wire.ask_all(_GET, GENERAL.pack(family, 0, 0) + _only_udp()))
    except OSError as error:
        if error.errno in _NO_SUCH_SUBSYSTEM:
            return  # a kernel that cannot be asked
        raise
    for body in found:
        values = dict(attributes(body[GENERAL.size :]))
        asked, answered = _way(values.get(_ASKED, b"")), _way(values.get(_ANSWERED, b""))
        if asked is None or answered is None or asked.protocol != socket.IPPROTO_UDP:
            continue
        if asked.destination not in own and not ip_address(asked.destination).is_loopback:
            continue
        meant = any((asked.port, host_ip) in ports for host_ip in ("", asked.destination))
        if meant and wrong(answered.source):
            same = b"".join(attribute(kind, values[kind]) for kind in (_ID, _ZONE) if kind in values)
            them = GENERAL.pack(family, 0, 0) + attribute(_ASKED | NESTED, values[_ASKED]) + same
            yield Message(_DELETE, them, ACK, (errno.ENOENT,))


def _only_udp() -> bytes:
    """For kernels that can tell of some; others tell of all."""
    service = attribute(_SERVICE | NESTED, attribute(_PROTOCOL, bytes([socket.IPPROTO_UDP])))
    which = attribute(_FILTER | NESTED, attribute(_FILTER_ASKED, struct.pack("=I", _BY_PROTOCOL)))
    return attribute(_ASKED | NESTED, service) + which


def _way(data: bytes) -> _Way | None:
    parts = dict(attributes(data))
    addresses, service = (
        dict(attributes(parts.get(_ADDRESSES, b""))),
        dict(attributes(parts.get(_SERVICE, b""))),
    )
    source = next((addresses[each] for each in _SOURCES if each in addresses), None)
    destination = next((addresses[each] for each in _DESTINATIONS if each in addresses), None)
    if source is None or destination is None or _PROTOCOL not in service:
        return None
    port = int.from_bytes(service.get(_DESTINATION_PORT, b""), "big")
    return _Way(service[_PROTOCOL][0], str(ip_address(source)), str(ip_address(destination)), port)
