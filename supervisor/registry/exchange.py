"""One message at a time over the stream socket of an operation; either end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from supervisor.registry.messages import LIMIT, packed, unpacked_length

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Exchange", "ExchangeEnded"]


class ExchangeEnded(Exception):
    """The other end is gone, or does not keep to the format."""


class Exchange:
    """Not to be read, or written, by two tasks at once."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = trio.socket.from_stdlib_socket(end)

    def close(self) -> None:
        self._end.close()

    async def send(self, message: msgspec.Struct) -> None:
        """Raises ExchangeEnded."""
        data = memoryview(packed(message))
        if len(data) > LIMIT:
            raise ExchangeEnded("the message is too large")
        try:
            while data:
                data = data[await self._end.send(data) :]
        except OSError as error:
            raise ExchangeEnded(str(error)) from error

    async def receive(self, decode: Callable[[bytes], msgspec.Struct]) -> msgspec.Struct:
        """Raises ExchangeEnded."""
        length = unpacked_length(await self._exactly(4))
        if length > LIMIT:
            raise ExchangeEnded("a message is too large")
        try:
            return decode(await self._exactly(length))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ExchangeEnded(str(error)) from error

    async def wait_closed(self) -> None:
        """Until the other end is closed. It has nothing more to say; what it says all the same is dropped."""
        try:
            while await self._end.recv(4096):
                pass
        except OSError:
            pass

    async def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = await self._end.recv(min(size - len(data), 1 << 18))
            except OSError as error:
                raise ExchangeEnded(str(error)) from error
            if not chunk:
                raise ExchangeEnded("the other end is closed")
            data += chunk
        return bytes(data)
