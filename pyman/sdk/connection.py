"""One connection of the asynchronous client: typed calls as NUL-terminated JSON, with passed descriptors.

One call at a time. Whatever ends a call early (an error in the protocol, cancellation) ends the connection.
"""

from __future__ import annotations

import array
import functools
import os
import socket as sockets
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import msgspec

from pyman.errors import EngineUnavailable, MessageTooLarge, ProtocolError, from_wire
from pyman.wire import MAX_DESCRIPTORS, MAX_REPLY, open_socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Connection", "Reply", "StaleConnection", "close_all", "compact", "open_connection"]

_READ_SIZE = 1 << 16
_CONTROL_SPACE = sockets.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)

T = TypeVar("T", bound=msgspec.Struct)


class StaleConnection(Exception):
    """The supervisor had closed the connection before anything of the call was sent: take another one."""


class _Request(msgspec.Struct, omit_defaults=True):
    method: str
    parameters: dict[str, Any]
    more: bool = False
    descriptors: int = 0


class _Envelope(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    continues: bool = False
    error: str | None = None
    descriptors: int = 0


class Reply(msgspec.Struct, frozen=True):
    """One reply. Its descriptors belong to whoever reads it."""

    parameters: msgspec.Raw
    continues: bool
    descriptors: list[int]

    def decode(self, kind: type[T]) -> T:
        """Raises ProtocolError where it is not of that type."""
        try:
            decoded: T = _decoder(kind).decode(self.parameters)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ProtocolError(f"cannot understand the supervisor's reply: {error}") from error
        return decoded

    def close(self) -> None:
        """Close the descriptors, where nobody takes them."""
        close_all(self.descriptors)


_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(_Envelope)


@functools.cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


async def open_connection(path: str) -> Connection:
    """EngineUnavailable where nobody listens, PermissionDenied where the caller may not."""
    try:
        connected = open_socket(path, sockets.SOCK_STREAM | sockets.SOCK_NONBLOCK)
    except EngineUnavailable as error:
        if not isinstance(error.__cause__, BlockingIOError):
            raise
        # The backlog is full (a supervisor being restarted under load): the kernel wakes a blocking connect.
        connected = await anyio.to_thread.run_sync(open_socket, path)
        connected.setblocking(False)
    # Another class over the same descriptor: this one warns where it is forgotten.
    return Connection(sockets.socket(fileno=connected.detach()))


class Connection:
    """Takes a connected, non-blocking socket over. `idle`: no call is under way and it is open."""

    def __init__(self, connected: sockets.socket) -> None:
        self._socket = connected
        self._buffer = bytearray()
        self._searched = 0
        self._arrived: list[int] = []
        self._method = ""
        self.closed = False

    @property
    def idle(self) -> bool:
        return not self.closed and not self._method

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Also wakes who waits on it, with EngineUnavailable."""
        if not self.closed:
            self.closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()
            close_all(self._arrived)
            self._arrived = []

    async def send(
        self, method: str, request: msgspec.Struct, *, more: bool = False, descriptors: Sequence[int] = ()
    ) -> None:
        """Begin a call. The descriptors stay the caller's. Raises StaleConnection, EngineUnavailable."""
        message = bytearray()
        _encoder.encode_into(_Request(method, compact(request), more, len(descriptors)), message)
        message.append(0)
        self._method = method
        try:
            rest = memoryview(message)
            rest = rest[self._begin(rest, descriptors) :]
            while rest:
                await anyio.wait_writable(self._socket)
                rest = rest[self._socket.send(rest) :]
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it hung up: the reply is still there to be read
        except OSError as error:
            self._lost(error)
        except BaseException:
            self.close()
            raise

    def _begin(self, message: memoryview, descriptors: Sequence[int]) -> int:
        """Send the first bytes, and the descriptors with them. A new connection always takes some."""
        try:
            if not descriptors:
                return self._socket.send(message)
            rights = array.array("i", descriptors)
            return self._socket.sendmsg([message], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, rights)])
        except OSError as error:
            self.close()
            raise StaleConnection from error

    async def receive(self) -> Reply:
        """Wait for the next reply of the call. Raises what the supervisor raised, or EngineUnavailable."""
        try:
            while (reply := self.ready()) is None:
                await anyio.wait_readable(self._socket)
                self.feed()
            return reply
        except anyio.ClosedResourceError as error:
            raise EngineUnavailable(f"cannot finish {self._method}: the client was closed") from error
        except BaseException:
            if self._method:
                self.close()
            raise

    def feed(self) -> None:
        """Read what has come without waiting. EngineUnavailable at the end of the connection."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _READ_SIZE, _CONTROL_SPACE, sockets.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
        for level, kind, content in ancillary:
            if level == sockets.SOL_SOCKET and kind == sockets.SCM_RIGHTS:
                self._arrived.extend(array.array("i", content))
        if flags & sockets.MSG_CTRUNC or len(self._arrived) > MAX_DESCRIPTORS:
            raise ProtocolError("cannot go on: the supervisor sent more descriptors than a message may bring")
        if not data:
            self._lost(None)
        self._buffer += data
        if len(self._buffer) > MAX_REPLY:
            raise MessageTooLarge(f"cannot read a reply of more than {MAX_REPLY >> 20} MiB")

    def ready(self) -> Reply | None:
        """The next reply, if all of it has been read. Raises what the supervisor raised."""
        end = self._buffer.find(0, self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        self._searched = 0
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            envelope = _envelopes.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"cannot understand what the supervisor sent: {error}") from error
        if not 0 <= envelope.descriptors <= len(self._arrived):
            raise ProtocolError(
                f"cannot go on: {envelope.descriptors} descriptors were stated, {len(self._arrived)} came"
            )
        reply = Reply(envelope.parameters, envelope.continues, self._arrived[: envelope.descriptors])
        del self._arrived[: envelope.descriptors]
        if self._arrived and not self._buffer:
            reply.close()
            raise ProtocolError("cannot go on: the supervisor sent descriptors that it did not state")
        if envelope.error is not None or not envelope.continues:
            self._method = ""
        if envelope.error is not None:
            reply.close()
            raise _raised(envelope.error, envelope.parameters)
        return reply

    def _lost(self, error: OSError | None) -> NoReturn:
        method = self._method
        self.close()
        raise EngineUnavailable(f"cannot finish {method}: the supervisor went away") from error


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _raised(name: str, raw: msgspec.Raw) -> Exception:
    try:
        parameters = msgspec.json.decode(raw, type=dict[str, Any] | None)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        parameters = {}
    return from_wire(name, parameters or {})


def compact(value: msgspec.Struct) -> dict[str, Any]:
    """The fields that differ from their defaults, by their names on the wire.

    A supervisor refuses names that it does not know: an older one is not troubled with what is not used.
    """
    found: dict[str, Any] = {}
    for name, wire_name, default in _fields(type(value)):
        each = getattr(value, name)
        if default is not msgspec.NODEFAULT and each == default:
            continue
        found[wire_name] = compact(each) if isinstance(each, msgspec.Struct) else each
    return found


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    return tuple(
        (
            field.name,
            field.encode_name,
            field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
        )
        for field in msgspec.structs.fields(kind)
    )
