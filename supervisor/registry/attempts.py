"""One operation at several places, again and again until it succeeds or nothing more can be hoped for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from supervisor.registry.retrying import delay_before
from supervisor.registry.session import Session
from supervisor.registry.trouble import Trouble, combined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from supervisor.registry.messages import Context, Endpoint
    from supervisor.registry.session import Pool

__all__ = ["Attempts"]

T = TypeVar("T")


class Attempts:
    """`tell`: hears why something is tried again."""

    def __init__(
        self,
        pool: Pool,
        context: Context,
        endpoints: Sequence[Endpoint],
        doing: str,
        tell: Callable[[str], None],
    ) -> None:
        self._context = context
        self._doing = doing
        self._tell = tell
        self._sessions = [Session(pool, context, endpoint, doing) for endpoint in endpoints]
        self._failed = 0

    def progressed(self) -> None:
        """What was achieved since is worth as many attempts as there were at first."""
        self._failed = 0

    async def first(self, attempt: Callable[[int, Session], Awaitable[T]]) -> T:
        """What the first place answers that does. Raises the error of all of them together.

        The places are asked one after the other; only when all have failed is there a pause.
        """
        while True:
            tried: list[tuple[str, Trouble]] = []
            for number, session in enumerate(self._sessions):
                try:
                    return await attempt(number, session)
                except Trouble as trouble:
                    tried.append((f"{session.registry}/{session.path}", trouble))
            troubles = [trouble for _, trouble in tried]
            error = combined(self._doing, tried)
            if self._failed >= self._context.retry or not any(trouble.transient for trouble in troubles):
                raise error
            self._failed += 1
            wished = [trouble.wished for trouble in troubles if trouble.wished is not None]
            self._tell(error.message)
            await trio.sleep(
                delay_before(self._failed, self._context.retry_delay, min(wished) if wished else None)
            )

    async def last(self, attempt: Callable[[int, Session], Awaitable[T]]) -> T:
        """At the last place alone, which is the registry itself and no mirror."""
        self._sessions = self._sessions[-1:]
        return await self.first(attempt)
