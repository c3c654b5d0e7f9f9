"""Connections to registries as httpcore wants them, with TLS by OpenSSL on the socket itself.

A TLS record has 16 KiB, and Trio's own stream hands out one at a time, each through the whole tower of an HTTP client:
that costs more than the decryption. Here a read takes what there is, up to READ bytes. Errors are httpcore's.
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["READ", "Backend"]

READ = 1 << 18
"""Bytes of a read, at most; the buffer is the connection's own."""

T = TypeVar("T")


class Backend(httpcore.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - nobody sets any
    ) -> httpcore.AsyncNetworkStream:
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            try:
                stream = await trio.open_tcp_stream(host, port, local_address=local_address)
            except OSError as error:
                raise httpcore.ConnectError(str(error)) from error
            connected = socket.socket(fileno=stream.socket.detach())
            connected.setblocking(False)
            return _Stream(connected)
        raise httpcore.ConnectTimeout

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = memoryview(bytearray(0))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - see READ
        if not self._buffer:
            self._buffer = memoryview(bytearray(READ))
        return await self._done(self._receive, timeout, httpcore.ReadTimeout, httpcore.ReadError)

    def _receive(self) -> bytes:
        """What there is; empty: the end. Raises as a non-blocking socket does, where there is nothing."""
        count = 0
        while count < READ:
            try:
                got = self._socket.recv_into(self._buffer[count:])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not count:
                    raise
                break
            except OSError:
                if not count:
                    raise
                break  # what has come is worth having; the next read tells
            count += got
            if not got or not isinstance(self._socket, ssl.SSLSocket):
                break
        return bytes(self._buffer[:count])

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            part = rest
            sent = await self._done(
                lambda part=part: self._socket.send(part),  # type: ignore[misc]
                timeout,
                httpcore.WriteTimeout,
                httpcore.WriteError,
            )
            rest = rest[sent:]

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        self._buffer = memoryview(bytearray(0))
        await trio.lowlevel.checkpoint()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            wrapped = ssl_context.wrap_socket(
                self._socket,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(str(error)) from error
        self._socket = wrapped
        try:
            await self._done(wrapped.do_handshake, timeout, httpcore.ConnectTimeout, httpcore.ConnectError)
        except BaseException:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "socket":
                return self._socket
            case "is_readable":
                if self._socket.fileno() < 0:
                    return True
                poll = select.poll()
                poll.register(self._socket, select.POLLIN)
                return bool(poll.poll(0))
        return None

    async def _done(
        self,
        attempt: Callable[[], T],
        timeout: float | None,
        too_late: type[httpcore.TimeoutException],
        failed: type[httpcore.NetworkError],
    ) -> T:
        """Attempt until the socket lets it, at most for `timeout` seconds."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            while True:
                try:
                    return attempt()
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                    writing = too_late is httpcore.WriteTimeout and isinstance(error, BlockingIOError)
                    for_writing = writing or isinstance(error, ssl.SSLWantWriteError)
                except (OSError, ValueError) as error:
                    raise failed(str(error)) from error
                wait = trio.lowlevel.wait_writable if for_writing else trio.lowlevel.wait_readable
                try:
                    await wait(self._socket)
                except (OSError, ValueError, trio.ClosedResourceError) as error:
                    raise failed(str(error)) from error
        raise too_late
