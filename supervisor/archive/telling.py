"""Changes as they are told: by kind and path, with every directory in which something comes or goes."""

from __future__ import annotations

import os

from pyman.errors import StorageFailed

__all__ = ["Telling"]

_LIMIT = 32 << 20
"""Bytes of all the names that are told."""


class Telling:
    """Paths are told directories before what is in them, without a leading slash."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {"changed": [], "added": [], "deleted": []}
        self._told: set[bytes] = set()
        """Directories."""
        self._size = 0

    def tell(self, kind: str, path: bytes, *, directory: bool) -> None:
        """`kind`: changed, added or deleted. StorageFailed: the names are too many."""
        if kind != "changed":
            self.within(path)
        if directory:
            self._told.add(path)
        self._add(kind, path)

    def within(self, path: bytes) -> None:
        """Every directory above has changed as well, even if it looks the same."""
        parent = os.path.dirname(path)
        while parent:
            if parent not in self._told:
                self._told.add(parent)
                self._add("changed", parent)
            parent = os.path.dirname(parent)

    def found(self) -> dict[str, list[str]]:
        """In the words of `jobs.Changes`."""
        return {kind: sorted(names) for kind, names in self._found.items()}

    def _add(self, kind: str, path: bytes) -> None:
        self._size += len(path)
        if self._size > _LIMIT:
            raise StorageFailed(f"cannot tell the changes: their names have more than {_LIMIT} bytes")
        self._found[kind].append("/" + path.decode("utf-8", "replace"))
