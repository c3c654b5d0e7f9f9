"""Port mappings as they are recorded: of one protocol each, sorted, what belongs together in one range, and no port of the
host twice. As in Podman: mappings that say the same, or continue one another, are one.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec

from pyman.api.spec import PortMapping
from pyman.errors import InvalidArgument
from supervisor.network.plans import EVERYWHERE, is_ipv6
from supervisor.oci import ports
from supervisor.oci.imaged import ImageUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyman.api.spec import ContainerSpec

__all__ = ["MOST", "chosen", "settled"]

MOST = 16384
"""Ports of one container."""
_LAST = 65535
_PROTOCOLS = ("tcp", "udp", "sctp")


def settled(
    spec: ContainerSpec, image_ports: Sequence[str], default_ips: Sequence[str] = ()
) -> list[PortMapping]:
    """`default_ips`: where the host listens for whom no address is named. InvalidArgument."""
    if len(spec.portmappings) > MOST:
        raise _too_many()
    groups: dict[tuple[str, str], list[PortMapping]] = {}
    for mapping in spec.portmappings:
        for each in _single(mapping, default_ips):
            groups.setdefault((each.host_ip, each.protocol), []).append(each)
    found = [mapping for group in groups.values() for mapping in _merged(group)]
    if spec.publish_image_ports:
        found += _exposed(spec, image_ports, found, default_ips)
    if sum(mapping.range for mapping in found) > MOST:
        raise _too_many()
    _check_overlaps(found)
    return found


def chosen(mappings: Iterable[PortMapping], others: Iterable[PortMapping]) -> list[PortMapping]:
    """With free ports of the host where none is named: a container keeps them, whether it runs or not. `others`: what other
    containers have, running or not. NetworkFailed, PermissionDenied."""
    from supervisor.network.ports import choose  # only now: most name their ports

    mappings = list(mappings)
    used = {(mapping.protocol, port) for mapping in (*others, *mappings) for port in _ports(mapping)}
    found = []
    for mapping in mappings:
        if not mapping.host_port:
            protocol = mapping.protocol

            def taken(port: int, protocol: str = protocol) -> bool:
                return (protocol, port) in used

            port = choose(protocol, mapping.host_ip, mapping.range, taken)
            mapping = msgspec.structs.replace(mapping, host_port=port)  # noqa: PLW2901
            used.update((protocol, port) for port in _ports(mapping))
        found.append(mapping)
    return found


def _single(mapping: PortMapping, default_ips: Sequence[str]) -> Iterator[PortMapping]:
    """One for each protocol and address."""
    first, host, count = mapping.container_port, mapping.host_port, mapping.range
    if not 1 <= first <= _LAST or not 0 <= host <= _LAST:
        port = host if 1 <= first <= _LAST else first
        raise InvalidArgument(f"cannot publish port {port}: ports are 1 to {_LAST}", subject=str(port))
    if not 1 <= count <= _LAST or max(first, host) + count - 1 > _LAST:
        raise InvalidArgument(
            f"cannot publish {count} ports from {max(first, host)} on: the last one is {_LAST}",
            subject=str(first),
        )
    ips = list(map(_address, [mapping.host_ip] if mapping.host_ip else default_ips)) or [""]
    for protocol in dict.fromkeys(mapping.protocol.lower().split(",")):
        if protocol not in ("", *_PROTOCOLS):
            raise InvalidArgument(
                f"cannot publish port {first}: the protocol '{protocol[:80]}' is not known",
                subject=str(first),
                hint=f"known are {', '.join(_PROTOCOLS)}",
            )
        for ip in ips:
            yield PortMapping(first, host, ip, count, protocol or "tcp")


def _address(text: str) -> str:
    """In the form in which addresses are compared."""
    family = socket.AF_INET6 if is_ipv6(text) else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise InvalidArgument(
            f"cannot publish a port at '{text[:80]}': it is not an IP address", subject=text[:80]
        ) from None


def _merged(group: list[PortMapping]) -> Iterator[PortMapping]:
    """Of one address and protocol. Those whose port of the host is chosen come last."""
    group.sort(key=lambda each: (each.host_port == 0, each.host_port, each.container_port))
    former: PortMapping | None = None
    for mapping in group:
        if former is None:
            former = mapping
        elif (joined := _joined(former, mapping)) is not None:
            former = joined
        else:
            yield former
            former = mapping
    if former is not None:
        yield former


def _joined(former: PortMapping, mapping: PortMapping) -> PortMapping | None:
    """Both as one; None: they are apart."""
    inside = mapping.container_port - former.container_port
    if mapping.host_port == 0:
        # Free ports are looked for a range at once: what only continues another one need not be next to it.
        if former.host_port or inside >= former.range:
            return None
    elif mapping.host_port - former.host_port != inside:
        if mapping.host_port < former.host_port + former.range:
            raise _conflict(mapping)
        return None
    elif mapping.host_port > former.host_port + former.range:
        return None
    count = max(former.range, inside + mapping.range)
    return PortMapping(former.container_port, former.host_port, former.host_ip, count, former.protocol)


def _too_many() -> InvalidArgument:
    return InvalidArgument(f"cannot publish more than {MOST} ports of a container")


def _conflict(mapping: PortMapping) -> InvalidArgument:
    port = f"{mapping.host_port}/{mapping.protocol}"
    return InvalidArgument(f"cannot publish port {port} of the host more than once", subject=port)


def _check_overlaps(mappings: Iterable[PortMapping]) -> None:
    """An address of the host has what all of them have. What is said twice of the same one is merged already."""
    taken: dict[tuple[int, str, int], str] = {}
    for mapping in sorted(mappings, key=lambda each: each.host_ip not in EVERYWHERE):
        ip = mapping.host_ip
        families = EVERYWHERE.get(ip) or ((6,) if is_ipv6(ip) else (4,))
        for key in ((family, mapping.protocol, port) for family in families for port in _ports(mapping)):
            if ip not in EVERYWHERE:
                if key in taken:
                    raise _conflict(mapping)
            elif taken.setdefault(key, ip) != ip:
                raise _conflict(mapping)


def _ports(mapping: PortMapping) -> range:
    """Of the host, as far as they are known."""
    return range(mapping.host_port, mapping.host_port + mapping.range if mapping.host_port else 0)


def _exposed(
    spec: ContainerSpec,
    image_ports: Sequence[str],
    published: Iterable[PortMapping],
    default_ips: Sequence[str],
) -> Iterator[PortMapping]:
    """What is exposed and not published otherwise."""
    inside = {
        (port, mapping.protocol)
        for mapping in published
        for port in range(mapping.container_port, mapping.container_port + mapping.range)
    }
    ports.check(spec)
    for text in ports.exposed(spec, ImageUse(ports=list(image_ports))):
        number, _, protocol = text.partition("/")
        if (int(number), protocol) not in inside:
            for ip in list(map(_address, default_ips)) or [""]:
                yield PortMapping(int(number), 0, ip, 1, protocol)
