"""What a container has written, read from its log files.

The supervisor hands over the files as descriptors, the oldest first; reading and parsing happen here. A
follower is woken by inotify and by the supervisor, which hands over the next file when the log is rotated
and says when there will be no more. A file is final once its successor has come: it is read to its end
first.
"""

from __future__ import annotations

import collections
import datetime as dt
import os
import select
from typing import TYPE_CHECKING, Self

import anyio

from pyman.api.container import LogsReply
from pyman.errors import NotSupported, ProtocolError
from pyman.logfile import parse_line
from pyman.sdk.connection import close_all
from pyman.sdk.inotify import Watch

if TYPE_CHECKING:
    from pyman.api.container import LogsRequest
    from pyman.logfile import Line
    from pyman.sdk.pool import Pool, Stream

__all__ = ["Logs"]

_METHOD = "io.pyman.Container.Logs"
_READ_SIZE = 1 << 16


class Logs:
    """Iterating gives each `Line`, of which a long one comes in parts (all but the last are `partial`).

    `tail`: begin with the last so many lines. `since`, `until`: seconds since the epoch.
    Use it in an `async with` block where the loop may be left early.
    """

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
        self._since = since
        self._until = until
        self._replies: Stream[LogsReply] | None = None
        self._source = _Source()
        self._follower = _Follower() if request.follow else None
        self._lines: collections.deque[Line] = collections.deque()
        self._tail = None if tail is None else _Tail(tail)
        self._backlog = True
        self._done = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._done = True
        self._lines.clear()
        self._source.close()
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
                    await self.aclose()
                    raise StopAsyncIteration
            return self._lines.popleft()
        except (StopAsyncIteration, GeneratorExit):
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _proceed(self) -> bool:
        """Read something, or wait until there may be something to read. False: all has been read."""
        if self._replies is None:
            self._replies = await self._pool.stream(_METHOD, self._request, LogsReply)
        lines = self._source.read(final=self._replies.finished)
        if lines is not None:
            # Others get their turn, however much there is to read.
            await anyio.lowlevel.checkpoint()
            self._take(lines)
            return True
        if not self._backlog and self._tail is not None:
            self._lines.extend(self._tail.lines())
            self._tail = None
            return True
        if self._replies.finished:
            return self._backlog_is_over()
        if self._follower is not None and not self._backlog:
            await self._follower.wait(self._replies, self._source.current)
            while (answer := self._replies.next_nowait()) is not None:
                self._learn(*answer)
        elif (answer := await self._replies.next()) is not None:
            self._learn(*answer)
        return True

    def _backlog_is_over(self) -> bool:
        """Whether that changes anything."""
        changed, self._backlog = self._backlog, False
        return changed

    def _learn(self, reply: LogsReply, descriptors: list[int]) -> None:
        if reply.phase == "file":
            if len(descriptors) != 1:
                close_all(descriptors)
                raise ProtocolError(
                    f"cannot read the log of {reply.name}: {len(descriptors)} files came at once"
                )
            if reply.format != "k8s-file":
                close_all(descriptors)
                raise NotSupported(f"cannot read a log of the format '{reply.format}'", subject=reply.name)
            self._source.add(descriptors[0])
            return
        close_all(descriptors)
        if reply.phase == "backlog-end":
            self._backlog_is_over()

    def _take(self, lines: list[Line]) -> None:
        for line in lines:
            if line.time and (self._since is not None or self._until is not None):
                time = dt.datetime.fromisoformat(line.time).timestamp()
                if self._since is not None and time < self._since:
                    continue
                if self._until is not None and time > self._until:
                    self._done = True
                    break
            if self._tail is None:
                self._lines.append(line)
            else:
                self._tail.add(line)
        if self._done and self._tail is not None:
            self._lines.extend(self._tail.lines())
            self._tail = None


class _Source:
    """The files one after the other, as lines."""

    def __init__(self) -> None:
        self._files: collections.deque[int] = collections.deque()
        self._rest = b""

    @property
    def current(self) -> int:
        """The file being read; -1: none."""
        return self._files[0] if self._files else -1

    def add(self, descriptor: int) -> None:
        self._files.append(descriptor)

    def read(self, *, final: bool) -> list[Line] | None:
        """The next lines, perhaps not one; none: at the end of what there is. `final`: it is the very end."""
        while self._files:
            data = os.read(self._files[0], _READ_SIZE)
            if data:
                *whole, self._rest = (self._rest + data).split(b"\n")
                return [parse_line(line) for line in whole]
            if len(self._files) == 1:
                break
            os.close(self._files.popleft())
        if final and self._rest:
            rest, self._rest = self._rest, b""
            return [parse_line(rest)]
        return None

    def close(self) -> None:
        close_all(self._files)
        self._files.clear()


class _Follower:
    """Waits for growth of the file and for news of the supervisor at once."""

    def __init__(self) -> None:
        self._poll: select.epoll | None = None
        self._watch = Watch()
        self._file = -1
        self._number = -1

    async def wait(self, replies: Stream[LogsReply], file: int) -> None:
        """Returns at once for a file that was not watched before: it may have grown since it was read."""
        if self._poll is None:
            self._poll = select.epoll()
            self._poll.register(self._watch.fileno(), select.EPOLLIN)
            self._poll.register(replies.fileno(), select.EPOLLIN)
        if file != self._file:
            if self._number >= 0:
                self._watch.remove(self._number)
            self._file, self._number = file, self._watch.add(file) if file >= 0 else -1
            return
        await anyio.wait_readable(self._poll.fileno())
        self._watch.drain()

    def close(self) -> None:
        self._watch.close()
        if self._poll is not None:
            self._poll.close()
            self._poll = None


class _Tail:
    """The last `count` lines; the parts of a long one count as one."""

    def __init__(self, count: int) -> None:
        self._last: collections.deque[list[Line]] = collections.deque(maxlen=count)
        self._open: list[Line] = []

    def add(self, line: Line) -> None:
        self._open.append(line)
        if not line.partial:
            self._last.append(self._open)
            self._open = []

    def lines(self) -> list[Line]:
        return [line for parts in [*self._last, self._open] for line in parts]
