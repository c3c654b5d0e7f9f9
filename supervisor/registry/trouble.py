"""What goes wrong between here and a registry, as the errors of `pyman.errors`: the one edge where httpx's are met.

`Trouble` carries the error of one attempt, and whether another attempt may help. What a registry writes is shown in
one short line, and without the secrets of the request, whatever it sends back.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import msgspec

from pyman.errors import RegistryDenied, RegistryFailed, UnknownInRegistry
from supervisor.registry.retrying import TRANSIENT_STATUS, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyman.errors import PymanError

__all__ = ["Trouble", "combined", "from_httpx", "from_status", "line"]

_LONGEST_LINE = 200
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)


class Trouble(Exception):
    """One attempt failed. `wished`: seconds that the registry asks to wait; `answered`: it has spoken HTTP."""

    def __init__(self, error: PymanError, *, transient: bool = False, wished: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.wished = wished
        self.answered = False


class _Detail(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Detail] = []
    details: str = ""
    message: str = ""


def line(text: str, secrets: Iterable[str] = ()) -> str:
    """Foreign text as one short line without control characters and secrets."""
    for secret in secrets:
        if len(secret) >= 3:
            text = text.replace(secret, "***")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:4096]).split())
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 3]}..."


def from_httpx(
    error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, doing: str, stall: float
) -> Trouble:
    """`doing`: what cannot be done, as in "cannot …"."""
    if isinstance(error, httpx.TimeoutException):
        what = "cannot be reached" if isinstance(error, httpx.ConnectTimeout) else "does not answer"
        return Trouble(
            RegistryFailed(f"cannot {doing}: the registry {what} within {stall:g} s"), transient=True
        )
    if isinstance(error, httpx.ProxyError):
        return Trouble(RegistryFailed(f"cannot {doing}: the proxy refuses: {line(str(error))}"))
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        failed = RegistryFailed(
            f"cannot {doing}: the registry's certificate is not trusted: {cause.verify_message}",
            hint="put its authority's certificate into certs.d, or use --tls-verify=false",
        )
        return Trouble(failed)
    if isinstance(cause, ssl.SSLError):
        return _from_ssl(cause, doing)
    if isinstance(cause, socket.gaierror):
        reason = f"the registry's host is not found: {(cause.strerror or '').lower()}"
        return Trouble(RegistryFailed(f"cannot {doing}: {reason}"), transient=cause.errno == socket.EAI_AGAIN)
    if isinstance(cause, OSError) and cause.errno:
        reason = f"the connection to the registry fails: {os.strerror(cause.errno)}"
        return Trouble(RegistryFailed(f"cannot {doing}: {reason}"), transient=cause.errno in _TRANSIENT_ERRNO)
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Trouble(RegistryFailed(f"cannot {doing}: the registry gives an address that cannot be used"))
    if (
        isinstance(error, httpx.RemoteProtocolError)
        and "peer closed" not in str(error)
        and "disconnect" not in str(error)
    ):
        reason = "the registry does not keep to HTTP"
        return Trouble(RegistryFailed(f"cannot {doing}: {reason}: {line(str(error))}"), transient=True)
    return Trouble(RegistryFailed(f"cannot {doing}: the connection to the registry broke"), transient=True)


def _from_ssl(cause: ssl.SSLError, doing: str) -> Trouble:
    reason = (cause.reason or "").replace("_", " ").lower()
    if cause.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
        "PACKET_LENGTH_TOO_LONG",
    ):
        failed = RegistryFailed(
            f"cannot {doing}: the registry does not speak HTTPS",
            hint="if it is meant to be so, use --tls-verify=false, or insecure = true in registries.conf",
        )
        return Trouble(failed)
    if not reason or cause.reason == "UNEXPECTED_EOF_WHILE_READING":
        return Trouble(
            RegistryFailed(f"cannot {doing}: the connection to the registry broke"), transient=True
        )
    return Trouble(RegistryFailed(f"cannot {doing}: no secure connection to the registry: {reason}"))


def _cause(error: BaseException) -> BaseException | None:
    """The first error of the system or of TLS in the chain."""
    seen = 0
    current: BaseException | None = error
    while current is not None and seen < 20:
        if isinstance(current, OSError) and (current.errno or isinstance(current, ssl.SSLError)):
            return current
        if isinstance(current, BaseExceptionGroup):  # of connection attempts to several addresses
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__
        seen += 1
    return None


def from_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    doing: str,
    secrets: Iterable[str],
    registry: str,
    *,
    login_sent: bool = False,
) -> Trouble:
    """For an answer that is none of those hoped for. `login_sent`: a name and a password were in the request."""
    said = _said(body, secrets)
    reason = f"the registry says: {said}" if said else f"the registry answers with status {status}"
    if status == 401 and login_sent:
        hint = f"give others, or log in anew with 'pyman login {registry}'"
        return Trouble(
            RegistryDenied(f"cannot {doing}: the registry does not take the name and password", hint=hint)
        )
    if status == 401:
        hint = f"log in with 'pyman login {registry}'"
        return Trouble(
            RegistryDenied(f"cannot {doing}: {_or(said, 'the registry wants a login')}", hint=hint)
        )
    if status == 403:
        return Trouble(RegistryDenied(f"cannot {doing}: {_or(said, 'the registry does not permit it')}"))
    if status == 404:
        return Trouble(UnknownInRegistry(f"cannot {doing}: {_or(said, 'the registry does not have it')}"))
    if status == 429:
        reason = "the registry has had too many requests" + (f": {said}" if said else "")
    error = RegistryFailed(f"cannot {doing}: {reason}")
    return Trouble(error, transient=status in TRANSIENT_STATUS, wished=retry_after(headers))


def _or(said: str, otherwise: str) -> str:
    return f"the registry says: {said}" if said else otherwise


def _said(body: bytes, secrets: Iterable[str]) -> str:
    """The sentence of an answer in the form of the distribution protocol; empty: it has none."""
    try:
        found = msgspec.json.decode(body, type=_Errors)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
    texts = [detail.message or detail.code.replace("_", " ").lower() for detail in found.errors[:3]]
    said = "; ".join(text for text in texts if text) or found.details or found.message
    return re.sub(r"[.\s]+$", "", line(said, secrets))


def combined(doing: str, tried: Sequence[tuple[str, Trouble]]) -> PymanError:
    """Of several places: the last one's class, and what each said."""
    last = tried[-1][1].error
    if len(tried) == 1:
        return last
    prefix = f"cannot {doing}: "
    texts = [f"{place}: {trouble.error.message.removeprefix(prefix)}" for place, trouble in tried]
    return type(last)(f"{prefix}{'; '.join(texts)}", subject=last.subject, hint=last.hint)
