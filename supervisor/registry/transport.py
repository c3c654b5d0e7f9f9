"""httpx on connections of our own (`streams`), by the public interfaces of httpx and httpcore."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpcore
import httpx

from supervisor.registry.streams import Backend

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, AsyncIterator, Iterator

__all__ = ["Transport"]

_MOST_IDLE = 20
_IDLE = 20.0
"""Seconds that an idle connection is kept."""


class Transport(httpx.AsyncBaseTransport):
    """`proxy`: its URL; empty: none."""

    def __init__(self, context: ssl.SSLContext, proxy: str) -> None:
        self._pool = (
            httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=None,
                max_keepalive_connections=_MOST_IDLE,
                keepalive_expiry=_IDLE,
                network_backend=Backend(),
            )
            if not proxy
            else _proxied(context, httpx.Proxy(proxy))
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        passed = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = await self._pool.handle_async_request(passed)
        assert not isinstance(answer.stream, bytes)  # noqa: S101 - an asynchronous pool's
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer.stream),  # type: ignore[arg-type]
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


def _proxied(context: ssl.SSLContext, proxy: httpx.Proxy) -> httpcore.AsyncHTTPProxy:
    url = proxy.url
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        proxy_auth=proxy.raw_auth,
        ssl_context=context,
        max_connections=None,
        max_keepalive_connections=_MOST_IDLE,
        keepalive_expiry=_IDLE,
        # TLS within TLS cannot be done on the socket itself.
        network_backend=None if url.scheme == "https" else Backend(),
    )


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """httpcore's errors have the names of httpx's."""
    try:
        yield
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.TimeoutException,
        httpcore.UnsupportedProtocol,
    ) as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise kind(str(error)) from error
