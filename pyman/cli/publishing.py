"""`--publish`: ports of the host that lead into a container, `[[IP:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL]`."""

from __future__ import annotations

from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["published"]

_LAST = 65535
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
