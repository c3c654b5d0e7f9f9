"""The members of a tar archive as `Files`: found once, read where they lie.

Links between members are followed as names within the archive, a few of them and never in a circle: nothing on the
disk is reached through them. Of two members with one name the last counts, as with programs that unpack.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pyman.errors import StorageFailed
from supervisor.archive.feed import Feed
from supervisor.images.transports.folder import Files, absent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from supervisor.archive.jobs import Part

__all__ = ["Archived"]

_HOPS = 8
"""Links from one member to the next."""


class Archived(Files):
    """`fd`: the archive, regular and not compressed; it stays the caller's."""

    def __init__(self, name: str, fd: int, members: Iterable[Part]) -> None:
        self.name = name
        self._fd = fd
        self._members = {_clean(each.name): each for each in members}

    def find(self, member: str) -> Part | None:
        """The regular file that the name means in the end."""
        name = _clean(member)
        for _ in range(_HOPS):
            found = self._members.get(name)
            if found is None or found.kind == "file":
                return found
            if found.kind == "symlink":
                name = _clean(posixpath.join(posixpath.dirname(name), found.target))
            elif found.kind == "link":
                name = _clean(found.target)
            else:
                return None
        return None

    def names(self) -> list[str]:
        """Of all members, links among them."""
        return list(self._members)

    async def size(self, member: str) -> int:
        found = self.find(member)
        return -1 if found is None else found.size

    @asynccontextmanager
    async def open(self, member: str) -> AsyncIterator[Feed]:
        found = self.find(member)
        if found is None:
            raise absent(self.name, member)
        if self._fd < 0:
            raise StorageFailed(f"cannot read '{self.name}': it is closed", subject=self.name)
        # Of its own: a layer that others wait for, too, is read on when the archive is let go.
        fd = os.dup(self._fd)
        try:
            yield Feed(fd, found.offset, found.size)
        finally:
            os.close(fd)

    async def aclose(self) -> None:
        """Nothing more of it can be opened."""
        self._fd = -1


def _clean(name: str) -> str:
    """As members are compared: `./a//b/` is `a/b`. What leads out of the archive finds nothing there."""
    return posixpath.normpath(name).removeprefix("./")
