"""Maps of ids between a user namespace and the one around it, as /proc/PID/uid_map and gid_map have them.

Standard library only: the keeper needs it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["OVERFLOW_ID", "IdRange", "count", "of_this_process", "outside", "parse"]

OVERFLOW_ID = 65534
"""What the kernel shows for an id that has no translation."""


class IdRange(NamedTuple):
    """`size` ids from `inside` on are the outer ids from `outside` on."""

    inside: int
    outside: int
    size: int


def parse(text: str) -> tuple[IdRange, ...]:
    """The contents of a map: three numbers a line. ValueError or TypeError, where it is none."""
    return tuple(IdRange(*map(int, line.split())) for line in text.splitlines() if line.strip())


def of_this_process() -> tuple[tuple[IdRange, ...], tuple[IdRange, ...]]:
    """The uid and the gid map of the user namespace that this process is in."""
    with (
        open("/proc/self/uid_map", encoding="ascii") as uids,
        open("/proc/self/gid_map", encoding="ascii") as gids,
    ):
        return parse(uids.read()), parse(gids.read())


def outside(number: int, ranges: Iterable[IdRange]) -> int:
    """The outer id; OVERFLOW_ID if there is none."""
    for each in ranges:
        if each.inside <= number < each.inside + each.size:
            return each.outside + number - each.inside
    return OVERFLOW_ID


def count(ranges: Sequence[IdRange]) -> int:
    """How many ids there are."""
    return sum(each.size for each in ranges)
