"""A registry of the tests' own that does what it is told to: answers right, wrong, slowly, or not at all.

It runs in the test's Trio loop and speaks HTTP on a loopback port, byte for byte as a handler writes it. `requests`
has what was asked. Clients that begin with TLS are turned away, unless the registry has a certificate.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

__all__ = [
    "Asked",
    "Hostile",
    "answer",
    "blob",
    "chunked",
    "errors",
    "hostile",
    "manifest",
    "redirect",
    "silence",
]

Handler = Callable[["Asked", trio.abc.Stream], Awaitable[None]]
_HEAD_LIMIT = 1 << 16
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Asked:
    """A request. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    target: str
    """As it was sent."""

    @property
    def begin(self) -> int:
        """Where a Range begins; 0: all is wanted."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


@dataclass
class Hostile:
    """`handlers`: by path, or by method and path (`PUT /v2/a`); a list is used up, its last one stays."""

    port: int = 0
    tls: bool = False
    handlers: dict[str, Handler | list[Handler]] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def on(self, where: str, *handlers: Handler) -> None:
        self.handlers[where] = list(handlers)

    def asked(self, path: str) -> list[Asked]:
        return [one for one in self.requests if one.path == path]

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            async with stream:
                buffer = b""
                while (read := await _request(stream, buffer)) is not None:
                    asked, buffer = read
                    self.requests.append(asked)
                    await self._handler(asked)(asked, stream)

    def _handler(self, asked: Asked) -> Handler:
        for key in (f"{asked.method} {asked.path}", asked.path):
            found = self.handlers.get(key)
            if isinstance(found, list):
                return found.pop(0) if len(found) > 1 else found[0]
            if found is not None:
                return found
        return answer(200, b"{}") if asked.path == "/v2/" else errors(404, "UNKNOWN", "not here")


async def _request(stream: trio.abc.Stream, buffer: bytes) -> tuple[Asked, bytes] | None:
    """The next one and what came after it; None: the client has gone, or speaks TLS."""
    while b"\r\n\r\n" not in buffer:
        chunk = await stream.receive_some(65536)
        buffer += bytes(chunk)
        if not chunk or buffer[:1] == b"\x16" or len(buffer) > _HEAD_LIMIT:
            return None
    head, _, body = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        chunk = await stream.receive_some(65536)
        if not chunk:
            return None
        body += bytes(chunk)
    parts = urlsplit(target)
    asked = Asked(method, unquote(parts.path), parse_qs(parts.query), headers, body[:length], target)
    return asked, body[length:]


@asynccontextmanager
async def hostile(context: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    """A running one; with a TLS context, if it is given."""
    registry = Hostile(tls=context is not None)
    async with trio.open_nursery() as nursery:
        if context is None:
            listeners: Any = await trio.open_tcp_listeners(0, host="127.0.0.1")
            registry.port = listeners[0].socket.getsockname()[1]
        else:
            listeners = await trio.open_ssl_over_tcp_listeners(
                0, context, host="127.0.0.1", https_compatible=True
            )
            registry.port = listeners[0].transport_listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, registry.serve, listeners)
        try:
            yield registry
        finally:
            nursery.cancel_scope.cancel()


# What it can be told


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode("latin-1")


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Handler:
    """A whole answer; its length is told unless the headers say another."""

    async def handle(asked: Asked, stream: trio.abc.Stream) -> None:
        head = _head(status, {"Content-Length": str(len(body)), **(headers or {})})
        await stream.send_all(head if asked.method == "HEAD" else head + body)

    return handle


def errors(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Handler:
    """In the form of the distribution protocol."""
    return answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers)


def manifest(
    data: bytes, media_type: str = OCI_MANIFEST, headers: Mapping[str, str] | None = None
) -> Handler:
    return answer(200, data, {"Content-Type": media_type, **(headers or {})})


def redirect(location: str, status: int = 307) -> Handler:
    return answer(status, b"", {"Location": location})


def blob(data: bytes, *, stop: int = -1, ranges: bool = True, stall: bool = False) -> Handler:
    """A blob. `stop`: the connection breaks (or stalls) after so many bytes of this answer; `ranges`: obeyed."""

    async def handle(asked: Asked, stream: trio.abc.Stream) -> None:
        begin = asked.begin if ranges else 0
        headers = {"Content-Length": str(len(data) - begin)}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        rest = data[begin:] if stop < 0 else data[begin : begin + stop]
        await stream.send_all(_head(206 if begin else 200, headers) + rest)
        if stop >= 0:
            if stall:
                await trio.sleep_forever()
            await stream.aclose()

    return handle


def chunked(pieces: list[bytes], headers: Mapping[str, str] | None = None) -> Handler:
    """An answer that does not tell its length."""

    async def handle(_: Asked, stream: trio.abc.Stream) -> None:
        await stream.send_all(_head(200, {"Transfer-Encoding": "chunked", **(headers or {})}))
        for piece in pieces:
            await stream.send_all(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await stream.send_all(b"0\r\n\r\n")

    return handle


async def silence(_asked: Asked, _stream: trio.abc.Stream) -> None:
    """No answer at all."""
    await trio.sleep_forever()
