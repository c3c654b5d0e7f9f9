"""The ports that a container says it serves: those of its image, and those asked for with `--expose`.

Nothing follows from them but that they are shown, which ones `--publish-all` means, and what an image that is made of the
container says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.imaged import ImageUse

__all__ = ["check", "exposed", "served"]

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535
_OF_IMAGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


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


def exposed(spec: ContainerSpec, image: ImageUse) -> list[str]:
    """`80/tcp`, sorted by number. What an image says that is no port is left out."""
    found: set[tuple[int, str]] = set()
    for text in image.ports:
        if match := _OF_IMAGE.fullmatch(text):
            first, last = int(match[1]), int(match[2] or match[1])
            protocol = (match[3] or "tcp").lower()
            found.update((port, protocol) for port in range(max(1, first), min(last, _LAST) + 1))
    for port, protocols in spec.expose.items():
        found.update((int(port), protocol.lower() or "tcp") for protocol in protocols.split(","))
    return [f"{port}/{protocol}" for port, protocol in sorted(found)]


def served(spec: ContainerSpec, image: ImageUse) -> list[str]:
    """Those that are published as well."""
    published = [
        f"{mapping.container_port + step}/{mapping.protocol}"
        for mapping in spec.portmappings
        for step in range(mapping.range)
    ]
    return list(dict.fromkeys([*exposed(spec, image), *published]))
