"""Sets of ids as lists of ranges, and id maps made by laying two of them side by side. Pure functions.

Ranges are Python's own, with step 1 and at least one id. A list of them keeps its order: ids are given out in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.kernel.idmaps import IdRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["first", "insides", "joined", "outsides", "paired", "size", "without"]


def size(ids: Iterable[range]) -> int:
    """How many ids there are."""
    return sum(len(each) for each in ids)


def insides(lines: Iterable[IdRange]) -> list[range]:
    """The inner ids of a map."""
    return [range(line.inside, line.inside + line.size) for line in lines]


def outsides(lines: Iterable[IdRange]) -> list[range]:
    """The outer ids of a map."""
    return [range(line.outside, line.outside + line.size) for line in lines]


def without(ids: Iterable[range], taken: Iterable[range]) -> list[range]:
    """What is in `ids` and not in `taken`, in the order of `ids`."""
    left = list(ids)
    for hole in taken:
        left = [
            part
            for each in left
            for part in (
                range(each.start, min(each.stop, hole.start)),
                range(max(each.start, hole.stop), each.stop),
            )
            if part
        ]
    return left


def first(ids: Iterable[range], number: int) -> list[range] | None:
    """So many ids: all of them in one piece where there is one of that length, else from the front. None: there
    are not so many."""
    pieces = list(ids)
    if not number:
        return []
    for each in pieces:
        if len(each) >= number:
            return [each[:number]]
    found: list[range] = []
    for each in pieces:
        found.append(each[:number])
        number -= len(found[-1])
        if not number:
            return found
    return None


def paired(inner: Iterable[range], outer: Iterable[range]) -> list[IdRange]:
    """The first inner id to the first outer one and so on, for as long as there are both."""
    made: list[IdRange] = []
    inside, outside = iter(inner), iter(outer)
    here, there = next(inside, range(0)), next(outside, range(0))
    while here and there:
        number = min(len(here), len(there))
        made.append(IdRange(here.start, there.start, number))
        here = here[number:] or next(inside, range(0))
        there = there[number:] or next(outside, range(0))
    return made


def joined(lines: Iterable[IdRange]) -> list[IdRange]:
    """The same map in as few lines as can be, in the order of the inner ids."""
    made: list[IdRange] = []
    for line in sorted(lines):
        last: Sequence[IdRange] = made[-1:]
        if last and (last[0].inside + last[0].size, last[0].outside + last[0].size) == line[:2]:
            made[-1] = last[0]._replace(size=last[0].size + line.size)
        else:
            made.append(line)
    return made
