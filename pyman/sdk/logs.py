"""What a container has written, read from its log files.

The supervisor hands over the files as descriptors, the oldest first; reading and parsing happen here. A
follower is woken by inotify and by the supervisor, which hands over the next file when the log is rotated
and says when there will be no more. A file is final once its successor has come: it is read to its end
first.
"""

from __future__ import annotations

import collections
import select
from typing import TYPE_CHECKING, Self

import anyio
import msgspec

from pyman.api.container import LogsReply
from pyman.errors import NotSupported
from pyman.logfile import Chain, records, stamp_time, tail_start
from pyman.sdk.connection import close_all
from pyman.sdk.inotify import Watch
from pyman.sdk.session import StreamName

if TYPE_CHECKING:
    from pyman.api.container import LogsRequest
    from pyman.sdk.pool import Pool, Stream

__all__ = ["Line", "Logs"]

_METHOD = "io.pyman.Container.Logs"


class Line(msgspec.Struct, frozen=True):
    """One record of a log."""

    time: str
    """RFC 3339 with nanoseconds, as conmon has written it."""
    stream: StreamName
    text: bytes
    """Without the newline."""
    partial: bool = False
    """The next record of the same stream goes on with the line."""


class Logs:
    """Iterating gives each `Line`. Use it in an `async with` block where the loop may be left early."""

    def __init__(
        self,
        pool: Pool,
        request: LogsRequest,
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> None:
        self._pool = pool
        self._request = request
        self._tail = tail
        self._since = None if since is None else int(since * 1e9)
        self._until = None if until is None else int(until * 1e9)
        self._replies: Stream[LogsReply] | None = None
        self._chain = Chain()
        self._follower = _Follower() if request.follow else None
        self._lines: collections.deque[Line] = collections.deque()
        self._backlog = True
        """Files that were there at the time of the call are still to come."""
        self._done = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._done = True
        self._lines.clear()
        self._close()

    def _close(self) -> None:
        self._chain.close()
        if self._follower is not None:
            self._follower.close()
        if self._replies is not None:
            self._replies.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Line:
        try:
            while not self._lines:
                if self._done or not await self._proceed():
                    self._close()
                    raise StopAsyncIteration
        except StopAsyncIteration:
            raise
        except BaseException:
            self._close()
            raise
        return self._lines.popleft()

    async def _proceed(self) -> bool:
        """Read something, or wait until there may be something to read. False: all has been read."""
        if self._replies is None:
            self._replies = await self._pool.stream(_METHOD, self._request, LogsReply)
        if self._tail is None or not self._backlog:
            self._skip_to_tail()
            for block in self._chain.read():
                # Others get their turn, however much there is to read.
                await anyio.lowlevel.checkpoint()
                self._take(block)
                return True
        if self._replies.finished:
            more, self._backlog = self._backlog, False
            return more
        if self._follower is not None and not self._backlog:
            # What has been received already would wake nobody.
            if (answer := self._replies.next_nowait()) is not None:
                self._learn(*answer)
            elif not self._replies.finished:
                await self._follower.wait(self._replies, self._chain.current)
        elif (answer := await self._replies.next()) is not None:
            self._learn(*answer)
        return True

    def _skip_to_tail(self) -> None:
        if self._tail is not None:
            self._chain.start_at(*tail_start(self._chain.files, self._tail))
            self._tail = None

    def _learn(self, reply: LogsReply, descriptors: list[int]) -> None:
        if reply.phase == "file" and len(descriptors) == 1 and reply.format == "k8s-file":
            self._chain.add(descriptors[0])
            return
        close_all(descriptors)
        if reply.phase == "file":
            raise NotSupported(f"cannot read a log of the format '{reply.format}'", subject=reply.name)
        if reply.phase == "backlog-end":
            self._backlog = False

    def _take(self, block: bytes) -> None:
        for time, stream, full, text in records(block):
            if self._since is not None or self._until is not None:
                at = stamp_time(time)
                if self._since is not None and at < self._since:
                    continue
                if self._until is not None and at > self._until:
                    self._done = True
                    return
            self._lines.append(Line(time.decode(), "stdout" if stream == 1 else "stderr", text, not full))


class _Follower:
    """Waits for growth of the file and for news of the supervisor at once."""

    def __init__(self) -> None:
        self._poll: select.epoll | None = None
        self._watch = Watch()
        self._file: int | None = None
        self._number = -1

    async def wait(self, replies: Stream[LogsReply], file: int | None) -> None:
        """Returns at once for a file that was not watched before: it may have grown since it was read."""
        if self._poll is None:
            self._poll = select.epoll()
            self._poll.register(self._watch.fileno(), select.EPOLLIN)
            self._poll.register(replies.fileno(), select.EPOLLIN)
        if file != self._file:
            if self._number >= 0:
                self._watch.remove(self._number)
            self._file, self._number = file, -1 if file is None else self._watch.add(file)
            return
        await anyio.wait_readable(self._poll.fileno())
        self._watch.drain()

    def close(self) -> None:
        self._watch.close()
        if self._poll is not None:
            self._poll.close()
            self._poll = None
