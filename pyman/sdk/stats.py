"""What containers use, told again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pyman.api.watching import StatsReply

if TYPE_CHECKING:
    from pyman.api.watching import ContainerStats, StatsRequest
    from pyman.sdk.pool import Pool, Stream

__all__ = ["Stats"]

_METHOD = "io.pyman.Container.Stats"


class Stats:
    """Iterating gives a list at every interval: what each container uses. It ends with the supervisor
    (EngineUnavailable), and with a container that was asked for by its name (NoSuchContainer).
    Use it in an `async with` block where the loop may be left early.
    """

    def __init__(self, pool: Pool, request: StatsRequest) -> None:
        self._pool = pool
        self._request = request
        self._replies: Stream[StatsReply] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._replies is not None:
            self._replies.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ContainerStats]:
        if self._replies is None:
            self._replies = await self._pool.stream(_METHOD, self._request, StatsReply)
        answer = await self._replies.next()
        if answer is None:
            raise StopAsyncIteration
        return answer[0].stats
