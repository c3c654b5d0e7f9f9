"""Mounts that show files with other owners (`idmap`): which, and made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import idmaps
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.kernel.userns import with_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.oci.request import UserNamespace

__all__ = ["maps_for", "namespace_with", "parse"]

_LINES = 340
"""The most of a map, as the kernel has it."""
_IDS = (1 << 32) - 2


def parse(option: str, where: str) -> dict[str, list[tuple[IdRange, bool]]]:
    """`idmap`, or `idmap=uids=0-1-10#10-11-10;gids=…`: the lines of `uids` and `gids`, each with whether its ids are those
    of the container's user namespace (`@`). The first number of a line is an id on the disk. InvalidArgument."""
    found: dict[str, list[tuple[IdRange, bool]]] = {}
    _, equals, text = option.partition("=")
    if not equals:
        return found
    for part in text.split(";"):
        key, _, lines = part.partition("=")
        if key not in ("uids", "gids") or key in found:
            raise _refused(option, where, f"'{part}' is neither uids=… nor gids=…")
        found[key] = [_line(option, where, line) for line in lines.split("#")]
        if len(found[key]) > _LINES:
            raise _refused(option, where, f"a map has {_LINES} lines at most")
    if set(found) != {"uids", "gids"}:
        raise _refused(option, where, "uids and gids go together")
    return found


def _refused(option: str, where: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot mount '{where}' with '{option}': {reason}",
        hint="it looks like idmap=uids=0-1000-10;gids=0-1000-10",
    )


def _line(option: str, where: str, text: str) -> tuple[IdRange, bool]:
    numbers = text.removeprefix("@").split("-")
    if len(numbers) != 3 or not all(n.isascii() and n.isdecimal() and len(n) <= 10 for n in numbers):
        raise _refused(option, where, f"'{text}' is not three numbers such as 0-1000-10")
    line = IdRange(*map(int, numbers))
    if not line.size or max(line.inside, line.outside) + line.size - 1 > _IDS:
        raise _refused(option, where, f"'{text}' has no ids, or more than there are")
    return line, text.startswith("@")


def maps_for(option: str, where: str, space: UserNamespace | None) -> IdMaps:
    """From ids on the disk to ids of the host. `space`: the container's user namespace. InvalidArgument: there is none,
    and the option needs one."""
    described = parse(option, where)
    if not described:
        if space is None:
            raise InvalidArgument(
                f"cannot mount '{where}' with 'idmap': the container has no user namespace of its own",
                hint="give --userns or --uidmap, or a map: idmap=uids=…;gids=…",
            )
        return space.maps
    outer = IdMaps() if space is None else space.maps
    uids = [_relative(line, of_container, outer.uids) for line, of_container in described["uids"]]
    gids = [_relative(line, of_container, outer.gids) for line, of_container in described["gids"]]
    return IdMaps(tuple(uids), tuple(gids))


def _relative(line: IdRange, of_container: bool, outer: Sequence[IdRange]) -> IdRange:
    if not of_container or not outer:
        return line
    return line._replace(outside=idmaps.outside(line.outside, outer))


async def _opened(maps: IdMaps) -> int:
    async with with_maps(maps) as descriptor:
        return os.dup(descriptor)


def namespace_with(maps: IdMaps, where: str) -> int:
    """A descriptor of a user namespace with these maps. In a thread of the event loop's. NotSupported."""
    try:
        return trio.from_thread.run(_opened, maps)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NotSupported(
            f"cannot mount '{where}' with 'idmap': no such map can be made: {reason}"
        ) from error
