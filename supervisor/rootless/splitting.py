"""Maps for a container within a user namespace that has holes outside.

An id map's line has to lie within one line of the namespace around it. What is asked for does not care, so it
is cut where those end.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from supervisor.kernel.idmaps import IdRange

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["split"]


def split(wanted: Sequence[IdRange], available: Sequence[IdRange]) -> list[IdRange]:
    """The same map in lines that the kernel takes. `available`: the map of the namespace around, whose inner ids
    are the outer ones of `wanted`; in any order, and left as it is.

    Where an id is not available, `wanted` comes back unchanged: whoever writes it is told why.
    """
    around = sorted(available)
    starts = [each.inside for each in around]
    made: list[IdRange] = []
    for line in wanted:
        rest = line
        while rest.size > 0:
            place = bisect_right(starts, rest.outside) - 1
            left = around[place].inside + around[place].size - rest.outside if place >= 0 else 0
            if left <= 0:
                return list(wanted)
            made.append(rest._replace(size=min(rest.size, left)))
            done = made[-1].size
            rest = IdRange(rest.inside + done, rest.outside + done, rest.size - done)
    return made
