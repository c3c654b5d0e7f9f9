"""The way out of the sandbox: the program through which containers on an ordinary user's bridges reach what the host does.

pasta or slirp4netns, as configured; both end with the sandbox. A pasta needs a host with a default route; where there is
none it is slirp4netns, with which the sandbox is there for one that comes later.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pyman.errors import NotSupported
from supervisor.kernel.addresses import first_address, outer_address
from supervisor.kernel.process import words_of
from supervisor.network.user_mode import pasta, programs, slirp4netns
from supervisor.runtime.networks.programs.helper_program import Helper, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.settings.model import Settings

__all__ = ["WayOut"]

_IPV4 = ("-a", "169.254.2.2", "-n", "24", "-g", "169.254.2.1")
_IPV6 = ("-a", "fd70:796d:616e::2", "-g", "fd70:796d:616e::1")
_ADDRESSING = frozenset({"-a", "--address", "-n", "--netmask", "-g", "--gateway"})


class WayOut(Helper):
    """One for a sandbox, whichever program it is."""

    key = "sandbox-network"
    device = programs.TUN
    netns = -1
    """A descriptor of the sandbox, before it is begun."""

    def __init__(self, settings: Callable[[], Settings], path: str) -> None:
        """`path`: where the sandbox is kept."""
        self._settings = settings
        self._path = path
        self.pid_file = f"{os.path.dirname(path)}/pasta.pid"
        self.name = settings().network.default_rootless_network_cmd
        self.servers: Sequence[str] = ()
        """Who answers queries there, for those whom the host asks."""
        self.host: str | None = None
        """The host, as containers see it; None: not at all."""
        self._begun = ""
        """The one that is there, whatever would be chosen now."""
        self._told: Sequence[str] = ()
        """A pasta that is there was told this, whatever the host has become meanwhile."""

    async def look(self) -> list[str]:
        """What it is begun with, but where the sandbox is: `servers` and `host` follow from it. NotSupported,
        InvalidArgument: as configured it cannot be."""
        settings = self._settings()
        self.name = self._begun or self._chosen(settings)
        if self.name == slirp4netns.PROGRAM:
            path = settings.engine.network_cmd_path or self._found("slirp4netns")
            options = slirp4netns.parse(settings.engine.network_cmd_options)
            self.servers = [options.server]
            self.host = options.gateway if options.allow_host_loopback else first_address() or None
            return [path, *slirp4netns.arguments(options, self.netns, exit_fd=None, forwards=False)]
        path = self._found("passt", 'default_rootless_network_cmd = "slirp4netns" in containers.conf')
        deadline = settings.pyman.call_deadline
        maps_guest = await programs.knows(path, pasta.GUEST_MAP, deadline=deadline)
        pasta.check(settings.network.pasta_options)
        configured = settings.network.pasta_options
        words = self._told or [*_addresses(configured), *configured]
        setup = pasta.set_up(words, [], maps_guest=maps_guest)
        self.servers = setup.servers
        self.host = setup.host or first_address(setup.own) or None
        return [path, *setup.arguments, "--pid", self.pid_file, "--netns", self._path]

    @staticmethod
    def _chosen(settings: Settings) -> str:
        chosen = settings.network.default_rootless_network_cmd
        if chosen == pasta.PROGRAM and not (outer_address(ipv6=False) or outer_address(ipv6=True)):
            with suppress(NotSupported):
                programs.find(slirp4netns.PROGRAM, settings.engine.helper_binaries_dir, package="")
                return slirp4netns.PROGRAM
        return chosen

    async def adopt(self, ref: ProcessRef) -> None:
        """One that an earlier supervisor has begun. Errors as `look`."""
        if not self._begun:
            path, *words = words_of(ref.pid) or [""]
            is_pasta = os.path.basename(path) != slirp4netns.PROGRAM
            self._begun = pasta.PROGRAM if is_pasta else slirp4netns.PROGRAM
            self._told = words if is_pasta else ()
            await self.look()

    def forget(self) -> None:
        """There is none any more."""
        self.netns = -1
        self._begun, self._told = "", ()

    def _found(self, package: str, instead: str = "") -> str:
        directories = self._settings().engine.helper_binaries_dir
        return programs.find(self.name, directories, package=package, instead=instead)

    async def program(self, stack: ExitStack) -> Program:
        del stack
        self._begun, self._told = "", ()
        argv = await self.look()
        self._begun = self.name
        if self.name == slirp4netns.PROGRAM:
            return Program(argv, descriptors=(self.netns,), ready=slirp4netns.READY)
        self._told = argv[1:]
        await pasta.end_former(self.pid_file)
        return Program(argv, pid_file=self.pid_file)


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
