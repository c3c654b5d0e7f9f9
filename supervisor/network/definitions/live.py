"""What the host itself has: its interfaces, their subnets and its routes, asked of the kernel by netlink.

By hand, since all of it is two questions: the library for the rest of netlink takes ten times as long to be imported.
All of it blocks for a moment and is called in a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.definitions.addresses import Block

__all__ = ["Live", "look"]

_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""
_GET_ADDRESSES, _GET_ROUTES = 22, 26
_ERROR, _DONE = 2, 3
_PEER, _LOCAL, _DESTINATION = 1, 2, 1
_UNICAST = 1
_ROOM = 1 << 16
_PATIENCE = 5.0
"""Seconds; the kernel answers at once."""


class Live(NamedTuple):
    interfaces: tuple[str, ...]
    subnets: tuple[tuple[str, Block], ...]
    """With the names of the interfaces that have addresses in them."""
    routes: tuple[Block, ...]
    """What is reached otherwise; without the default routes."""


def look() -> Live:
    """In the network namespace of this thread. StorageFailed."""
    try:
        names = dict(socket.if_nameindex())
        subnets = [(names.get(index, str(index)), block) for index, block in _addresses()]
        return Live(tuple(names.values()), tuple(subnets), tuple(_routes()))
    except OSError as error:
        raise StorageFailed(
            f"cannot ask the kernel for the host's addresses and routes: {os.strerror(error.errno or 0)}"
        ) from error


def _addresses() -> Iterator[tuple[int, Block]]:
    for body in _dump(_GET_ADDRESSES, _ADDRESS.size):
        _, length, _, _, index = _ADDRESS.unpack_from(body)
        found = dict(_attributes(body[_ADDRESS.size :]))
        raw = found.get(_LOCAL) or found.get(_PEER)
        if raw:
            yield index, ip_network((ip_address(raw), length), strict=False)


def _routes() -> Iterator[Block]:
    for body in _dump(_GET_ROUTES, _ROUTE.size):
        _, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(body)
        raw = dict(_attributes(body[_ROUTE.size :])).get(_DESTINATION)
        if raw and length and kind == _UNICAST:
            yield ip_network((ip_address(raw), length), strict=False)


def _dump(question: int, size: int) -> Iterator[bytes]:
    """The bodies of the answers. OSError."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as wire:
        wire.settimeout(_PATIENCE)
        wire.send(_HEADER.pack(_HEADER.size + size, question, _DUMP, 1, 0) + bytes(size))
        while True:
            data = wire.recv(_ROOM)
            while len(data) >= _HEADER.size:
                length, kind, _, _, _ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", data, _HEADER.size)[0], "netlink")
                if length < _HEADER.size:
                    raise OSError(0, "netlink")
                yield data[_HEADER.size : length]
                data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
