"""Maps of ids between a user namespace and the one around it, as /proc/PID/uid_map and gid_map have them.

Standard library only: the keeper needs it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "OVERFLOW_ID",
    "IdMaps",
    "IdRange",
    "count",
    "has_inside",
    "has_outside",
    "inside",
    "of_process",
    "of_this_process",
    "outside",
    "parse",
]

OVERFLOW_ID = 65534
"""What the kernel shows for an id that has no translation."""


class IdRange(NamedTuple):
    """`size` ids from `inside` on are the outer ids from `outside` on."""

    inside: int
    outside: int
    size: int


class IdMaps(NamedTuple):
    """The maps of one user namespace. Empty: it is the one around."""

    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()


def parse(text: str) -> tuple[IdRange, ...]:
    """The contents of a map: three numbers a line. ValueError or TypeError, where it is none."""
    return tuple(IdRange(*map(int, line.split())) for line in text.splitlines() if line.strip())


def of_this_process() -> IdMaps:
    """The maps of the user namespace that this process is in."""
    return of_process("self")


def of_process(pid: int | str) -> IdMaps:
    """The maps of the user namespace of a process, as seen from here. OSError: it has ended."""
    with (
        open(f"/proc/{pid}/uid_map", encoding="ascii") as uids,
        open(f"/proc/{pid}/gid_map", encoding="ascii") as gids,
    ):
        return IdMaps(parse(uids.read()), parse(gids.read()))


def has_inside(number: int, ranges: Iterable[IdRange]) -> bool:
    """There is an outer id for this inner one. `outside` does not tell: OVERFLOW_ID is an id like others, too."""
    return any(each.inside <= number < each.inside + each.size for each in ranges)


def has_outside(number: int, ranges: Iterable[IdRange]) -> bool:
    """There is an inner id for this outer one."""
    return any(each.outside <= number < each.outside + each.size for each in ranges)


def outside(number: int, ranges: Iterable[IdRange]) -> int:
    """The outer id; OVERFLOW_ID if there is none."""
    for each in ranges:
        if each.inside <= number < each.inside + each.size:
            return each.outside + number - each.inside
    return OVERFLOW_ID


def inside(number: int, ranges: Iterable[IdRange]) -> int:
    """The inner id of an outer one; OVERFLOW_ID if there is none."""
    for each in ranges:
        if each.outside <= number < each.outside + each.size:
            return each.inside + number - each.outside
    return OVERFLOW_ID


def count(ranges: Sequence[IdRange]) -> int:
    """How many ids there are."""
    return sum(each.size for each in ranges)
