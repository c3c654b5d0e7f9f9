"""What the host itself has: its interfaces, their subnets and its routes, asked of the kernel by netlink.

All of it blocks for a moment and is called in a thread.
"""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from supervisor.network.kernel import messages
from supervisor.network.kernel.netlink import Wire
from supervisor.network.kernel.refusing import told

if TYPE_CHECKING:
    from supervisor.network.definitions.addresses import Block

__all__ = ["Live", "look"]


class Live(NamedTuple):
    interfaces: tuple[str, ...]
    subnets: tuple[tuple[str, Block], ...]
    """With the names of the interfaces that have addresses in them."""
    routes: tuple[Block, ...]
    """What is reached otherwise; without the default routes."""


def look() -> Live:
    """In the network namespace of this thread. NetworkFailed."""
    with told("ask the kernel for the host's addresses and routes"), Wire() as wire:
        names = dict(socket.if_nameindex())
        return Live(
            tuple(names.values()),
            tuple(
                (names.get(index, str(index)), _block(address, prefix))
                for index, address, prefix in messages.addresses(wire)
            ),
            tuple(
                _block(each.address, each.prefix)
                for each in messages.routes(wire)
                if each.address and each.prefix
            ),
        )


def _block(address: str, prefix: int) -> Block:
    return ip_network(f"{address}/{prefix}", strict=False)
