"""The program that tells how one tree differs from another, each of which layers upon one another show: `diff` of two
images that are not built upon one another.

`python -m supervisor.archive.comparison`, started by `jobs.compare`. It sees nothing but the layers, read-only. Nothing
is mounted over one another, and of a file nothing is read but what the file system says of it: what has the same size
and the same time counts as the same.
"""

from __future__ import annotations

import os
import stat
import sys

from supervisor.archive import confinement, program
from supervisor.archive.layering import Below
from supervisor.archive.telling import Telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CAPABILITY = "security.capability"
_OF_OVERLAYS = ("user.overlay.", "user.fuseoverlayfs.")


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What the tree `new` has changed, added and deleted, in the words of `Changes`."""
    directories = [*dict.fromkeys((*job["new"], *job["old"]))]
    confinement.views(directories, confinement.READING_MARKS)
    places = {path: b"/%d" % number for number, path in enumerate(directories)}
    new, old = (Below([places[path] for path in job[tree]]) for tree in ("new", "old"))
    told = Telling()
    owners = _Owners({places[path]: maps for path, maps in job["shifted"].items()})
    unseen = {os.fsencode(path).strip(b"/") for path in job["exclude"]}
    for kind, path, directory in _differences(new, old, owners):
        if path in unseen:
            continue
        told.within(path)
        told.tell(kind, path, directory=directory)
    return told.found()


class _Owners:
    """Of files, as the containers see them whose layers they lie in."""

    def __init__(self, shifted: dict[bytes, list[list[list[int]]]]) -> None:
        self._shifted = shifted

    def of(self, status: os.stat_result, place: bytes) -> tuple[int, int]:
        maps = self._shifted.get(place[: place.index(b"/", 1)]) if self._shifted else None
        if maps is None:
            return status.st_uid, status.st_gid
        return _inside(status.st_uid, maps[0]), _inside(status.st_gid, maps[1])


def _inside(number: int, ranges: list[list[int]]) -> int:
    for first, own, size in ranges:
        if own <= number < own + size:
            return first + number - own
    return number


def _differences(new: Below, old: Below, owners: _Owners) -> Iterator[tuple[str, bytes, bool]]:
    """The kind, the path, and whether it is a directory now; directories before what is in them. What lies in a
    directory that is gone, or has become something else, is not told."""
    waiting = [(b"", new, old)]
    while waiting:
        prefix, new, old = waiting.pop()
        if new.is_as(old):
            continue
        for name in sorted(new.names() | old.names()):
            path = prefix + name
            status, place, inner = new.look(name)
            former, former_place, former_inner = old.look(name)
            if status is None:
                if former is not None:
                    yield "deleted", path, False
                continue
            directory = stat.S_ISDIR(status.st_mode)
            if former is None:
                yield "added", path, directory
            elif place != former_place and (
                owners.of(status, place) != owners.of(former, former_place)
                or _differ(status, place, former, former_place)
            ):
                yield "changed", path, directory
            if directory:
                waiting.append((path + b"/", inner, former_inner))


def _differ(one: os.stat_result, place: bytes, other: os.stat_result, other_place: bytes) -> bool:
    return (
        _facts(one) != _facts(other)
        or not _same_time(one.st_mtime_ns, other.st_mtime_ns)
        or (stat.S_ISLNK(one.st_mode) and os.readlink(place) != os.readlink(other_place))
        or _attributes(place) != _attributes(other_place)
    )


def _facts(status: os.stat_result) -> tuple[int, ...]:
    # The size of a directory is that of its file system.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, status.st_rdev, size


def _same_time(one: int, other: int) -> bool:
    """In nanoseconds. Most archives know whole seconds alone."""
    billion = 1_000_000_000
    return one == other or (one // billion == other // billion and 0 in (one % billion, other % billion))


def _attributes(place: bytes) -> dict[str, bytes]:
    """Capabilities, and what users keep."""
    try:
        names = os.listxattr(place, follow_symlinks=False)
    except OSError:
        return {}  # a file system without them
    return {
        name: os.getxattr(place, name, follow_symlinks=False)
        for name in names
        if name == _CAPABILITY or (name.startswith("user.") and not name.startswith(_OF_OVERLAYS))
    }


if __name__ == "__main__":
    sys.exit(program.main(work, "tell the differences"))
