"""Subordinate ids: which ranges /etc/subuid and /etc/subgid give a user, and the map that is made of them.

Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from supervisor.kernel.idmaps import IdRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SUBGID", "SUBUID", "Subordinate", "id_map", "ranges", "read"]

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
_LINE = re.compile(r"(?P<who>[^:#]+):(?P<first>[0-9]{1,10}):(?P<count>[0-9]{1,10})")
_LARGEST = (1 << 32) - 2
"""The last id; the one after it means "no id"."""
_MOST = 1 << 20
"""Bytes of a file that are looked at."""


class Subordinate(NamedTuple):
    """`size` ids from `first` on."""

    first: int
    size: int


def ranges(lines: Iterable[str], name: str, uid: int) -> list[Subordinate]:
    """What belongs to the user, by name or by number, in the order of the lines, each id once. A line that is
    none is passed over, as newuidmap does."""
    found: list[Subordinate] = []
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is None or match["who"] not in (name, str(uid)):
            continue
        first, count = int(match["first"]), int(match["count"])
        count = min(count, _LARGEST + 1 - first)
        taken = any(first < other.first + other.size and other.first < first + count for other in found)
        if count > 0 and not taken:
            found.append(Subordinate(first, count))
    return found


def read(path: str, name: str, uid: int) -> list[Subordinate]:
    """From a file; one that is not there gives nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return ranges(file.read(_MOST).splitlines(), name, uid)
    except OSError:
        return []


def id_map(own: int, subordinate: Sequence[Subordinate]) -> list[IdRange]:
    """The map of a user's namespace: the user is root in it, the subordinate ids follow without a gap."""
    made = [IdRange(0, own, 1)]
    for each in subordinate:
        made.append(IdRange(made[-1].inside + made[-1].size, each.first, each.size))
    return made
