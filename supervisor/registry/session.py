"""Talking to one registry: where it is, how it wants a login, tokens, redirections.

A `Session` belongs to one endpoint of one operation; the `Pool` that all share keeps connections, what was found out
about registries, and tokens, as long as the program lives. A password and a token go to the registry itself and to
the token server that it names, never to where it redirects. Errors are `Trouble`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx
import msgspec
import trio

import pyman
from pyman.errors import PymanError, RegistryDenied, RegistryFailed
from supervisor.registry import challenge as challenges
from supervisor.registry.certificates import directory_for, found_in, tls_context
from supervisor.registry.challenge import Challenge
from supervisor.registry.credentials import Credentials, lookup
from supervisor.registry.proxies import proxy_for
from supervisor.registry.transport import Transport
from supervisor.registry.trouble import Trouble, from_httpx, from_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor.registry.certificates import Certificates
    from supervisor.registry.messages import Context, Endpoint

__all__ = ["Pool", "Session", "read_body"]

_DOCKER = "docker.io"
_HOSTS = {_DOCKER: "registry-1.docker.io"}
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTIONS = 10
_ERROR_LIMIT = 1 << 16
"""Bytes that are read of an answer that tells of an error."""
_TOKEN_LIMIT = 1 << 20
_KNOWN_FOR = 300.0
"""Seconds that it is remembered how a registry is reached."""
_TOKEN_LIFE = 60.0
"""Seconds, unless the server says more."""
_PATIENCE = 3
"""Times the seconds for one byte: for the whole head of an answer."""
_MOST_KEPT = 64
"""Clients, registries and tokens that are remembered."""

Scope = tuple[str, str]
"""A repository's path, and what is to be done with it: `pull`, `pull,push`."""


Content = Callable[[Callable[[], None]], AsyncIterator[bytes]] | bytes | None
"""Of a request: the bytes, or what yields them, anew each time; it calls its argument whenever it goes forward."""


class _Manner(msgspec.Struct, frozen=True):
    """How a registry is reached."""

    scheme: str
    challenge: Challenge | None
    until: float


class _TokenReply(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class Pool:
    """`environ`: for the proxies."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._clients: dict[tuple[bool, Certificates, str], httpx.AsyncClient] = {}
        self.manners: dict[tuple[str, bool, Certificates], _Manner] = {}
        self.tokens: dict[tuple[object, ...], tuple[str, float]] = {}

    def client(self, url: httpx.URL, certificates: Certificates, *, verify: bool) -> httpx.AsyncClient:
        """For requests to this address. Raises InvalidConfig."""
        port = url.port or (443 if url.scheme == "https" else 80)
        proxy = proxy_for(url.scheme, url.host, port, self._environ)
        key = (verify, certificates, proxy)
        client = self._clients.get(key)
        if client is None:
            client = httpx.AsyncClient(
                transport=Transport(tls_context(certificates, verify=verify), proxy),
                trust_env=False,
                follow_redirects=False,
                headers={
                    "User-Agent": f"pyman/{pyman.__version__}",
                    "Accept-Encoding": "identity",
                    "Docker-Distribution-Api-Version": "registry/2.0",
                },
            )
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            self._clients[key] = client
        return client

    async def trim(self) -> None:
        """Between operations: forget the oldest, where too much is remembered."""
        while len(self.manners) > _MOST_KEPT:
            del self.manners[next(iter(self.manners))]
        while len(self.tokens) > _MOST_KEPT:
            del self.tokens[next(iter(self.tokens))]
        while len(self._clients) > _MOST_KEPT:
            await self._clients.pop(next(iter(self._clients))).aclose()

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


class Session:
    """`doing`: for the sentence of an error, as in "cannot …"."""

    def __init__(self, pool: Pool, context: Context, endpoint: Endpoint, doing: str) -> None:
        self._pool = pool
        self._context = context
        self._endpoint = endpoint
        self._insecure = endpoint.insecure
        self._credentials: Credentials | None = None
        self._certificates: Certificates | None = None
        self._manner: _Manner | None = None
        self.doing = doing
        self.registry = endpoint.reference.domain
        self.host = _HOSTS.get(self.registry, self.registry)
        self.path = endpoint.reference.path

    @property
    def stall(self) -> float:
        return self._context.stall

    @property
    def secrets(self) -> list[str]:
        """What must never be shown."""
        known = self._credentials or Credentials()
        found = [self._context.password, self._context.identity_token, known.password, known.identity_token]
        pair = f"{known.username}:{known.password}"
        found.append(base64.b64encode(pair.encode()).decode() if known.password else "")
        found += [token for token, _ in self._pool.tokens.values()]
        return [secret for secret in found if secret]

    def failed(self, reason: str, *, transient: bool = False, hint: str = "") -> Trouble:
        return Trouble(
            RegistryFailed(
                f"cannot {self.doing}: {reason}", subject=str(self._endpoint.reference), hint=hint
            ),
            transient=transient,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        scopes: Sequence[Scope],
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        expected: frozenset[int] = frozenset({200}),
    ) -> AsyncIterator[httpx.Response]:
        """The answer, whose body has not been read, if its status is one of those expected; else Trouble.

        `path`: from the root of the registry, or a whole address, as one that the registry has given.
        """
        manner = await self._reach()
        url = self.resolve(path, manner)
        response = await self._authorized(method, url, scopes, dict(headers or {}), content, manner)
        try:
            if response.status_code not in expected:
                raise await self._refused(response)
            yield response
        finally:
            await _close(response)

    def resolve(self, path: str, manner: _Manner | None = None) -> httpx.URL:
        """The address of a path of this registry, or of what a registry has named as the next place."""
        known = manner or self._manner
        assert known is not None  # noqa: S101 - a request has been made
        try:
            url = httpx.URL(f"{known.scheme}://{self.host}/").join(path)
        except httpx.InvalidURL as error:
            raise from_httpx(error, self.doing, self.stall) from error
        if url.host == self._base(known).host and known.scheme == "https" and url.scheme == "http":
            # Behind a proxy that does TLS for it, a registry may not know how it is reached.
            url = url.copy_with(scheme="https", port=self._base(known).port)
        return self._checked(url, known)

    def _base(self, manner: _Manner) -> httpx.URL:
        return httpx.URL(f"{manner.scheme}://{self.host}/")

    def _checked(self, url: httpx.URL, manner: _Manner) -> httpx.URL:
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise self.failed("the registry gives an address that cannot be used")
        if url.scheme == "http" and manner.scheme == "https" and not self._insecure:
            raise self.failed("the registry redirects to an address without HTTPS")
        return url

    # How it is reached

    async def _reach(self) -> _Manner:
        if self._manner is None:
            self._manner = await self._known_or_found()
        return self._manner

    async def _known_or_found(self) -> _Manner:
        key = (self.host, self._insecure, self._found_certificates())
        known = self._pool.manners.get(key)
        if known is None or known.until < trio.current_time():
            known = await self._find()
            self._pool.manners[key] = known
        return known

    def _found_certificates(self) -> Certificates:
        if self._certificates is None:
            directory = self._context.cert_dir or directory_for(self.registry, self._context.cert_roots)
            try:
                self._certificates = found_in(directory)
            except PymanError as error:
                raise Trouble(error) from error
        return self._certificates

    async def _find(self) -> _Manner:
        """HTTPS; for an insecure registry HTTP, where that fails."""
        try:
            return await self._ping("https")
        except Trouble as trouble:
            if not self._insecure or trouble.answered:
                raise
        return await self._ping("http")

    async def _ping(self, scheme: str) -> _Manner:
        manner = _Manner(scheme, None, trio.current_time() + _KNOWN_FOR)
        try:
            url = httpx.URL(f"{scheme}://{self.host}/v2/")
        except httpx.InvalidURL as error:
            raise from_httpx(error, self.doing, self.stall) from error
        response = await self._followed("GET", url, {}, None, manner)
        try:
            if response.status_code not in (200, 401):
                trouble = await self._refused(response)
                if response.status_code == 404:
                    trouble = self.failed(f"'{self.registry}' is not a registry: it does not know /v2/")
                trouble.answered = True
                raise trouble
            asked = challenges.read(response.headers.get_list("www-authenticate"))
            return msgspec.structs.replace(manner, challenge=challenges.chosen(asked))
        finally:
            await _close(response)

    # Requests

    async def _authorized(
        self,
        method: str,
        url: httpx.URL,
        scopes: Sequence[Scope],
        headers: dict[str, str],
        content: Content,
        manner: _Manner,
    ) -> httpx.Response:
        """With a login, if the registry wants one; once more with a new token, if it does not take the first."""
        ours = _origin(url) == _origin(self._base(manner))
        asked = manner.challenge if ours else None
        for last in (False, True):
            authorization = await self._authorization(asked, scopes, fresh=last) if asked else ""
            sent = {**headers, "Authorization": authorization} if authorization else headers
            response = await self._followed(method, url, sent, content, manner)
            if response.status_code != 401 or last or not ours:
                return response
            fresh = challenges.chosen(challenges.read(response.headers.get_list("www-authenticate")))
            if fresh is None or (fresh.scheme == "basic" and authorization):
                return response
            await _close(response)
            asked = fresh
        raise AssertionError("unreachable")

    async def _followed(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        content: Content,
        manner: _Manner,
    ) -> httpx.Response:
        """The answer at the end of the redirections."""
        origin = _origin(url)
        for _ in range(_MOST_REDIRECTIONS + 1):
            response = await self._send(method, url, headers, content)
            if response.status_code not in _REDIRECTIONS or method not in ("GET", "HEAD"):
                return response
            location = response.headers.get("location", "")
            await _close(response)
            try:
                url = self._checked(url.join(location), manner)
            except httpx.InvalidURL as error:
                raise from_httpx(error, self.doing, self.stall) from error
            if _origin(url) != origin:
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
        raise self.failed(f"the registry redirects more than {_MOST_REDIRECTIONS} times")

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        content: Content,
    ) -> httpx.Response:
        try:
            client = self._pool.client(url, self._found_certificates(), verify=not self._insecure)
            # Also one that sends a byte now and then comes to an end.
            with trio.move_on_after(_PATIENCE * self.stall) as scope:
                request = client.build_request(
                    method,
                    url,
                    headers=headers,
                    content=content(lambda: _extend(scope, self.stall)) if callable(content) else content,
                    timeout=httpx.Timeout(self.stall, pool=None),
                )
                return await client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise from_httpx(error, self.doing, self.stall) from error
        except PymanError as error:
            raise Trouble(error) from error
        raise self.failed(f"the registry does not answer within {_PATIENCE * self.stall:g} s", transient=True)

    async def _refused(self, response: httpx.Response) -> Trouble:
        try:
            body = await read_body(self, response, _ERROR_LIMIT)
        except Trouble:
            body = b""
        login_sent = response.request.headers.get("authorization", "").startswith("Basic ")
        return from_status(
            response.status_code,
            response.headers,
            body,
            self.doing,
            self.secrets,
            self.registry,
            login_sent=login_sent,
        )

    # Logins

    async def credentials(self) -> Credentials:
        if self._credentials is None:
            name = self._endpoint.reference.name if self.path else self.registry
            try:
                self._credentials = await lookup(self._context, name, foreign=self._endpoint.foreign)
            except PymanError as error:
                raise Trouble(error) from error
        return self._credentials

    async def _authorization(self, asked: Challenge, scopes: Sequence[Scope], *, fresh: bool) -> str:
        """The header's value; empty: there is nothing to answer with."""
        known = await self.credentials()
        if asked.scheme == "basic":
            if not known.username:
                return ""
            return f"Basic {base64.b64encode(f'{known.username}:{known.password}'.encode()).decode()}"
        return f"Bearer {await self._token(asked, scopes, known, fresh=fresh)}"

    async def _token(
        self, asked: Challenge, scopes: Sequence[Scope], known: Credentials, *, fresh: bool
    ) -> str:
        wanted = sorted({f"repository:{path}:{actions}" for path, actions in scopes if path})
        if asked["scope"] and asked["scope"] not in wanted and asked["error"] == "insufficient_scope":
            wanted.append(asked["scope"])
        secret = hashlib.sha256(f"{known.password}\0{known.identity_token}".encode()).hexdigest()
        key = (
            self.host,
            self._insecure,
            asked["realm"],
            asked["service"],
            tuple(wanted),
            known.username,
            secret,
        )
        token, until = self._pool.tokens.get(key, ("", 0.0))
        if fresh or not token or until < trio.current_time():
            token, life = await self._new_token(asked, wanted, known)
            self._pool.tokens[key] = (token, trio.current_time() + life)
        return token

    async def _new_token(
        self, asked: Challenge, wanted: Sequence[str], known: Credentials
    ) -> tuple[str, float]:
        manner = _Manner("https" if not self._insecure else "http", None, 0.0)
        try:
            realm = self._checked(httpx.URL(asked["realm"]), manner)
        except httpx.InvalidURL as error:
            raise from_httpx(error, self.doing, self.stall) from error
        headers: dict[str, str] = {}
        content: bytes | None = None
        service = [("service", asked["service"])] if asked["service"] else []
        if known.identity_token:
            fields = [
                ("grant_type", "refresh_token"),
                ("refresh_token", known.identity_token),
                ("client_id", "pyman"),
                *service,
                ("scope", " ".join(wanted)),
            ]
            content = str(httpx.QueryParams(tuple(fields))).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            if known.username:
                pair = f"{known.username}:{known.password}".encode()
                headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
            account = [("account", known.username)] if known.username else []
            fields = [*account, *(("scope", scope) for scope in wanted), *service]
            realm = realm.copy_merge_params(tuple(fields))
        response = await self._followed(
            "POST" if content is not None else "GET", realm, headers, content, manner
        )
        try:
            if response.status_code != 200:
                trouble = await self._refused(response)
                if response.status_code in (400, 401, 403) and (known.username or known.identity_token):
                    denied = RegistryDenied(
                        f"cannot {self.doing}: the registry does not take the login of '{known.username or 'the token'}'",
                        hint=f"log in with 'pyman login {self.registry}'",
                    )
                    raise Trouble(denied)
                raise trouble
            data = await read_body(self, response, _TOKEN_LIMIT)
        finally:
            await _close(response)
        try:
            reply = msgspec.json.decode(data, type=_TokenReply)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise self.failed("the token server answers what is no token") from error
        token = reply.token or reply.access_token
        if not token or not token.isascii() or not token.isprintable():
            raise self.failed("the token server answers what is no token")
        return token, max(reply.expires_in or 0.0, _TOKEN_LIFE) * 0.9


def _extend(scope: trio.CancelScope, stall: float) -> None:
    scope.deadline = trio.current_time() + _PATIENCE * stall


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


async def _close(response: httpx.Response) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        await response.aclose()


async def read_body(session: Session, response: httpx.Response, limit: int) -> bytes:
    """A small body as a whole. Trouble: it is larger, or takes longer than twice the time for one byte."""
    if int(response.headers.get("content-length", "0") or 0) > limit:
        raise session.failed(f"the registry's answer is larger than {limit} bytes")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise session.failed("the registry's answer is encoded, which was not asked for")
    data = bytearray()
    try:
        with trio.move_on_after(2 * session.stall) as scope:
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > limit:
                    raise session.failed(f"the registry's answer is larger than {limit} bytes")
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise from_httpx(error, session.doing, session.stall) from error
    if scope.cancelled_caught:
        raise session.failed("the registry answers too slowly", transient=True)
    return bytes(data)
