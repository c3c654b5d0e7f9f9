"""What aardvark-dns, the name server of containers, reads: a directory with a file for each network.

    10.89.0.1,fd00::1 9.9.9.9              where it serves, and whom it asks for other names
    ID 10.89.0.5 fd00::5 web,alias 8.8.8.8    a container: addresses, names, whom it wants asked

Its versions differ, and these files suit all of them (1.4 to 1.17 were tried or read). 1.4 ends when it finds a file that
says nothing, or that is gone by then: a file is replaced as a whole, and that of a network without containers stays for a
while, with an address at which nobody can serve. From 1.11 on what ends with %int is a network from which nothing is asked
elsewhere. Files have the networks' ids for names: a network may be called like something that the program has there.

Everything blocks. StorageFailed, DiskFull.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from supervisor.kernel import files
from supervisor.network.plans import is_ipv6

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.network.plans import Attachment, NetworkPlan

__all__ = [
    "PROGRAM",
    "SEARCH_DOMAIN",
    "Guest",
    "Zone",
    "ZoneFiles",
    "guest_of",
    "zone_of",
]

PROGRAM = "aardvark-dns"
SEARCH_DOMAIN = "dns.podman"
"""Every name is also one in here, whatever the engine is called: images and scripts know it."""
_INTERNAL = "%int"
_PID_FILE = "aardvark.pid"
_NOWHERE = "100::1"
"""Of the range whose packets are discarded, which no host has: it cannot be served there, and that is all that happens."""
_SPECIAL = frozenset(", \n")
_LONGEST = 1 << 24
"""Bytes of a file that is read back: more than all containers of a /16 are."""


class Guest(msgspec.Struct, frozen=True):
    """A container on one network."""

    id: str
    addresses: list[str]
    names: list[str]
    servers: list[str] = []
    """Whom it wants asked for other names."""

    @property
    def line(self) -> str:
        v4 = ",".join(each for each in self.addresses if not is_ipv6(each))
        v6 = ",".join(each for each in self.addresses if is_ipv6(each))
        names = dict.fromkeys(each.lower() for each in self.names if each and not _SPECIAL.intersection(each))
        return " ".join([self.id, v4, v6, ",".join(names), *_joined(self.servers)])


class Zone(msgspec.Struct, frozen=True):
    """A network as the name server has it, without the containers."""

    network: str
    """Its id."""
    gateways: list[str]
    """The addresses at which it serves."""
    servers: list[str] = []
    internal: bool = False

    @property
    def file(self) -> str:
        return self.network + (_INTERNAL if self.internal else "")

    @property
    def line(self) -> str:
        return " ".join([",".join(self.gateways), *_joined(self.servers)])


def zone_of(plan: NetworkPlan, servers: Iterable[str] = ()) -> Zone | None:
    """None: nobody serves names there. `servers`: whom to ask where the network does not say it."""
    gateways = [subnet.gateway for subnet in plan.subnets if subnet.gateway]
    if plan.driver != "bridge" or not plan.dns or not gateways:
        return None
    return Zone(plan.id, gateways, list(plan.dns_servers or servers), plan.internal)


def guest_of(id: str, name: str, hostname: str, attachment: Attachment, servers: Iterable[str]) -> Guest:
    """`hostname`: the one that was asked for, or empty."""
    return Guest(
        id,
        [each.address for each in attachment.addresses],
        [name, *attachment.aliases, id[:12], hostname],
        list(servers),
    )


def _joined(addresses: Iterable[str]) -> list[str]:
    text = ",".join(addresses)
    return [text] if text else []


class ZoneFiles:
    """`path` is made where it is needed; what is about to be there is put together beside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid_file = f"{path}/{_PID_FILE}"

    def read(self) -> tuple[dict[str, Zone], dict[str, dict[str, Guest]]]:
        """What an earlier supervisor has left: zones, and guests, by networks' ids. What cannot be understood is not
        there: whoever it was about says so again."""
        zones: dict[str, Zone] = {}
        guests: dict[str, dict[str, Guest]] = {}
        try:
            found = os.listdir(self.path)
        except FileNotFoundError:
            return zones, guests
        except OSError as error:
            raise files.storage_error(error, "read", self.path) from error
        for file in found:
            network, internal = file.removesuffix(_INTERNAL), file.endswith(_INTERNAL)
            if file == _PID_FILE:
                continue
            with suppress(OSError, ValueError):
                text = files.read_small(f"{self.path}/{file}", _LONGEST, follow=False).decode("ascii")
                first, *others = text.splitlines()
                gateways, servers = (*first.split(" "), "")[:2]
                guests[network] = {guest.id: guest for guest in map(_guest, others)}
                zones[network] = Zone(network, _split(gateways), _split(servers), internal)
        return zones, guests

    def write(self, zone: Zone, guests: Mapping[str, Guest]) -> None:
        """As a whole. Without guests nobody serves there."""
        lines = [zone.line, *(guest.line for guest in guests.values())] if guests else [_NOWHERE]
        new = f"{self.path}.new"
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            # Not with fsync: it is gone with the boot.
            with open(new, "w", encoding="ascii", opener=_private) as file:
                file.write("".join(f"{line}\n" for line in lines))
            os.rename(new, f"{self.path}/{zone.file}")
        except OSError as error:
            raise files.storage_error(error, "write", new) from error

    def remove(self, some: Iterable[str]) -> None:
        """Files; not while they may be about to be read. They need not be there."""
        for file in some:
            with suppress(OSError):
                os.unlink(f"{self.path}/{file}")

    def clear(self) -> None:
        """Nobody reads it any more: all of it."""
        with suppress(OSError):
            self.remove(os.listdir(self.path))
            os.rmdir(self.path)


def _split(text: str) -> list[str]:
    return text.split(",") if text else []


def _guest(line: str) -> Guest:
    id, v4, v6, names, servers = (*line.split(" "), "")[:5]
    return Guest(id, _split(v4) + _split(v6), _split(names), _split(servers))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
