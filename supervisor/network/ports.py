"""Ports of the host that lead into containers: nobody else may have them, before a container begins and as long as it lives.

A port is held by a socket that is bound to it and listens to nothing: whoever else wants it is told that it is in use, and
where the packet filter does not lead it away the host refuses a connection. The sockets are given to the container's
monitor, so that they live as long as the container does, whatever becomes of the engine.

Everything acts in the network namespace of the calling thread, and takes microseconds for each port.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from pyman.errors import NetworkFailed, PermissionDenied, PortInUse
from supervisor.network.plans import Port, is_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MOST_HELD", "choose", "claim", "probe"]

MOST_HELD = 512
"""Of one container; the others are only looked at when it begins. Each is a descriptor of the monitor's."""

_ATTEMPTS = 64
_HIGHEST = 65535
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_LOW_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_PROTOCOLS = "/proc/net/protocols"


def claim(ports: Iterable[Port]) -> list[socket.socket]:
    """Sockets that hold the ports, for the caller to pass on and to close. PortInUse, NetworkFailed, PermissionDenied: then
    none is held."""
    held: list[socket.socket] = []
    try:
        for port in _known(ports):
            held.append(_bound(port))
            if len(held) > MOST_HELD:
                held.pop().close()
    except BaseException:
        for holder in held:
            holder.close()
        raise
    return held


def probe(ports: Iterable[Port]) -> None:
    """Whether they can be had, for a helper program that is about to listen there itself. Errors as `claim`."""
    for port in _known(ports):
        _bound(port).close()


def choose(protocol: str, host_ip: str, count: int, taken: Callable[[int], bool]) -> int:
    """The first of that many ports in a row that are free now. `taken`: of which others know better. NetworkFailed: there
    are none; PermissionDenied."""
    for _ in range(_ATTEMPTS):
        first = _any(protocol, host_ip)
        row = range(first, first + count)
        if row[-1] > _HIGHEST or any(taken(number) for number in row):
            continue
        try:
            probe(Port(number, number, protocol, host_ip) for number in row)
        except PortInUse:
            continue
        return first
    what = "port is" if count == 1 else f"{count} ports in a row are"
    raise NetworkFailed(f"cannot publish a {protocol} port: no {what} free on the host")


def _any(protocol: str, host_ip: str) -> int:
    """One that the kernel chooses."""
    with _bound(Port(0, 0, "udp" if protocol == "udp" else "tcp", host_ip)) as holder:
        return int(holder.getsockname()[1])


def _known(ports: Iterable[Port]) -> Iterable[Port]:
    """Of a protocol that the host does not have nobody uses a port."""
    return (port for port in ports if port.protocol != "sctp" or _has_sctp())


def _bound(port: Port) -> socket.socket:
    try:
        if port.host_ip:
            return _holder(port, port.host_ip)
        try:
            return _holder(port, "::")
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            return _holder(port, "")
    except OSError as error:
        raise _refused(port, error) from error


def _holder(port: Port, address: str) -> socket.socket:
    holder = socket.socket(
        socket.AF_INET6 if is_ipv6(address) else socket.AF_INET,
        socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM,
        socket.IPPROTO_SCTP if port.protocol == "sctp" else 0,
    )
    try:
        if holder.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(port.host_ip))
        if port.protocol == "udp":
            # What comes nevertheless is not read: no room for it.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            holder.bind((address, port.host_port))
            return holder
        # What is left of connections that have ended keeps nobody out who would listen; but two that only hold could both
        # have it. So it listens, for an instant.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((address, port.host_port))
        holder.listen(0)
        holder.shutdown(socket.SHUT_RDWR)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        holder.close()
        raise
    return holder


def _refused(port: Port, error: OSError) -> NetworkFailed | PermissionDenied | PortInUse:
    address = f"[{port.host_ip}]:" if is_ipv6(port.host_ip) else f"{port.host_ip}:" if port.host_ip else ""
    name = f"{address}{port.host_port}/{port.protocol}"
    match error.errno:
        case errno.EADDRINUSE:
            return PortInUse(f"cannot publish port {name}: it is in use on the host", subject=name)
        case errno.EADDRNOTAVAIL:
            return NetworkFailed(
                f"cannot publish port {name}: the host does not have that address", subject=name
            )
        case errno.EACCES:
            return PermissionDenied(
                f"cannot publish port {name}: ports below {_first_for_all()} are for root",
                subject=name,
                hint="choose a higher one, or lower net.ipv4.ip_unprivileged_port_start",
            )
    return NetworkFailed(f"cannot publish port {name}: {os.strerror(error.errno or 0).lower()}", subject=name)


def _first_for_all() -> int:
    with open(_LOW_PORTS, encoding="ascii") as file:
        return int(file.read())


def _has_sctp() -> bool:
    """Without loading the kernel's module for it: where it is not loaded nobody has a port of it."""
    try:
        with open(_PROTOCOLS, encoding="ascii") as file:
            return any(line.startswith("SCTP ") for line in file)
    except OSError:
        return False
