"""A Trio client of raw bytes: it can send what no proper client would."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.rpc.server import Server
    from tests.rpc.contract import Trial


class Client:
    """`descriptors` are those that came with the last reply; `close` closes them."""

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self.socket = connected
        self.descriptors: list[int] = []
        self._buffer = b""
        self._arrived: list[int] = []

    @classmethod
    async def connect(cls, path: str) -> Self:
        made = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await made.connect(path)
        except BaseException:
            made.close()
            raise
        return cls(made)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self.descriptors += self._arrived
        self.close_descriptors()

    def close_descriptors(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    async def send_bytes(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        view = memoryview(data)
        if descriptors:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            view = view[await self.socket.sendmsg([view], rights) :]
        while view:
            view = view[await self.socket.send(view) :]

    async def send_until_refused(
        self, data: bytes, descriptors: Sequence[int] = (), times: int = 1000
    ) -> None:
        """The same again and again, until the server has closed the connection."""
        for _ in range(times):
            await self.send_bytes(data, descriptors)

    async def send(self, method: str, parameters: Any = None, **envelope: Any) -> None:
        descriptors = envelope.pop("pass_descriptors", ())
        message = {"method": method, "parameters": {} if parameters is None else parameters, **envelope}
        await self.send_bytes(json.dumps(message).encode() + b"\0", descriptors)

    async def reply(self) -> dict[str, Any]:
        """The next one; EOFError at the end."""
        self.close_descriptors()
        while b"\0" not in self._buffer:
            data, ancillary, flags, _ = await self.socket.recvmsg(
                1 << 16, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC
            )
            assert not flags & socket.MSG_CTRUNC
            for _level, _kind, content in ancillary:
                self._arrived.extend(array.array("i", content))
            if not data:
                raise EOFError
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        count = answer.get("descriptors", 0)
        self.descriptors, self._arrived = self._arrived[:count], self._arrived[count:]
        assert len(self.descriptors) == count
        assert self._buffer or not self._arrived
        return answer

    async def call(self, method: str, parameters: Any = None, **envelope: Any) -> dict[str, Any]:
        await self.send(method, parameters, **envelope)
        return await self.reply()

    async def ended(self) -> bool:
        """Whether the server closes the connection; waits for that."""
        try:
            await self.reply()
        except (EOFError, ConnectionResetError):
            return True
        return False


class Service:
    """A server in the test's own process."""

    def __init__(self, server: Server, trial: Trial, paths: dict[str, str], scope: trio.CancelScope) -> None:
        self.stop = scope.cancel
        self.server = server
        self.trial = trial
        self.paths = paths

    async def connect(self, socket_name: str = "owner") -> Client:
        return await Client.connect(self.paths[socket_name])

    async def alive(self) -> bool:
        """Whether another client is answered as ever."""
        async with await self.connect() as client:
            reply = await client.call("io.pyman.Trial.Echo", {"text": "x"})
            return bool(reply["parameters"]["text"] == "x")
