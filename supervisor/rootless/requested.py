"""`--uidmap` and `--gidmap`: the language in which a map is asked for, and the map that comes of it.

`[FLAGS]INSIDE:[@]OUTSIDE[:SIZE]`, as in podman-run(1). OUTSIDE is an id of the engine's own namespace: the host's
for root, and for an ordinary user one of the user's namespace, where 0 is the user; with `@` it is the host's for
both. Flags: `u` and `g` have a line concern uids or gids alone, `+` has it replace what earlier lines say of its ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.rootless import intervals
from supervisor.rootless.splitting import split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["LINES_MOST", "Wish", "check", "from_host", "parse", "requested"]

LINES_MOST = 340
"""The kernel's limit for the lines of a map."""
_WISHES_MOST = 1000
"""Lines that may be asked for: neighbours become one line, but each takes time."""
_IDS_END = (1 << 32) - 1
"""The id after the last one."""
_FORM = re.compile(
    r"(?P<flags>[+ug]*)(?P<inside>[0-9]{1,10}):(?P<host>@?)(?P<outside>[0-9]{1,10})(:(?P<size>[0-9]{1,10}))?"
)

_NOTHING = IdMaps()


class Wish(NamedTuple):
    """One line as it was asked for."""

    line: IdRange
    of_host: bool
    extends: bool
    only: str
    """`u`, `g`, or nothing."""


def parse(option: str, text: str) -> Wish:
    """InvalidArgument names the option."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            f"option {option} cannot be '{text}'", hint="it must be [+][u|g]CONTAINER_ID:[@]ID[:SIZE]"
        )
    line = IdRange(int(match["inside"]), int(match["outside"]), int(match["size"] or 1))
    if line.size < 1 or max(line.inside, line.outside) + line.size > _IDS_END:
        raise InvalidArgument(f"option {option} cannot be '{text}': ids go from 0 to {_IDS_END - 1}")
    flags = match["flags"]
    only = "u" if "u" in flags and "g" not in flags else "g" if "g" in flags and "u" not in flags else ""
    return Wish(line, bool(match["host"]), "+" in flags, only)


def requested(
    uids: Sequence[str], gids: Sequence[str], available: IdMaps, *, fill: bool, maps: IdMaps = _NOTHING
) -> IdMaps:
    """The maps that the options describe. Where one of them is not given, the other one's lines hold for both.

    `available`: the map of the engine's own namespace. `fill`: a map that begins with `+` gets all ids that are left
    besides, as an ordinary user's does. `maps`: what is there already (`--subuidname`). InvalidArgument.
    """
    for option, texts in (("--uidmap", uids), ("--gidmap", gids)):
        if len(texts) > _WISHES_MOST:
            raise InvalidArgument(f"cannot use {len(texts)} lines of {option}: {_WISHES_MOST} are possible")
    wished = {
        "u": [parse("--uidmap", text) for text in uids],
        "g": [parse("--gidmap", text) for text in gids],
    }
    for mine, other in (("u", "g"), ("g", "u")):
        if not wished[mine]:
            wished[mine] = wished[other]
    made = {
        "u": _made("u", wished["u"], available.uids, fill, maps.uids),
        "g": _made("g", wished["g"], available.gids, fill, maps.gids),
    }
    # Said of one kind alone: the other one gets everything there is.
    if fill and bool(made["u"]) != bool(made["g"]):
        missing = "g" if made["u"] else "u"
        around = available.gids if made["u"] else available.uids
        made[missing] = intervals.joined(_filled([], around))
    return IdMaps(tuple(made["u"]), tuple(made["g"]))


def _made(
    kind: str, wishes: Sequence[Wish], available: Sequence[IdRange], fill: bool, given: Sequence[IdRange]
) -> list[IdRange]:
    made = list(given)
    fills = False
    for wish in wishes:
        if wish.only not in ("", kind):
            continue
        lines = from_host(kind, wish.line, available) if wish.of_host else [wish.line]
        if wish.extends:
            fills = fills or (fill and not made)
            made = _freed(made, lines)
        made += lines
    return intervals.joined(_filled(made, available) if fills else made)


def from_host(kind: str, line: IdRange, available: Sequence[IdRange]) -> list[IdRange]:
    """The same for a line whose outer ids are the host's. `kind`: u or g. InvalidArgument: not all of them exist
    in the engine's namespace."""
    made: list[IdRange] = []
    for around in available:
        begin = max(line.outside, around.outside)
        end = min(line.outside + line.size, around.outside + around.size)
        if begin < end:
            inside = line.inside + begin - line.outside
            made.append(IdRange(inside, around.inside + begin - around.outside, end - begin))
    missing = intervals.without([range(line.inside, line.inside + line.size)], intervals.insides(made))
    if missing:
        id = line.outside + missing[0].start - line.inside
        raise InvalidArgument(
            f"cannot map the host's {_NAMES[kind]} {id}: it is not among the user's subordinate ids",
            subject=str(id),
            hint=f"see /etc/sub{_NAMES[kind]}",
        )
    return sorted(made)


_NAMES = {"u": "uid", "g": "gid"}


def _freed(lines: Iterable[IdRange], taken: Sequence[IdRange]) -> list[IdRange]:
    """The map without the inner and the outer ids of `taken`."""
    made: list[IdRange] = []
    for line in lines:
        offset = line.outside - line.inside
        rest = intervals.without(intervals.insides([line]), intervals.insides(taken))
        shifted = [range(part.start + offset, part.stop + offset) for part in rest]
        shifted = intervals.without(shifted, intervals.outsides(taken))
        made += [IdRange(part.start - offset, part.start, len(part)) for part in shifted]
    return made


def _filled(lines: Sequence[IdRange], available: Sequence[IdRange]) -> list[IdRange]:
    """With every id that is left over, from the first inner id that has none."""
    free = intervals.without([range(_IDS_END)], intervals.insides(lines))
    rest = intervals.without(intervals.insides(sorted(available)), intervals.outsides(lines))
    return [*lines, *intervals.paired(free, rest)]


def check(maps: IdMaps, available: IdMaps) -> None:
    """InvalidArgument: a map that the kernel would refuse, and why."""
    for kind, lines, around in (("uid", maps.uids, available.uids), ("gid", maps.gids, available.gids)):
        if not lines:
            raise InvalidArgument(
                f"cannot make a user namespace without any {kind}", hint=f"give a --{kind}map"
            )
        # Where the engine's own namespace has several ranges, lines are cut at their ends.
        number = len(split(lines, around))
        if number > LINES_MOST:
            raise InvalidArgument(f"cannot use a map of {number} lines: {LINES_MOST} are possible")
        for what, ids in (
            (f"the container's {kind}", intervals.insides(lines)),
            (f"the {kind}", intervals.outsides(lines)),
        ):
            twice = _twice(ids)
            if twice is not None:
                raise InvalidArgument(f"cannot map {what} {twice} twice", subject=str(twice))
        missing = intervals.without(intervals.outsides(lines), intervals.insides(around))
        if missing:
            id = missing[0].start
            raise InvalidArgument(
                f"cannot map the {kind} {id}: it does not exist in the engine's namespace",
                subject=str(id),
                hint="`pyman unshare cat /proc/self/uid_map` shows an ordinary user's",
            )


def _twice(ids: Iterable[range]) -> int | None:
    """An id that lies in two of the ranges."""
    end = 0
    for each in sorted(ids, key=lambda each: each.start):
        if each.start < end:
            return each.start
        end = each.stop
    return None
