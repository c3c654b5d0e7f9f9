"""The stream of events, which outlives the supervisor.

Where the connection is lost the stream goes on at the next supervisor after the last event it has told:
none is doubled, and what the journal no longer holds is told as a `Gap`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio
import msgspec

from pyman.api.event import SubscribeReply
from pyman.errors import EngineStopped, EngineUnavailable
from pyman.sdk.connection import close_all

if TYPE_CHECKING:
    from pyman.api.event import Event, Gap, Snapshot, SubscribeRequest
    from pyman.sdk.pool import Pool, Stream

__all__ = ["PATIENCE", "Events"]

_METHOD = "io.pyman.Event.Subscribe"
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
PATIENCE = 60.0
"""Seconds to wait for the next supervisor, unless asked otherwise."""


class Events:
    """Iterating gives each `Event`, and a `Gap` where some cannot be told.

    `patience`: seconds without a supervisor after which the iterator raises EngineUnavailable.
    Use it in an `async with` block where the loop may be left early.
    """

    def __init__(self, pool: Pool, request: SubscribeRequest, patience: float) -> None:
        self._pool = pool
        self._request = request
        self._patience = patience
        self._replies: Stream[SubscribeReply] | None = None
        self._begun = False
        self._done = False
        self.journal = request.journal
        """The journal's id; a sequence number means something only together with it."""
        self.seq: int | None = request.since_seq
        """Where the stream stands: the last number that it has told, or that was there when it began."""
        self.snapshot: Snapshot | None = None
        """With `snapshot=True`, once the stream has begun (after `begin`, or the first event)."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._done = True
        self._drop()

    async def begin(self) -> Self:
        """Subscribe now rather than with the first event: whatever happens from here on is told."""
        while self._replies is None and not self._done:
            await self._subscribe()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        while not self._done:
            reply = await self._next_reply()
            if reply is None:
                continue
            if reply.event is not None:
                self.seq = reply.event.seq
                return reply.event
            if reply.gap is not None:
                # Of another journal the numbers begin anew.
                self.seq = 0 if reply.gap.reason == "journal" else reply.gap.last
                return reply.gap
        raise StopAsyncIteration

    async def _next_reply(self) -> SubscribeReply | None:
        """None: look whether to go on."""
        await self.begin()
        if self._replies is None:
            return None
        try:
            answer = await self._replies.next()
        except (EngineUnavailable, EngineStopped):
            self._drop()
            return None
        if answer is None:
            await self.aclose()
            return None
        reply, descriptors = answer
        close_all(descriptors)
        return reply

    async def _subscribe(self) -> None:
        """Until the subscription stands. Pauses between attempts, which grow, are bounded by the patience."""
        deadline = anyio.current_time() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._subscribe_once()
                return
            except (EngineUnavailable, EngineStopped):
                self._drop()
                if anyio.current_time() + pause > deadline or self._done or self._pool.closed:
                    raise
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _subscribe_once(self) -> None:
        self._replies = await self._pool.stream(_METHOD, self._next_request(), SubscribeReply)
        answer = await self._replies.next()
        if answer is None:
            await self.aclose()
            return
        first, descriptors = answer
        close_all(descriptors)
        self._begun = True
        self.journal = first.journal
        if first.snapshot is not None:
            self.snapshot = first.snapshot
            self.seq = first.snapshot.seq
        elif self.seq is None and self._request.stream and self._request.since is None:
            # Nothing of the past was asked for: this is where the stream begins.
            self.seq = first.seq

    def _next_request(self) -> SubscribeRequest:
        if not self._begun or self.seq is None:
            return self._request
        return msgspec.structs.replace(
            self._request, since=None, since_seq=self.seq, journal=self.journal, snapshot=False
        )

    def _drop(self) -> None:
        if self._replies is not None:
            self._replies.close()
            self._replies = None
