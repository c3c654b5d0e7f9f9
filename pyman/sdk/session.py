"""A process that was started through the client: its streams and its end.

The streams are conmon's attach socket, which the supervisor hands over: what flows through it never
passes the supervisor. Packets of output begin with a byte that names the stream; input has none.
"""

from __future__ import annotations

import contextlib
import socket as sockets
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeVar

import anyio
import msgspec

from pyman.api.container import AttachReply, ExecReply, ResizeRequest, RunReply
from pyman.api.event import Event, SubscribeRequest
from pyman.api.method import Nothing
from pyman.errors import EngineStopped, EngineUnavailable, NotSupported, ProtocolError, PymanError
from pyman.names import EventStatus
from pyman.sdk.connection import close_all
from pyman.sdk.events import PATIENCE, Events

if TYPE_CHECKING:
    from pyman.sdk.pool import Pool, Stream

__all__ = ["Output", "Session", "StreamName"]

StreamName = Literal["stdout", "stderr"]

_PACKET = 1 << 16
"""More than conmon sends at once."""
_CHUNK = 8192
"""Of input in one packet; conmon reads no more than 32 KiB of one."""
_NAMES: dict[int, StreamName] = {2: "stdout", 3: "stderr"}


class Output(msgspec.Struct, frozen=True):
    """All that a process has written, and how it ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int


P = TypeVar("P", AttachReply, ExecReply, RunReply)


class _AttachSocket:
    """A SOCK_SEQPACKET connection to conmon."""

    def __init__(self, descriptor: int) -> None:
        self._socket = sockets.socket(fileno=descriptor)
        self._socket.setblocking(False)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def receive(self) -> bytes:
        """One packet; b"": the end."""
        while True:
            await anyio.wait_readable(self._socket)
            try:
                return self._socket.recv(_PACKET)
            except (BlockingIOError, InterruptedError):
                continue
            except ConnectionResetError:
                return b""

    async def discard(self) -> None:
        """Read to the end."""
        with contextlib.suppress(OSError, anyio.ClosedResourceError):
            while await self.receive():
                pass

    async def send(self, data: bytes) -> None:
        """BrokenPipeError where the process takes no more."""
        for start in range(0, len(data), _CHUNK):
            while True:
                await anyio.wait_writable(self._socket)
                try:
                    self._socket.send(data[start : start + _CHUNK])
                    break
                except (BlockingIOError, InterruptedError):
                    continue

    def send_eof(self) -> None:
        self._socket.shutdown(sockets.SHUT_WR)


class Session(Generic[P]):
    """A container's command or an exec session.

    Iterating gives `(stream, data)` up to the end of the output, `wait` the exit code; both outlive the
    supervisor. Leaving the block (or `aclose`) before the end gives up the streams; the process goes on.
    """

    def __init__(self, pool: Pool, replies: Stream[P], first: P, descriptors: list[int], begun: int) -> None:
        """`begun`: nanoseconds since the epoch, before the process started."""
        self._pool = pool
        self._begun = begun
        self._replies: Stream[P] = replies
        self.exit_code: int | None = first.exit_code
        """Known once `wait` has returned."""
        self.id = ""
        """The container's."""
        self.name = ""
        self.exec_id = ""
        self.warnings: list[str] = []
        self._attached: _AttachSocket | None = None
        self._reading = False
        if descriptors:
            self._attached = _AttachSocket(descriptors[0])
            close_all(descriptors[1:])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._close_streams()
        self._replies.close()

    def _close_streams(self) -> None:
        if self._attached is not None:
            self._attached.close()
            self._attached = None

    async def send(self, data: bytes) -> None:
        """To the process's standard input; waits while it takes no more. BrokenPipeError: it has closed it."""
        await self._streams().send(data)

    async def send_eof(self) -> None:
        """End its standard input."""
        self._streams().send_eof()

    def _streams(self) -> _AttachSocket:
        if self._attached is None:
            raise NotSupported("cannot use the streams of a process that is not attached", subject=self.id)
        return self._attached

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[StreamName, bytes]:
        if self._attached is None:
            raise StopAsyncIteration
        self._reading = True
        try:
            packet = await self._attached.receive()
        except anyio.ClosedResourceError:
            packet = b""
        finally:
            self._reading = False
        if not packet:
            self._close_streams()
            raise StopAsyncIteration
        name = _NAMES.get(packet[0])
        if name is None:
            raise ProtocolError(f"cannot understand the output of {self.id}: stream {packet[0]}")
        return name, packet[1:]

    async def wait(self) -> int:
        """The exit code, when the process has ended. Output that nobody reads meanwhile is thrown away."""
        if self.exit_code is None:
            if self._attached is None or self._reading:
                await self._wait_for_last()
            else:
                await self._wait_and_discard(self._attached)
        assert self.exit_code is not None  # noqa: S101 - _wait_for_last returns only with one
        return self.exit_code

    async def collect(self) -> Output:
        """Everything it writes from now on and its exit code."""
        parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for stream, data in self:
            parts[stream].append(data)
        code = await self.wait()
        return Output(b"".join(parts["stdout"]), b"".join(parts["stderr"]), code)

    async def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size, in characters."""
        # The supervisor knows an exec session by its own id.
        of_exec = {"exec_id": self.exec_id} if self.exec_id else {"name": self.id}
        request = ResizeRequest(rows, columns, **of_exec)
        await self._pool.call("io.pyman.Container.Resize", request, Nothing)

    async def _wait_and_discard(self, attached: _AttachSocket) -> None:
        failure: PymanError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attached.discard)
            try:
                await self._wait_for_last()
            except PymanError as error:
                # Out of a task group it would come wrapped.
                failure = error
            tasks.cancel_scope.cancel()
        self._close_streams()
        if failure is not None:
            raise failure

    async def _wait_for_last(self) -> None:
        try:
            while self.exit_code is None and (answer := await self._replies.next()) is not None:
                reply, descriptors = answer
                close_all(descriptors)
                self.exit_code = reply.exit_code
        except (EngineUnavailable, EngineStopped):
            if self._pool.closed:
                raise
        if self.exit_code is None:
            self.exit_code = await self._ask_the_journal()

    async def _ask_the_journal(self) -> int:
        """A detached process, or one whose supervisor has been replaced: its end is an event."""
        status = EventStatus.EXEC_DIED if self.exec_id else EventStatus.DIED
        filters = {"container": [self.id], "event": [status.value]}
        async with Events(self._pool, SubscribeRequest(filters, since=self._begun), PATIENCE) as events:
            async for event in events:
                if isinstance(event, Event) and event.attributes.get("execID", "") == self.exec_id:
                    return int(event.attributes.get("containerExitCode", "-1"))
        raise EngineUnavailable(f"cannot tell how {self.id} ended: the journal has ended")
