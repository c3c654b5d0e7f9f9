"""What layers upon one another show, and what the topmost one changes.

Layers are directories. Where one is looked at upon others it is `0`, and `1` and so on lie below it, the nearest first.
Names are looked up layer by layer, as the overlay does: what a white-out hides, what lies below an opaque directory or
below a file is not there. No link is followed. Standard library only.

The kernel hides a name by a device 0:0 of that name, and what lies below a directory by an attribute of it. fuse-overlayfs
does that, or takes files: `.wh.NAME`, `.wh..wh..opq` in the directory, and beside it a device `.wh..opq`.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OPAQUE", "WHITEOUT", "Below", "Found", "is_opaque", "is_whiteout", "walk"]

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_OPAQUE_DEVICE = b".wh..opq"
_MARKS = ("trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque")


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: bytes) -> bool:
    """By the mark of whichever overlay has made it."""
    for name in _MARKS:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return os.path.lexists(path + b"/" + OPAQUE)


class Below:
    """The directories of lower layers that one directory of the overlay consists of, the nearest first."""

    __slots__ = ("_directories",)

    def __init__(self, directories: list[bytes]) -> None:
        self._directories = directories

    def __bool__(self) -> bool:
        return bool(self._directories)

    def is_as(self, other: Below) -> bool:
        """It consists of the same directories, so nothing in it differs."""
        return self._directories == other._directories

    def names(self) -> set[bytes]:
        """What it may show; `look` says if it does. OSError."""
        return {
            name
            for directory in self._directories
            for name in os.listdir(directory)
            if not name.startswith(WHITEOUT)
        }

    def look(self, name: bytes) -> tuple[os.stat_result | None, bytes, Below]:
        """What it shows by that name, where that can be opened, and, if it is a directory, what that consists of.
        None: nothing. OSError."""
        shown: os.stat_result | None = None
        place = b""
        inner: list[bytes] = []
        for directory in self._directories:
            path = directory + b"/" + name
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                if os.path.lexists(directory + b"/" + WHITEOUT + name):
                    break
                continue
            if is_whiteout(status):
                break
            if shown is None:
                shown, place = status, path
            if not stat.S_ISDIR(status.st_mode):
                break
            inner.append(path)
            if is_opaque(path):
                break
        return shown, place, Below(inner)


class Found:
    """One file of the uppermost layer. `path`: from the layer's root on, without a leading slash."""

    __slots__ = ("below", "opaque", "path", "place", "removed", "shown", "status")

    def __init__(
        self,
        path: bytes,
        place: bytes,
        status: os.stat_result,
        shown: os.stat_result | None,
        below: Below,
        *,
        removed: bool,
    ) -> None:
        self.path = path
        self.removed = removed
        """What the layers below have by that name is hidden, and nothing else there."""
        self.place = place
        """Where it can be opened."""
        self.status = status
        self.shown = shown
        """What the layers below show in its place."""
        self.below = below
        self.opaque = stat.S_ISDIR(status.st_mode) and is_opaque(place)


def walk(top: bytes, below: Below, *, layer: bool) -> Iterator[Found]:
    """Every file below it, directories before what is in them, by name. `layer`: it is an overlay's upper directory, with
    marks of what it hides; else they are files like others. OSError."""
    waiting = [_listed(top, b"", below, layer)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        yield found
        if stat.S_ISDIR(found.status.st_mode):
            inner = Below([]) if found.opaque else found.below
            waiting.append(_listed(found.place, found.path + b"/", inner, layer))


def _listed(directory: bytes, prefix: bytes, below: Below, layer: bool) -> Iterator[Found]:
    hidden: set[bytes] = set()
    for entry in sorted(os.listdir(directory)):
        place = directory + b"/" + entry
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            continue  # it is gone meanwhile
        name = _hidden(entry, status) if layer else b""
        if name is None or name in hidden:
            continue
        if name:
            hidden.add(name)
        shown, _, inner = below.look(name or entry) if below else (None, b"", below)
        yield Found(prefix + (name or entry), place, status, shown, inner, removed=bool(name))


def _hidden(entry: bytes, status: os.stat_result) -> bytes | None:
    """The name that it hides; empty: none. None: it says something of the whole directory."""
    if not entry.startswith(WHITEOUT):
        return entry if is_whiteout(status) else b""
    if entry in (_OPAQUE_DEVICE, WHITEOUT) or entry.startswith(WHITEOUT * 2):
        return None
    return entry[len(WHITEOUT) :]
