"""One client's connection: reads a call, has it answered, reads the next.

- One call at a time: further ones wait in the kernel's buffer, whose size bounds them.
- Everything a client can do to slow itself down (half a message, not reading its replies) holds up this
  connection's task and nothing else.
- The server tells the connection when its client has gone (`hang_up`); that cancels the handler. A client
  that only shuts down its sending side still gets its answer.
- The one broad `except Exception` of the server stands here: a bug in a handler costs one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pyman.api import Vanish
from pyman.errors import EngineStopped, InternalError, MessageTooLarge, ProtocolError, PymanError, to_wire
from supervisor.logging import log
from supervisor.rpc.descriptors import Inbox, close_all, send_some
from supervisor.rpc.dispatch import Call, VarlinkError, check_descriptors
from supervisor.rpc.framing import MESSAGE_LIMIT, Frames, decode_request, encode_error, encode_reply

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyman.api import Access
    from supervisor.rpc.dispatch import Routes
    from supervisor.rpc.framing import Request
    from supervisor.rpc.peer import Peer

__all__ = ["Connection"]

_READ_SIZE = 1 << 16


class Connection:
    """Takes the socket over and closes it. `access` is that of the listening socket it came through."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        access: Access,
        routes: Routes,
        *,
        message_limit: int = MESSAGE_LIMIT,
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._peer = peer
        self._access = access
        self._routes = routes
        self._frames = Frames(message_limit)
        self._inbox = Inbox()
        self._writing = trio.Lock()
        self._handling: trio.CancelScope | None = None
        self._call: Call | None = None
        self._gone = False
        self._session: dict[str, str] = {}
        self._torn = False
        """A message was begun and will not be finished: nothing can follow it."""

    def fileno(self) -> int:
        return self._socket.fileno()

    async def run(self) -> None:
        """Until the client has gone, breaks the protocol, or the server is cancelled."""
        try:
            while await self._one_call():
                pass
        except OSError as error:
            log.debug("connection ended", reason=str(error), pid=self._peer.pid)
        finally:
            self.close()

    def close(self) -> None:
        self._inbox.close()
        self._socket.close()

    def hang_up(self) -> None:
        """The client has closed its side: nobody will read an answer."""
        self._gone = True
        if self._call is not None:
            self._call.gone = True
        if self._handling is not None:
            self._handling.cancel()

    async def _one_call(self) -> bool:
        """False: the connection has come to its end."""
        try:
            frame = await self._receive()
            if frame is None:
                return False
            request = decode_request(frame)
            descriptors = self._inbox.take(request.descriptors, last=not self._frames.pending)
        except (ProtocolError, MessageTooLarge) as error:
            log.info("connection refused", reason=str(error), pid=self._peer.pid)
            self._last_word(error)
            return False
        await self._answer(request, descriptors)
        return not self._torn

    async def _receive(self) -> bytes | None:
        """The next message; none: the client will send no more."""
        frame = self._frames.next()
        if frame is not None:
            # Messages in a row must not keep other connections waiting.
            await trio.lowlevel.checkpoint()
            return frame
        while frame is None:
            await trio.lowlevel.wait_readable(self._socket.fileno())
            try:
                data = self._inbox.receive(self._socket, _READ_SIZE)
            except (BlockingIOError, InterruptedError):
                continue
            if not data:
                return None
            self._frames.feed(data)
            frame = self._frames.next()
        return frame

    async def _answer(self, request: Request, descriptors: list[int]) -> None:
        call = Call(
            request.method,
            self._peer,
            more=bool(request.more),
            oneway=bool(request.oneway),
            descriptors=descriptors,
            transmit=self._transmit,
            session=self._session,
        )
        call.gone = self._gone
        self._call = call
        try:
            message = await self._perform(request, call)
            if message is not None and not call.oneway:
                await self._write(message, call.final_descriptors)
        except trio.Cancelled:
            # Not the handler's own scope: the server is ending.
            if not call.oneway and not self._gone:
                self._last_word(EngineStopped("cannot finish the call: the supervisor is shutting down"))
            raise
        finally:
            self._call = None
            close_all(call.take_descriptors())
            close_all(call.take_final())

    async def _perform(self, request: Request, call: Call) -> bytearray | None:
        """The message that ends the call; none: the client went away meanwhile."""
        try:
            route = self._routes.find(request.method)
            route.admit(request, self._access, len(call.descriptors))
            parameters = route.decode(request)
            with trio.CancelScope() as scope:
                if not (call.oneway and route.method.vanish is Vanish.FINISH):
                    self._handling = scope
                    if self._gone:
                        return None
                reply = await route.handler(parameters, call)
                if not isinstance(reply, route.method.reply):
                    raise TypeError(f"{route.name} answers with {type(reply).__name__}")
                check_descriptors(call.final_descriptors)
                return encode_reply(reply, descriptors=len(call.final_descriptors))
            return None
        except VarlinkError as error:
            close_all(call.take_final())
            return encode_error(error.name, error.parameters)
        except PymanError as error:
            close_all(call.take_final())
            return encode_error(*to_wire(error))
        except Exception as error:  # noqa: BLE001 - the per-connection boundary
            close_all(call.take_final())
            known = _sole_leaf(error)
            if known is None:
                log.exception("call failed", method=request.method, pid=self._peer.pid)
                known = InternalError(
                    f"cannot carry out {request.method}: internal error",
                    subject=request.method,
                    hint="the supervisor's log has the details",
                )
            return encode_error(*to_wire(known))
        finally:
            self._handling = None

    async def _transmit(self, message: bytearray, descriptors: Sequence[int]) -> None:
        """For replies that others follow: a client that has gone cancels the handler."""
        try:
            await self._write(message, descriptors)
        except OSError:
            self.hang_up()
        await trio.lowlevel.checkpoint()

    async def _write(self, message: bytearray, descriptors: Sequence[int]) -> None:
        """Send a whole message; messages of several tasks do not mix. No checkpoint where it fits at once."""
        if self._torn:
            raise BrokenPipeError
        if not self._writing.locked():
            sent = self._try_send(memoryview(message), descriptors)
            if sent == len(message):
                return
            self._writing.acquire_nowait()
        else:
            await self._writing.acquire()
            sent = 0
        try:
            rest = memoryview(message)[sent:]
            while rest:
                await trio.lowlevel.wait_writable(self._socket.fileno())
                rest = rest[self._try_send(rest, () if sent else descriptors) :]
                sent = len(message) - len(rest)
        except trio.Cancelled:
            self._torn = sent > 0
            raise
        finally:
            self._writing.release()

    def _try_send(self, data: memoryview, descriptors: Sequence[int]) -> int:
        try:
            return send_some(self._socket, data, descriptors)
        except (BlockingIOError, InterruptedError):
            return 0

    def _last_word(self, error: PymanError) -> None:
        """Tell the client why the connection ends, if that takes no waiting."""
        if self._writing.locked() or self._torn or self._gone:
            return
        try:
            self._socket.send(encode_error(*to_wire(error)))
        except OSError:
            self._gone = True


def _sole_leaf(error: BaseException) -> PymanError | None:
    """What a nursery wrapped, where it is a single known error."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, PymanError) else None
