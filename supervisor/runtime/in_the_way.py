"""Containers that use what is to be removed by force: they go first, side by side, since each may take its time to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from pyman.errors import PymanError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["remove_all"]

_AT_ONCE = 32


class _User(Protocol):
    @property
    def id(self) -> str: ...


async def remove_all(
    users: Callable[[], Sequence[_User]], remove: Callable[[str], Awaitable[object]]
) -> None:
    """`users`: those there are now; `remove`: one, by its id. Who comes meanwhile stays. PymanError: of the first that could
    not be removed; one that others of them need is tried again when these are gone."""
    limiter = trio.CapacityLimiter(_AT_ONCE)
    failures: list[PymanError] = []

    async def one(id: str) -> None:
        async with limiter:
            try:
                await remove(id)
            except PymanError as error:
                failures.append(error)

    left = {user.id for user in users()}
    while left:
        tried = left
        failures.clear()
        async with trio.open_nursery() as nursery:
            for id in sorted(left):
                nursery.start_soon(one, id)
        left = tried & {user.id for user in users()} if failures else set()
        if left == tried:
            raise failures[0]
