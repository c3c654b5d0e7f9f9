"""Which proxy a connection goes through, by the variables that Go programs, and so the other engines, obey.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in lower case. NO_PROXY lists, separated by commas: `*`, a host with
its subdomains (`example.com`, `.example.com` for these alone), an address or a network (`10.0.0.0/8`), each also with
a port. What is on this machine is never asked for through a proxy. Pure functions.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIABLES", "proxy_for"]

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str:
    """The proxy's URL; empty: none."""
    proxy = _variable(environ, f"{scheme}_proxy")
    if not proxy or _is_local(host) or _excepted(host, port, _variable(environ, "no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name, "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _excepted(host: str, port: int, listed: str) -> bool:
    host = host.strip("[]").lower().rstrip(".")
    address = _address(host)
    return any(_fits(entry, host, port, address) for entry in listed.lower().split(",") if entry.strip())


def _fits(
    entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    entry = entry.strip()
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and _address(entry) is None:
        if int(number) != port:
            return False
        entry = name
    wanted = _address(entry)
    if wanted is not None or address is not None:
        return wanted == address
    entry = entry.removeprefix("*")
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")
