"""What goes a while after the last one that has needed it: the next one may come at once, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pyman.errors import PymanError
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["Rest"]

_LENGTH = 1.0
"""Seconds."""


class Rest:
    """`begin` after each one that was the last."""

    def __init__(
        self,
        spawn: Callable[[Callable[[], Awaitable[Any]]], object],
        end: Callable[[], Awaitable[None]],
        name: str,
    ) -> None:
        """`spawn` begins work that lives as long as the engine. `end`: it goes, if nobody needs it. PymanError: some of it is
        there still. `name`: what it is, for people."""
        self._spawn = spawn
        self._end = end
        self._name = name
        self._last = 0.0
        """When somebody has left it."""
        self._is_on = False

    def begin(self) -> None:
        self._last = trio.current_time()
        if not self._is_on:
            self._is_on = True
            self._spawn(self._run)

    async def _run(self) -> None:
        since = -1.0
        while since < self._last:  # somebody may have come, and left
            since = self._last
            await trio.sleep_until(since + _LENGTH)
        self._is_on = False
        try:
            await self._end()
        except PymanError as error:
            log.warning(f"cannot end {self._name}", error=str(error))
