"""What is told of a transfer while it lasts: the present state of each blob, and lines for people.

A `Board` has the latest state of every blob, not what happened one after the other: whoever reads slowly gets what is
true now, and nothing piles up. Lines are few and all are told. Any number of clients may read one board, each from
its beginning: one that comes late sees first how far it has got.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pyman.api.image import Progress

__all__ = ["INTERVAL", "Board"]

INTERVAL = 0.1
"""Seconds between two reports of one blob to one client."""
_LINES = 1000
"""Lines that are kept for one that comes late."""

_first = itemgetter(0)


class Board:
    """One for a transfer. What is noted is seen by all readers; `close` ends them."""

    def __init__(self) -> None:
        self._states: dict[str, Progress] = {}
        self._versions: dict[str, int] = {}
        self._version = 0
        self._lines: list[tuple[int, str]] = []
        self._dropped = 0
        self._ended = trio.Event()
        self._changed = trio.Event()

    def note(self, progress: Progress) -> None:
        """The present state of a blob."""
        if self._states.get(progress.digest) == progress:
            return
        self._states[progress.digest] = progress
        self._touch(progress.digest)

    def say(self, line: str) -> None:
        """A line for people."""
        self._touch("")
        self._lines.append((self._version, line))
        if len(self._lines) > _LINES:
            del self._lines[0]
            self._dropped += 1

    def close(self) -> None:
        """Nothing more comes; what readers have not seen yet they still get."""
        self._ended.set()
        self._changed.set()

    def _touch(self, digest: str) -> None:
        self._version += 1
        self._versions[digest] = self._version
        self._changed.set()

    async def wait_closed(self) -> None:
        await self._ended.wait()

    async def read(self) -> AsyncGenerator[Progress | str, None]:
        """What is there and what comes, in its order, until the board is closed. At most one state of a blob in
        `INTERVAL`."""
        seen, line = 0, 0
        while True:
            if self._changed.is_set():
                self._changed = trio.Event()
            # Before anything is told: what changes meanwhile wakes this reader again.
            changed, ended, upto = self._changed, self._ended.is_set(), self._version
            line = max(line, self._dropped)
            told: list[tuple[int, Progress | str]] = list(self._lines[line - self._dropped :])
            line += len(told)
            told += [
                (version, self._states[digest])
                for digest, version in self._versions.items()
                if digest and version > seen
            ]
            for _version, one in sorted(told, key=_first):
                yield one
            seen = upto
            if ended:
                return
            await self._wait(changed)

    async def _wait(self, changed: trio.Event) -> None:
        if not self._ended.is_set():
            await changed.wait()
            with trio.move_on_after(INTERVAL):
                await self._ended.wait()
