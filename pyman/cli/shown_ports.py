"""How `ps` shows the ports of the host that lead into a container, and those that it exposes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["exposed_map", "shown"]

_ANYWHERE = "0.0.0.0"  # noqa: S104 - shown, not listened at


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
