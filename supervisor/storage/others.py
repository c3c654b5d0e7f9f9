"""What other engines on the same store have: the records that containers/storage keeps of containers.

Read without their lock: the files are replaced as a whole.
"""

from __future__ import annotations

import msgspec

from supervisor.kernel.idmaps import IdMaps, IdRange

__all__ = ["maps_of_others"]

_FILES = ("containers.json", "volatile-containers.json")
_MOST = 64 << 20
"""Bytes of a file that are looked at."""


class _Line(msgspec.Struct):
    container_id: int
    host_id: int
    size: int


class _Container(msgspec.Struct):
    uidmap: list[_Line] | None = None
    gidmap: list[_Line] | None = None


_decoder = msgspec.json.Decoder(list[_Container] | None)


def maps_of_others(graph_root: str) -> list[IdMaps]:
    """The id maps of their containers. A file that is none of theirs counts as empty."""
    found: list[IdMaps] = []
    for name in _FILES:
        try:
            with open(f"{graph_root}/overlay-containers/{name}", "rb") as file:
                containers = _decoder.decode(file.read(_MOST)) or []
        except (OSError, msgspec.DecodeError):
            continue
        found += [IdMaps(_ranges(each.uidmap), _ranges(each.gidmap)) for each in containers]
    return found


def _ranges(lines: list[_Line] | None) -> tuple[IdRange, ...]:
    return tuple(IdRange(line.container_id, line.host_id, line.size) for line in lines or () if line.size > 0)
