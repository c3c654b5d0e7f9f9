"""The way out of the sandbox: the program through which containers on an ordinary user's bridges reach what the host does.

pasta or slirp4netns, as configured; it ends with the sandbox.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from supervisor.kernel.addresses import first_address, outer_address
from supervisor.network import pasta, programs, slirp4netns
from supervisor.runtime.networks.helper_book import Helper, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from supervisor.settings.model import Settings

__all__ = ["WayOut"]


_IPV4 = ("-a", "169.254.2.2", "-n", "24", "-g", "169.254.2.1")
_IPV6 = ("-a", "fd70:796d:616e::2", "-g", "fd70:796d:616e::1")
_ADDRESSING = frozenset({"-a", "--address", "-n", "--netmask", "-g", "--gateway"})


class _Told(NamedTuple):
    """What a program is told, and what follows from that."""

    argv: Sequence[str]
    forwarders: Sequence[str]
    host: str | None
    ipv6: bool


class WayOut(Helper):
    key = "sandbox-network"

    def __init__(self, settings: Callable[[], Settings], path: str) -> None:
        """`path`: where the sandbox is kept."""
        self._settings = settings
        self._path = path
        self.pid_file = f"{os.path.dirname(path)}/pasta.pid"
        self.name = pasta.PROGRAM
        self.netns = -1
        """A descriptor of the sandbox, when it is begun."""
        self.forwarders: Sequence[str] = ()
        """Who answers queries there, for those whom the host asks."""
        self.host: str | None = ""
        """By which containers find the host; empty: the host's first address; None: by none."""
        self.ipv6 = False

    async def settle(self) -> None:
        """Which program it is, and what containers are told of it. NotSupported, InvalidArgument."""
        await self._told()

    async def program(self, stack: ExitStack) -> Program:
        del stack
        told = await self._told()
        if self.name == pasta.PROGRAM:
            return Program(
                [*told.argv, "--pid", self.pid_file, "--netns", self._path], pid_file=self.pid_file
            )
        return Program(told.argv, descriptors=(self.netns,), ready=slirp4netns.READY)

    async def _told(self) -> _Told:
        settings = self._settings()
        self.name = settings.network.default_rootless_network_cmd
        told = await _by_pasta(settings) if self.name == pasta.PROGRAM else self._by_slirp4netns(settings)
        self.forwarders, self.host, self.ipv6 = told.forwarders, told.host, told.ipv6
        return told

    def _by_slirp4netns(self, settings: Settings) -> _Told:
        engine = settings.engine
        path = engine.network_cmd_path or programs.find(
            slirp4netns.PROGRAM, engine.helper_binaries_dir, package="slirp4netns"
        )
        options = slirp4netns.parse(engine.network_cmd_options)
        arguments = slirp4netns.arguments(options, self.netns, exit_fd=None, forwards=False)
        return _Told([path, *arguments], [options.server], "", options.enable_ipv6)


async def _by_pasta(settings: Settings) -> _Told:
    path = programs.find(pasta.PROGRAM, settings.engine.helper_binaries_dir, package="passt")
    knows = await programs.knows(path, pasta.GUEST_MAP, deadline=settings.pyman.call_deadline)
    options = [*_addresses(settings.network.pasta_options), *settings.network.pasta_options]
    setup = pasta.set_up(options, [], maps_guest=knows)
    host = setup.host or first_address(setup.own) or None
    return _Told([path, *setup.arguments], setup.servers, host, any(":" in each for each in setup.own))


def _addresses(configured: Sequence[str]) -> list[str]:
    """Of the sandbox, which nobody sees. With the host's, as pasta has it unless told otherwise, it would take for its own
    what containers send to the host."""
    if any(word.partition("=")[0] in _ADDRESSING for word in configured):
        return []
    found: list[str] = []
    for ipv6, words in ((False, _IPV4), (True, _IPV6)):
        if outer_address(ipv6=ipv6):
            found += words
    return found
