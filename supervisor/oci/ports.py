"""The ports that a container says it serves: those of its image, and those asked for with `--expose`.

Nothing follows from them but that they are shown, which ones `--publish-all` means, and what an image that is made of the
container says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.imaged import ImageUse

__all__ = ["Row", "check", "exposed", "rows", "served"]

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535
_OF_IMAGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


class Row(NamedTuple):
    """Ports that follow one another, both ends included."""

    protocol: str
    first: int
    last: int


def check(spec: ContainerSpec) -> None:
    """InvalidArgument."""
    for port, protocols in spec.expose.items():
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and 1 <= int(port) <= _LAST):
            raise InvalidArgument(f"cannot expose port '{port[:80]}': ports are 1 to {_LAST}", subject=port)
        for protocol in protocols.split(","):
            if protocol.lower() not in ("", *_PROTOCOLS):
                raise InvalidArgument(
                    f"cannot expose port {port}: the protocol '{protocol[:80]}' is not known",
                    subject=port,
                    hint=f"known are {', '.join(_PROTOCOLS)}",
                )


def rows(spec: ContainerSpec, image: ImageUse) -> list[Row]:
    """What is exposed, in as few rows as there can be, by protocol and number: an image may expose all that there is. What it
    says that is no port is left out."""
    found: list[Row] = []
    for text in image.ports:
        if match := _OF_IMAGE.fullmatch(text):
            first, last = int(match[1]), int(match[2] or match[1])
            found.append(Row((match[3] or "tcp").lower(), max(1, first), min(last, _LAST)))
    for port, protocols in spec.expose.items():
        found += [Row(protocol.lower() or "tcp", int(port), int(port)) for protocol in protocols.split(",")]
    joined: list[Row] = []
    for row in sorted(row for row in found if row.first <= row.last):
        former = joined[-1] if joined else None
        if former is not None and row.protocol == former.protocol and row.first <= former.last + 1:
            joined[-1] = Row(row.protocol, former.first, max(former.last, row.last))
        else:
            joined.append(row)
    return joined


def exposed(spec: ContainerSpec, image: ImageUse) -> list[str]:
    """`80/tcp`, sorted by number."""
    ports = [(port, row.protocol) for row in rows(spec, image) for port in range(row.first, row.last + 1)]
    return [f"{port}/{protocol}" for port, protocol in sorted(ports)]


def served(spec: ContainerSpec, image: ImageUse) -> list[str]:
    """Those that are published as well."""
    published = [
        f"{mapping.container_port + step}/{mapping.protocol}"
        for mapping in spec.portmappings
        for step in range(mapping.range)
    ]
    return list(dict.fromkeys([*exposed(spec, image), *published]))
