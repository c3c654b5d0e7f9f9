"""slirp4netns, a TCP/IP stack in a program: its options as users give them, what it is told, and the ports that it forwards.

A container is behind it as behind a router of its own: the first addresses of a subnet are the router's, the hundredth the
container's. Its ports are asked for over a socket once it is there. Everything here is quick, or blocks for an instant.
"""

from __future__ import annotations

import json
import os
import socket
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidArgument, NetworkFailed, PortInUse
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.network.plans import Port

__all__ = [
    "INTERFACE",
    "PROGRAM",
    "READY",
    "SOCKET",
    "Options",
    "arguments",
    "check_ports",
    "forward",
    "parse",
]

PROGRAM = "slirp4netns"
READY = "--ready-fd"
INTERFACE = "tap0"

SOCKET = "slirp4netns.sock"
_LEAST_MTU, _MOST_MTU = 68, 65521
_LONGEST_PREFIX = 25
"""Bits of a subnet that has a hundredth address; the program says so too."""
_PATIENCE = 10.0
"""Seconds for its answers: it stops everything else meanwhile."""
_ANSWER = 1 << 16


class Options(msgspec.Struct, frozen=True):
    cidr: IPv4Network = IPv4Network("10.0.2.0/24")
    allow_host_loopback: bool = False
    enable_ipv6: bool = True
    mtu: int = 65520
    outbound_addr: str = ""
    outbound_addr6: str = ""
    port_handler: str = "rootlesskit"
    """slirp4netns: it forwards ports itself, so that true source addresses stay; rootlesskit: a faster program does."""

    @property
    def own(self) -> str:
        """The container's."""
        return self._address(100)

    @property
    def gateway(self) -> str:
        """Which is the host's loopback address, if that is allowed."""
        return self._address(2)

    @property
    def server(self) -> str:
        """Where it answers queries, for whoever asks the host's name servers."""
        return self._address(3)

    def _address(self, number: int) -> str:
        return str(IPv4Address(int(self.cidr.network_address) + number))


def parse(words: Iterable[str]) -> Options:
    """Of `key=value`, in this order: the last one counts. InvalidArgument."""
    found: dict[str, object] = {}
    for word in words:
        key, _, value = word.partition("=")
        match key:
            case "cidr":
                found[key] = _subnet(word, value)
            case "allow_host_loopback" | "enable_ipv6":
                if value not in ("true", "false"):
                    raise _unusable(word, "it is neither true nor false")
                found[key] = value == "true"
            case "mtu":
                if not (value.isdecimal() and len(value) < 6 and _LEAST_MTU <= int(value) <= _MOST_MTU):
                    raise _unusable(word, f"it is not a number from {_LEAST_MTU} to {_MOST_MTU}")
                found[key] = int(value)
            case "outbound_addr" | "outbound_addr6":
                _check_outbound(word, value, 6 if key.endswith("6") else 4)
                found[key] = value
            case "port_handler":
                if value not in ("slirp4netns", "rootlesskit"):
                    raise _unusable(word, "it is neither slirp4netns nor rootlesskit")
                found[key] = value
            case _:
                raise _unusable(word, "there is no such option")
    options = msgspec.structs.replace(Options(), **found)
    if options.outbound_addr6 and not options.enable_ipv6:
        raise _unusable(f"outbound_addr6={options.outbound_addr6}", "it needs enable_ipv6=true")
    return options


def _subnet(word: str, value: str) -> IPv4Network:
    try:
        subnet = IPv4Network(value, strict=False)
    except ValueError:
        raise _unusable(word, "it is no subnet of IPv4, as 10.0.2.0/24") from None
    if not 0 < subnet.prefixlen <= _LONGEST_PREFIX or "/" not in value:
        raise _unusable(word, f"its prefix is not 1 to {_LONGEST_PREFIX} bits long")
    return subnet


def _check_outbound(word: str, value: str, version: int) -> None:
    """An address, or an interface that there is."""
    try:
        if ip_address(value).version == version:
            return
    except ValueError:
        if any(name == value for _, name in socket.if_nameindex()):
            return
    raise _unusable(word, f"it is neither an address of IPv{version} nor an interface of the host")


def _unusable(word: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use the option '{word[:80]}' of slirp4netns: {reason}", subject=word[:80])


def check_ports(options: Options, ports: Iterable[Port]) -> None:
    """InvalidArgument."""
    for port in ports:
        name = f"{port.container_port}/{port.protocol}"
        if port.protocol not in ("tcp", "udp"):
            raise InvalidArgument(
                f"cannot publish port {name}: slirp4netns forwards tcp and udp alone",
                subject=name,
                hint="only containers of root on a bridge have others",
            )
        if options.port_handler == "slirp4netns" and is_ipv6(port.host_ip):
            raise InvalidArgument(
                f"cannot publish port {name} at '{port.host_ip}': slirp4netns itself forwards IPv4 alone",
                subject=port.host_ip,
                hint="use port_handler=rootlesskit",
            )


def arguments(options: Options, netns: int, *, exit_fd: int | None, forwards: bool) -> list[str]:
    """All but `READY`. `netns` and `exit_fd` are descriptors that it inherits; it ends when the other end of that one is
    closed. `forwards`: it is going to be asked for ports, at a socket in its working directory."""
    found = ["--configure", f"--mtu={options.mtu}", "--enable-sandbox", "--enable-seccomp"]
    found.append(f"--cidr={options.cidr}")
    if not options.allow_host_loopback:
        found.append("--disable-host-loopback")
    if options.enable_ipv6:
        found.append("--enable-ipv6")
    if options.outbound_addr:
        found.append(f"--outbound-addr={options.outbound_addr}")
    if options.outbound_addr6:
        found.append(f"--outbound-addr6={options.outbound_addr6}")
    if exit_fd is not None:
        found.append(f"--exit-fd={exit_fd}")
    if forwards:
        found.append(f"--api-socket={SOCKET}")
    return [*found, "--netns-type=path", f"/proc/self/fd/{netns}", INTERFACE]


def forward(directory: str, ports: Sequence[Port]) -> None:
    """Ask one that is ready for ports. `directory`: where it works. PortInUse, NetworkFailed."""
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unasked(error) from error
    try:
        for port in ports:
            request = {
                "proto": port.protocol,
                "host_addr": port.host_ip or "0.0.0.0",  # noqa: S104 - what users ask for
                "host_port": port.host_port,
                "guest_port": port.container_port,
            }
            answer = _ask(f"/proc/self/fd/{place}/{SOCKET}", {"execute": "add_hostfwd", "arguments": request})
            if "error" in answer:
                name = f"{port.host_port}/{port.protocol}"
                raise PortInUse(f"cannot publish port {name}: slirp4netns cannot listen there", subject=name)
    finally:
        os.close(place)


def _unasked(error: OSError | ValueError) -> NetworkFailed:
    return NetworkFailed(f"cannot ask slirp4netns for a port: {error}", subject=PROGRAM)


def _ask(path: str, request: object) -> dict[str, object]:
    """One question, one answer, on a connection of their own."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(_PATIENCE)
            wire.connect(path)
            wire.sendall(json.dumps(request).encode())
            wire.shutdown(socket.SHUT_WR)
            answer = json.loads(wire.recv(_ANSWER))
    except (OSError, ValueError) as error:
        raise _unasked(error) from error
    return answer if isinstance(answer, dict) else {"error": answer}
