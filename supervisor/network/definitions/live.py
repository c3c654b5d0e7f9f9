"""What the host itself has: its interfaces, their subnets and its routes, asked of the kernel by netlink.

All of it blocks for a moment and is called in a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import StorageFailed
from supervisor.network.kernel.netlink import Wire, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.definitions.addresses import Block

__all__ = ["Live", "look"]

_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_GET_ADDRESSES, _GET_ROUTES = 22, 26
_PEER, _LOCAL, _DESTINATION = 1, 2, 1
_UNICAST = 1


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
        with Wire() as wire:
            subnets = [(names.get(index, str(index)), block) for index, block in _addresses(wire)]
            return Live(tuple(names.values()), tuple(subnets), tuple(_routes(wire)))
    except OSError as error:
        raise StorageFailed(
            f"cannot ask the kernel for the host's addresses and routes: {os.strerror(error.errno or 0)}"
        ) from error


def _addresses(wire: Wire) -> Iterator[tuple[int, Block]]:
    for body in wire.ask_all(_GET_ADDRESSES, bytes(_ADDRESS.size)):
        _, length, _, _, index = _ADDRESS.unpack_from(body)
        found = dict(attributes(body[_ADDRESS.size :]))
        raw = found.get(_LOCAL) or found.get(_PEER)
        if raw:
            yield index, ip_network((ip_address(raw), length), strict=False)


def _routes(wire: Wire) -> Iterator[Block]:
    for body in wire.ask_all(_GET_ROUTES, bytes(_ROUTE.size)):
        _, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(body)
        raw = dict(attributes(body[_ROUTE.size :])).get(_DESTINATION)
        if raw and length and kind == _UNICAST:
            yield ip_network((ip_address(raw), length), strict=False)
