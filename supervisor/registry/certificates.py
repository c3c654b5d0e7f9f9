"""The certificates that a registry is spoken to with: certs.d, as containers-certs.d(5) has it, and the system's.

In a directory for a registry, `*.crt` are authorities to be trusted besides the system's; `X.cert` is a certificate of
the client's, and `X.key` its key. One without the other is refused. Blocking; errors are InvalidConfig.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Certificates", "directory_for", "found_in", "tls_context"]

_LARGEST = 1 << 20
"""Bytes of a file with certificates."""


class Certificates(msgspec.Struct, frozen=True):
    """Paths of files, and what tells whether they are still the same."""

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    """Certificate and key."""
    stamp: tuple[tuple[str, int, int], ...] = ()


def directory_for(host: str, roots: Sequence[str]) -> str:
    """The first directory of certificates for HOST[:PORT]; empty: there is none."""
    if "/" in host or host in ("", ".", ".."):
        return ""
    return next((f"{root}/{host}" for root in roots if os.path.isdir(f"{root}/{host}")), "")


def found_in(directory: str) -> Certificates:
    """What lies in the directory. InvalidConfig: it cannot be read, or half of a pair is missing."""
    if not directory:
        return Certificates()
    try:
        names = sorted(os.listdir(directory))
        stamp = tuple(
            (name, status.st_mtime_ns, status.st_size)
            for name, status in ((name, os.stat(f"{directory}/{name}")) for name in names)
        )
    except OSError as error:
        raise _unreadable(directory, error) from error
    pairs: list[tuple[str, str]] = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix not in (".cert", ".key"):
            continue
        other = ".key" if suffix == ".cert" else ".cert"
        if f"{stem}{other}" not in names:
            message = f"cannot use '{directory}/{name}': there is no '{stem}{other}' beside it"
            hint = "an authority's certificate has the suffix .crt" if suffix == ".cert" else ""
            raise InvalidConfig(message, subject=directory, hint=hint)
        if suffix == ".cert":
            pairs.append((f"{directory}/{name}", f"{directory}/{stem}.key"))
    authorities = tuple(f"{directory}/{name}" for name in names if name.endswith(".crt"))
    return Certificates(authorities, tuple(pairs), stamp)


def tls_context(certificates: Certificates, *, verify: bool) -> ssl.SSLContext:
    """The context for these. Takes some 20 ms. InvalidConfig: a file is no certificate."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in certificates.authorities:
        try:
            with open(path, "rb") as file:
                data = file.read(_LARGEST)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            context.load_verify_locations(cadata=data.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidConfig(
                f"cannot use '{path}': it is not a certificate in PEM form", subject=path
            ) from error
    for certificate, key in certificates.pairs:
        try:
            # A key with a passphrase must not ask on a terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError as error:  # ssl.SSLError is one
            if isinstance(error, ssl.SSLError):
                message = (
                    f"cannot use '{certificate}' and its key: they are damaged, or do not fit each other"
                )
                raise InvalidConfig(message, subject=certificate) from error
            raise _unreadable(certificate, error) from error
    return context


def _unreadable(path: str, error: OSError) -> InvalidConfig:
    reason = (error.strerror or str(error)).lower()
    return InvalidConfig(f"cannot read the certificates in '{path}': {reason}", subject=path)
