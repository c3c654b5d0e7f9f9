"""What a DHCP server has given, as the client's script writes it down: `key=value`, each ended by a NUL byte.

A server may say what it likes: what is no address is none, and of names only those count that others would take.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address
from typing import NamedTuple

from pyman.errors import NetworkFailed
from supervisor.kernel import files

__all__ = ["Lease", "parse", "read"]

_MOST = 1 << 14
"""Bytes."""
_SERVERS, _DOMAINS = 8, 6
"""As many as anybody asks, or looks in."""
_DOMAIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")


class Lease(NamedTuple):
    address: str
    prefix: int
    gateway: str = ""
    """Empty: it has named none."""
    servers: tuple[str, ...] = ()
    """Who is asked for names."""
    searches: tuple[str, ...] = ()
    """Domains in which they are looked for."""


def read(path: str) -> Lease | None:
    """None: there is none. Blocks. NetworkFailed: it cannot be used."""
    try:
        data = files.read_small(path, _MOST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NetworkFailed(f"cannot read the lease '{path}': {error.strerror or error}") from error
    return parse(data, os.path.basename(path))


def parse(data: bytes, name: str = "lease") -> Lease | None:
    """None: it was lost. NetworkFailed: there is no address in it."""
    fields: dict[str, str] = {}
    for word in data.decode("ascii", "replace").split("\0"):
        key, _, value = word.partition("=")
        fields.setdefault(key, value)
    if "lost" in fields:
        return None
    address, prefix = _address(fields.get("ip", "")), fields.get("prefix", "")
    if not address or not (prefix.isdecimal() and len(prefix) < 3 and 1 <= int(prefix) <= 32):
        raise NetworkFailed(f"cannot use {name}: it has no address", subject=name)
    servers = [found for each in fields.get("dns", "").split(" ") if (found := _address(each))]
    searches = [each for each in fields.get("domain", "").split(" ") if _DOMAIN.fullmatch(each)]
    return Lease(
        address,
        int(prefix),
        _address(fields.get("router", "")),
        tuple(dict.fromkeys(servers[:_SERVERS])),
        tuple(dict.fromkeys(searches[:_DOMAINS])),
    )


def _address(text: str) -> str:
    """Empty: it is none of a host's."""
    try:
        found = IPv4Address(text)
    except ValueError:
        return ""
    if found.is_unspecified or found.is_loopback or found.is_multicast or found.is_reserved:
        return ""
    return str(found)
