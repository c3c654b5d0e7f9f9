"""The text of a container's /etc/resolv.conf.

Of name servers, search domains and options each is what was configured and asked for, or else the host's; the domains of
networks come before the host's. What the host asks on its own loopback, or by the name of an interface, no other network
namespace reaches: such servers are left out.
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

from supervisor.oci.hosts import text_of_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.oci.request import BuildRequest, Networking

__all__ = ["RESOLV_CONF", "resolv_conf"]

RESOLV_CONF = "/etc/resolv.conf"
_REAL = {
    "127.0.0.53": "/run/systemd/resolve/resolv.conf",
    "127.0.0.1": "/run/NetworkManager/no-stub-resolv.conf",
}
"""Where the servers are behind the one on the loopback: systemd-resolved's and NetworkManager's."""
_NAMED = "/etc/netns"
"""`ip netns` has files for namespaces here."""
_PUBLIC = ("8.8.8.8", "8.8.4.4")
_PUBLIC_IPV6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
"""Podman's servers where none is left."""
_ELSEWHERE = re.compile(r"^127\.|^::1$|%")
"""The loopback, or an address that holds for one interface."""


def resolv_conf(request: BuildRequest, network: str) -> str:
    """`network`: the mode of the network namespace. StorageFailed."""
    spec, configured = request.spec, request.settings.containers
    told = request.networking
    servers = [*_servers(configured.dns_servers), *spec.dns_server]
    if told is not None and told.servers:  # they ask those for other names
        servers = list(told.servers)
    if told is not None and told.leased:
        servers = servers or list(told.leased)
    searches = [*configured.dns_searches, *spec.dns_search]
    options = [*configured.dns_options, *spec.dns_option]
    if not (servers and searches and options):
        text = _of_host(request, network)
        servers = servers or _reachable(_nameservers(text), network, told)
        searches = searches or [*(told.searches if told is not None else ()), *_last(text, "search")]
        options = options or _last(text, "options")
    lines = [f"nameserver {server}\n" for server in servers]
    if searches and "." not in searches:
        lines.insert(0, f"search {' '.join(searches)}\n")
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def _servers(configured: Sequence[str]) -> Sequence[str]:
    return () if "none" in configured else configured


def _of_host(request: BuildRequest, network: str) -> str:
    if network == "host":
        return text_of_host(RESOLV_CONF, missing=True)
    text = text_of_host(_named(request) or RESOLV_CONF, missing=True)
    found = _nameservers(text)
    if len(found) == 1 and (real := _REAL.get(found[0])):
        text = text_of_host(real, missing=True) or text
    return text


def _named(request: BuildRequest) -> str:
    """Of a namespace that was made by `ip netns` and has a file of its own."""
    path = request.spec.netns.value
    if not path.startswith("/") or path.startswith("/proc/"):
        return ""
    file = f"{_NAMED}/{os.path.basename(path)}/resolv.conf"
    return file if os.path.exists(file) else ""


def _reachable(servers: list[str], network: str, told: Networking | None) -> list[str]:
    if network == "host":
        return servers
    ipv6 = told is not None and told.ipv6
    found = [] if told is None else list(told.forwarders)
    found += [server for server in servers if (ipv6 or ":" not in server) and not _ELSEWHERE.search(server)]
    return found or [*_PUBLIC, *(_PUBLIC_IPV6 if ipv6 else ())]


def _nameservers(text: str) -> list[str]:
    entries = (words for words in _lines(text) if words[0] == "nameserver" and len(words) == 2)
    return [address for _, address in entries if _is_address(address)]


def _last(text: str, key: str) -> list[str]:
    """The values of the last line of the kind."""
    found: list[str] = []
    for words in _lines(text):
        if words[0] == key:
            found = words[1:]
    return found


def _lines(text: str) -> list[list[str]]:
    return [words for line in text.split("\n") if (words := line.partition("#")[0].split())]


def _is_address(text: str) -> bool:
    address = text.partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return True
    return False
