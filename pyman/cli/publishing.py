"""`--publish`: ports of the host that lead into a container, `[[IP:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL]`; and how
`ps` shows them."""

from __future__ import annotations

from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["exposed_map", "published", "shown"]

_LAST = 65535
_ANYWHERE = "0.0.0.0"  # noqa: S104 - shown, not listened at
_PROTOCOLS = ("tcp", "udp", "sctp")


class _Unusable(Exception):
    """What is wrong with it."""


def published(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Port mappings as a create request has them. InvalidArgument."""
    found = []
    for text in texts:
        try:
            found.append(_mapping(text))
        except _Unusable as problem:
            raise InvalidArgument(f"option --publish cannot be '{text}'", hint=str(problem)) from None
    return found


def _mapping(text: str) -> dict[str, Any]:
    places, slash, protocols = text.partition("/")
    ip, outside, inside = _places(places)
    first, count = _range(inside)
    mapping: dict[str, Any] = {"container_port": first}
    if outside:
        mapping["host_port"], outer = _range(outside)
        if outer != count:
            raise _Unusable(f"{outer} ports of the host cannot lead to {count} of the container")
    if ip:
        mapping["host_ip"] = ip
    if count > 1:
        mapping["range"] = count
    if slash:
        mapping["protocol"] = _protocols(protocols)
    return mapping


def _places(text: str) -> tuple[str, str, str]:
    """The address and ports of the host, which may be empty, and the ports of the container."""
    if text.startswith("["):
        ip, bracket, rest = text[1:].partition("]")
        if not ip or not bracket or rest[:1] != ":" or rest.count(":") != 2:
            raise _Unusable("with an IPv6 address it must be [IP]:[PORT]:PORT")
        _, outside, inside = rest.split(":")
        return ip, outside, inside
    fields = text.split(":")
    if len(fields) > 3:
        raise _Unusable("it must be [[IP:][PORT]:]PORT[/PROTOCOL]; an IPv6 address stands in brackets")
    if len(fields) == 3 and not fields[0]:
        raise _Unusable("the address before the first colon is missing")
    ip, outside, inside = ["", "", "", *fields][-3:]
    return ip, outside, inside


def _range(text: str) -> tuple[int, int]:
    """The first port, and how many."""
    first, dash, last = text.partition("-")
    numbers = (first, last) if dash else (first,)
    if not all(map(is_decimal, numbers)):
        raise _Unusable(
            f"'{text}' is not a port or FIRST-LAST" if text else "the container's port is missing"
        )
    start, end = int(first), int(last if dash else first)
    if not 1 <= start <= _LAST or not 1 <= end <= _LAST:
        raise _Unusable(f"ports are 1 to {_LAST}")
    if dash and end <= start:
        raise _Unusable("the last port of a range comes after the first")
    return start, end - start + 1


def _protocols(text: str) -> str:
    words = text.lower().split(",")
    if not set(words) <= set(_PROTOCOLS):
        raise _Unusable(f"the protocol is {', '.join(_PROTOCOLS[:-1])} or {_PROTOCOLS[-1]}")
    return ",".join(words)


def shown(mappings: Iterable[dict[str, Any]], exposed: Iterable[str]) -> str:
    """`0.0.0.0:8080-8082->80-82/tcp, 90/udp`: published ports, and those that are exposed only."""
    found: list[str] = []
    inside: set[tuple[str, int]] = set()
    for mapping in mappings:
        host, first, count = mapping.get("host_port", 0), mapping["container_port"], mapping.get("range", 1)
        ip, protocol = mapping.get("host_ip") or _ANYWHERE, mapping.get("protocol", "tcp")
        found.append(f"{ip}:{_span(host, count)}->{_span(first, count)}/{protocol}")
        inside.update((protocol, port) for port in range(first, first + count))
    for protocol, first, count in _rows([port for port in _each(exposed) if port not in inside]):
        found.append(f"{_span(first, count)}/{protocol}")
    return ", ".join(found)


def exposed_map(exposed: Iterable[str]) -> dict[str, list[str]]:
    """As Podman's JSON has it: protocols by port."""
    found: dict[str, list[str]] = {}
    for protocol, port in _each(exposed):
        found.setdefault(str(port), []).append(protocol)
    return found


def _each(exposed: Iterable[str]) -> Iterator[tuple[str, int]]:
    for text in exposed:
        ports, _, protocol = text.partition("/")
        first, dash, last = ports.partition("-")
        for port in range(int(first), int(last if dash else first) + 1):
            yield protocol, port


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def _rows(ports: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Ports that follow one another, as protocol, first and how many."""
    begin = 0
    for index, (protocol, port) in enumerate(ports):
        if index + 1 == len(ports) or ports[index + 1] != (protocol, port + 1):
            yield protocol, ports[begin][1], index + 1 - begin
            begin = index + 1
