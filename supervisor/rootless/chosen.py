"""The maps of `--userns keep-id`, `nomap` and `auto`, and of `--subuidname`. Pure functions.

An ordinary user's namespace has the user as 0, and the subordinate ids after that. Root's is the host's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.rootless import intervals
from supervisor.rootless.requested import from_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor.rootless.subids import Subordinate

__all__ = ["automatic", "keep_id", "no_map", "of_name", "pool_of_user"]


def keep_id(uid: int, gid: int, available: IdMaps, most: int = 0) -> IdMaps:
    """The user is `uid` and `gid` in the container; the subordinate ids are the ids around. `most`: ids that the
    namespace has at most; 0: as many as there are."""
    return IdMaps(_kept(uid, available.uids, most), _kept(gid, available.gids, most))


def _kept(own: int, available: Sequence[IdRange], most: int) -> tuple[IdRange, ...]:
    others = _subordinate(available)
    number = intervals.size(others)
    if most:
        number = min(number, most - 1)
    below = min(own, number)
    inner = [each for each in (range(below), range(own + 1, own + 1 + number - below)) if each]
    return tuple(intervals.joined([IdRange(own, 0, 1), *intervals.paired(inner, others)]))


def no_map(available: IdMaps) -> IdMaps:
    """All ids but the user's own. InvalidArgument: there are no others."""
    made = IdMaps(*(tuple(intervals.paired([range(1 << 32)], _subordinate(lines))) for lines in available))
    if not made.uids or not made.gids:
        raise InvalidArgument(
            "cannot use --userns nomap: the user has no subordinate ids",
            hint="see /etc/subuid and /etc/subgid",
        )
    return made


def _subordinate(available: Sequence[IdRange]) -> list[range]:
    return intervals.without(intervals.insides(sorted(available)), [range(1)])


def pool_of_user(available: IdMaps) -> tuple[list[range], list[range]]:
    """The subordinate uids and gids of an ordinary user."""
    return _subordinate(available.uids), _subordinate(available.gids)


def automatic(
    size: int, pool: tuple[Sequence[range], Sequence[range]], taken: Iterable[IdMaps], fixed: IdMaps
) -> IdMaps:
    """A namespace of `size` ids from the pools of uids and gids that no other one has. `fixed`: lines that are
    wanted in any case. InvalidArgument: there are not so many left."""
    used = list(taken)
    return IdMaps(
        _automatic("uids", size, pool[0], [maps.uids for maps in used], fixed.uids),
        _automatic("gids", size, pool[1], [maps.gids for maps in used], fixed.gids),
    )


def _automatic(
    what: str,
    size: int,
    pool: Sequence[range],
    taken: Sequence[Sequence[IdRange]],
    fixed: Sequence[IdRange],
) -> tuple[IdRange, ...]:
    wanted = intervals.without([range(size)], intervals.insides(fixed))
    free = intervals.without(pool, intervals.outsides(fixed))
    for lines in taken:
        free = intervals.without(free, intervals.outsides(lines))
    number = intervals.size(wanted)
    found = intervals.first(free, number)
    if found is None:
        raise InvalidArgument(
            f"cannot find {number} free {what} for --userns auto: {intervals.size(free)} are left",
            hint="give a smaller size=; containers with keep-id or nomap have all that there are, unless given a size",
        )
    return tuple(intervals.joined([*intervals.paired(wanted, found), *fixed]))


def of_name(uids: Sequence[Subordinate], gids: Sequence[Subordinate], available: IdMaps) -> IdMaps:
    """The subordinate ids of a name from 0 on, range after range, in the engine's own ids. InvalidArgument: ids that
    are not the user's to map."""
    return IdMaps(_listed("u", uids, available.uids), _listed("g", gids, available.gids))


def _listed(kind: str, ranges: Sequence[Subordinate], available: Sequence[IdRange]) -> tuple[IdRange, ...]:
    made: list[IdRange] = []
    begin = 0
    for each in ranges:
        made += from_host(kind, IdRange(begin, each.first, each.size), available)
        begin += each.size
    return tuple(intervals.joined(made))
