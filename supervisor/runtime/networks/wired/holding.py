"""The sockets that hold a container's ports on the host, for whoever leads these into it.

Its monitor has them, so that nobody else gets a port while the container lives; a program that has ended gets the same ones
when it is begun again, and connections that come meanwhile wait in them.
"""

from __future__ import annotations

from socket import SOCK_DGRAM
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed
from supervisor.kernel import borrowed
from supervisor.network import ports as host_ports
from supervisor.network.plans import EVERYWHERE, is_ipv6

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Port

__all__ = ["holders"]


def holders(
    ports: Iterable[Port],
    monitor: ProcessRef | None,
    given: Iterable[socket.socket],
    stack: ExitStack,
) -> Sequence[socket.socket]:
    """One for each port; what the caller has not given is the stack's to close. `given`: those that hold them before there
    is a monitor. Blocks. NetworkFailed, PortInUse, PermissionDenied."""
    there = _by_port(given)
    if monitor is not None:
        try:
            taken = borrowed.sockets_of(monitor)
        except OSError as error:
            raise NetworkFailed(f"cannot take ports from a container's monitor: {error.strerror}") from error
        for each in taken:
            stack.enter_context(each)
        there |= _by_port(taken)
    found = []
    for port in ports:
        held = next((there.pop(key) for key in _keys(port) if key in there), None)
        if held is None:  # a container has more than its monitor holds, or that has ended
            (held,) = host_ports.claim([port])
            stack.enter_context(held)
        found.append(held)
    return found


_Key = tuple[bool, int, bool, str]
"""Whether it is UDP, its number, whether it is of IPv6, the address; empty: any."""


def _by_port(sockets: Iterable[socket.socket]) -> dict[_Key, socket.socket]:
    found: dict[_Key, socket.socket] = {}
    for each in sockets:
        address, number = each.getsockname()[:2]
        key = (each.type == SOCK_DGRAM, number, is_ipv6(address), _named(address))
        found[key] = each
    return found


def _keys(port: Port) -> list[_Key]:
    """Of sockets that hold it."""
    udp = port.protocol == "udp"
    if not port.host_ip:
        return [(udp, port.host_port, ipv6, "") for ipv6 in (True, False)]
    return [(udp, port.host_port, is_ipv6(port.host_ip), _named(port.host_ip))]


def _named(address: str) -> str:
    """Empty: any."""
    return "" if address in EVERYWHERE else address
