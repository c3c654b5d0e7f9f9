"""What the layers below a directory of an overlay show of it, and what the topmost one changes.

Layers are directories: `0` is the uppermost, whose files are looked at, `1` and so on lie below it, the nearest first.
Names are looked up layer by layer, as the overlay does: what a white-out hides, what lies below an opaque directory or
below a file is not there. No link is followed. Standard library only.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Below", "Found", "is_opaque", "is_whiteout", "walk"]

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: bytes) -> bool:
    """By the mark of whichever overlay has made it."""
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


class Below:
    """The directories of lower layers that one directory of the overlay consists of, the nearest first."""

    __slots__ = ("_directories",)

    def __init__(self, directories: list[bytes]) -> None:
        self._directories = directories

    def __bool__(self) -> bool:
        return bool(self._directories)

    def look(self, name: bytes) -> tuple[os.stat_result | None, Below]:
        """What it shows by that name, and, if that is a directory, what that consists of. None: nothing."""
        shown: os.stat_result | None = None
        inner: list[bytes] = []
        for directory in self._directories:
            path = directory + b"/" + name
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if is_whiteout(status):
                break
            shown = shown or status
            if not stat.S_ISDIR(status.st_mode):
                break
            inner.append(path)
            if is_opaque(path):
                break
        return shown, Below(inner)


class Found:
    """One file of the uppermost layer. `path`: from the layer's root on, without a leading slash."""

    __slots__ = ("below", "opaque", "path", "place", "shown", "status")

    def __init__(
        self, path: bytes, place: bytes, status: os.stat_result, shown: os.stat_result | None, below: Below
    ) -> None:
        self.path = path
        self.place = place
        """Where it can be opened."""
        self.status = status
        self.shown = shown
        """What the layers below show in its place."""
        self.below = below
        self.opaque = stat.S_ISDIR(status.st_mode) and is_opaque(place)


def walk(top: bytes, below: Below) -> Iterator[Found]:
    """Every file below it, directories before what is in them, by name. OSError."""
    waiting = [_listed(top, b"", below)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        yield found
        if stat.S_ISDIR(found.status.st_mode):
            inner = Below([]) if found.opaque else found.below
            waiting.append(_listed(found.place, found.path + b"/", inner))


def _listed(directory: bytes, prefix: bytes, below: Below) -> Iterator[Found]:
    for name in sorted(os.listdir(directory)):
        place = directory + b"/" + name
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            continue  # it is gone meanwhile
        shown, inner = below.look(name) if below else (None, below)
        yield Found(prefix + name, place, status, shown, inner)
