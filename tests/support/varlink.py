"""The protocol by hand: one blocking connection, NUL-terminated JSON, nothing of pyman's own code.

Tests use it where the real clients would hide what is on the wire. People can too; every reply is a line:

    python -m tests.support.varlink SOCKET io.pyman.Container.List '{"all": true}'
    python -m tests.support.varlink SOCKET io.pyman.Event.Subscribe '{"stream": false}' more
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["VarlinkError", "Wire", "call"]


class VarlinkError(Exception):
    """An error reply."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(f"{name} {parameters}")
        self.name = name
        self.parameters = parameters


class Wire:
    """A connection. `descriptors` holds those that came with the last reply; the user closes them."""

    def __init__(self, path: str, timeout: float = 20.0) -> None:
        """`timeout` in seconds is for every single read and write."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(timeout)
        self.descriptors: list[int] = []
        self._buffer = b""
        try:
            self.socket.connect(path)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send_raw(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        if descriptors:
            sent = socket.send_fds(self.socket, [data], list(descriptors))
            data = data[sent:]
        self.socket.sendall(data)

    def send(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        *,
        more: bool = False,
        oneway: bool = False,
        descriptors: Sequence[int] = (),
    ) -> None:
        message: dict[str, Any] = {"method": method, "parameters": parameters or {}}
        if more:
            message["more"] = True
        if oneway:
            message["oneway"] = True
        if descriptors:
            message["descriptors"] = len(descriptors)
        self.send_raw(json.dumps(message).encode() + b"\0", descriptors)

    def receive(self) -> dict[str, Any]:
        """The next reply as it came; EOFError where the connection has ended."""
        self.descriptors = []
        while b"\0" not in self._buffer:
            data, received, _, _ = socket.recv_fds(self.socket, 1 << 16, 16)
            self.descriptors += received
            if not data:
                raise EOFError("the supervisor closed the connection")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(message)
        return reply

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self.send(method, parameters)
        return _parameters(self.receive())

    def stream(
        self, method: str, parameters: dict[str, Any] | None = None, descriptors: Sequence[int] = ()
    ) -> Iterator[dict[str, Any]]:
        self.send(method, parameters, more=True, descriptors=descriptors)
        while True:
            reply = self.receive()
            yield _parameters(reply)
            if not reply.get("continues"):
                return

    def close_descriptors(self) -> None:
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.descriptors = []


def _parameters(reply: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = reply.get("parameters") or {}
    if "error" in reply:
        raise VarlinkError(reply["error"], parameters)
    return parameters


def call(path: str, method: str, parameters: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """One call on a connection of its own."""
    with Wire(path, **options) as wire:
        return wire.call(method, parameters)


def _main(path: str, method: str, parameters: str = "{}", more: str = "") -> None:
    with Wire(path, timeout=3600) as wire:
        wire.send(method, json.loads(parameters), more=bool(more))
        continues = True
        while continues:
            reply = wire.receive()
            continues = bool(reply.get("continues"))
            print(json.dumps(reply), *(f"descriptor {number}" for number in wire.descriptors))  # noqa: T201
            wire.close_descriptors()


if __name__ == "__main__":
    _main(*sys.argv[1:])
