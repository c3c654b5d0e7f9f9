"""What an operation tells of its progress, at most about ten times a second, without ever waiting for it to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervisor.registry.exchange import ExchangeEnded
from supervisor.registry.messages import Progress

if TYPE_CHECKING:
    from supervisor.registry.exchange import Exchange

__all__ = ["Reports"]

_INTERVAL = 0.1
"""Seconds between two reports."""


class Reports:
    """`run` is a task of the operation's; nobody else writes to the exchange until `finish` is over."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._count = -1
        self._why = ""
        self._news = trio.Event()
        self._end = trio.Event()
        self._over = trio.Event()

    def bytes(self, count: int) -> None:
        """So many, of the whole blob; the newest number counts."""
        self._count = count
        self._news.set()

    def retrying(self, why: str) -> None:
        self._why = why
        self._news.set()

    async def run(self) -> None:
        try:
            while not self._end.is_set():
                await self._news.wait()
                await self._send()
                with trio.move_on_after(_INTERVAL):
                    await self._end.wait()
            await self._send()
        except ExchangeEnded:
            pass  # who closes it is noticed elsewhere
        finally:
            self._over.set()

    async def _send(self) -> None:
        self._news = trio.Event()
        why, self._why = self._why, ""
        count, self._count = self._count, -1
        if why:
            await self._exchange.send(Progress(retrying=why))
        if count >= 0:
            await self._exchange.send(Progress(count))

    async def finish(self) -> None:
        """Tell the last of it."""
        self._end.set()
        self._news.set()
        await self._over.wait()
