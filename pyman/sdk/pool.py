"""The connections of one client: each call has one for itself, and idle ones are used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

import msgspec

from pyman.errors import EngineUnavailable, ProtocolError
from pyman.sdk.connection import StaleConnection, close_all, open_connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyman.sdk.connection import Connection, Reply

__all__ = ["Pool", "Stream"]

_IDLE_LIMIT = 8
"""Idle connections kept open; more are closed after their call."""

T = TypeVar("T", bound=msgspec.Struct)


class Pool:
    """Makes connections to the socket at `path`. `start` brings up a supervisor where none answers."""

    def __init__(self, path: str, start: Callable[[], Awaitable[None]] | None = None) -> None:
        self.path = path
        self._start = start
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self.closed = False

    async def prepare(self) -> None:
        """Open the first connection, so that a missing supervisor shows at once."""
        self._idle.append(await self._open())

    def close(self) -> None:
        """Every connection; calls under way end with EngineUnavailable."""
        self.closed = True
        for connection in list(self._all):
            connection.close()
        self._all.clear()
        self._idle.clear()

    async def call(
        self, method: str, request: msgspec.Struct, kind: type[T], descriptors: Sequence[int] = ()
    ) -> T:
        """One call and its only reply. Raises what the supervisor raised, or EngineUnavailable."""
        reply, brought = await self.call_for_descriptors(method, request, kind, descriptors)
        close_all(brought)
        return reply

    async def call_for_descriptors(
        self, method: str, request: msgspec.Struct, kind: type[T], descriptors: Sequence[int] = ()
    ) -> tuple[T, list[int]]:
        """As `call`, with the descriptors that the reply brings, which are the caller's."""
        connection = await self._begin(method, request, more=False, descriptors=descriptors)
        try:
            reply = await connection.receive()
            if reply.continues:
                reply.close()
                connection.close()
                raise ProtocolError(f"cannot use the answer to {method}: it goes on without being asked to")
            try:
                return reply.decode(kind), reply.descriptors
            except BaseException:
                reply.close()
                raise
        finally:
            self.give(connection)

    async def stream(
        self, method: str, request: msgspec.Struct, kind: type[T], descriptors: Sequence[int] = ()
    ) -> Stream[T]:
        """One call and its replies."""
        connection = await self._begin(method, request, more=True, descriptors=descriptors)
        return Stream(self, connection, kind)

    async def _begin(
        self, method: str, request: msgspec.Struct, *, more: bool, descriptors: Sequence[int]
    ) -> Connection:
        while True:
            connection, fresh = await self._take()
            try:
                await connection.send(method, request, more=more, descriptors=descriptors)
            except StaleConnection as error:
                # Closed while it was idle, by a supervisor that has ended since: nothing was sent.
                self.give(connection)
                if fresh:
                    raise EngineUnavailable(f"cannot call {method}: {error.__cause__}") from error
            except BaseException:
                self.give(connection)
                raise
            else:
                return connection

    async def _take(self) -> tuple[Connection, bool]:
        if self.closed:
            raise EngineUnavailable("cannot call the supervisor: the client was closed")
        if self._idle:
            return self._idle.pop(), False
        return await self._open(), True

    async def _open(self) -> Connection:
        try:
            connection = await open_connection(self.path)
        except EngineUnavailable:
            if self._start is None:
                raise
            await self._start()
            connection = await open_connection(self.path)
        self._all.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Take a connection back; one on which a call is not finished is closed."""
        if connection.idle and not self.closed and len(self._idle) < _IDLE_LIMIT:
            self._idle.append(connection)
            return
        connection.close()
        self._all.discard(connection)


class Stream(Generic[T]):
    """The replies of one call. Closing it before the last gives the call up."""

    def __init__(self, pool: Pool, connection: Connection, kind: type[T]) -> None:
        self._pool = pool
        self._kind = kind
        self._connection: Connection | None = connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        return self._connection is None

    def fileno(self) -> int:
        """To be watched for input; -1: finished."""
        return -1 if self._connection is None else self._connection.fileno()

    async def next(self) -> tuple[T, list[int]] | None:
        """The next reply and its descriptors, which are the caller's; none: there are no more."""
        if self._connection is None:
            return None
        try:
            reply = await self._connection.receive()
        except BaseException:
            self.close()
            raise
        return self._decoded(reply)

    def next_nowait(self) -> tuple[T, list[int]] | None:
        """The same if a whole reply has come by now, else none."""
        if self._connection is None:
            return None
        try:
            reply = self._connection.ready()
            if reply is None:
                self._connection.feed()
                reply = self._connection.ready()
        except BaseException:
            self.close()
            raise
        return None if reply is None else self._decoded(reply)

    def _decoded(self, reply: Reply) -> tuple[T, list[int]]:
        if not reply.continues:
            self._finish()
        try:
            return reply.decode(self._kind), reply.descriptors
        except BaseException:
            reply.close()
            self.close()
            raise

    def _finish(self) -> None:
        if self._connection is not None:
            self._pool.give(self._connection)
            self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._finish()
