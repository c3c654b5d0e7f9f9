"""The way out of the sandbox: the program through which containers on an ordinary user's bridges reach what the host does.

pasta or slirp4netns, as configured; both end with the sandbox.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from supervisor.kernel.addresses import first_address
from supervisor.network import duplicates, pasta, programs, slirp4netns
from supervisor.runtime.networks.helper_book import Helper, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.settings.model import Settings

__all__ = ["WayOut"]


class WayOut(Helper):
    key = "sandbox-network"
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
        self._search = ""
        """What a setting of the namespace was."""

    async def look(self) -> list[str]:
        """What it is begun with, but where the sandbox is: `servers` and `host` follow from it. NotSupported,
        InvalidArgument: as configured it cannot be."""
        settings = self._settings()
        self.name = settings.network.default_rootless_network_cmd
        if self.name == slirp4netns.PROGRAM:
            path = settings.engine.network_cmd_path or self._found("slirp4netns")
            options = slirp4netns.parse(settings.engine.network_cmd_options)
            self.servers = [options.server]
            self.host = options.gateway if options.allow_host_loopback else None
            return [path, *slirp4netns.arguments(options, self.netns, exit_fd=None, forwards=False)]
        path = self._found("passt")
        deadline = settings.pyman.call_deadline
        maps_guest = await programs.knows(path, pasta.GUEST_MAP, deadline=deadline)
        pasta.check(settings.network.pasta_options)
        setup = pasta.set_up(settings.network.pasta_options, [], maps_guest=maps_guest)
        self.servers = setup.servers
        self.host = setup.host or first_address(setup.own) or None
        return [path, *setup.arguments, "--pid", self.pid_file, "--netns", self._path]

    def _found(self, package: str) -> str:
        return programs.find(self.name, self._settings().engine.helper_binaries_dir, package=package)

    async def program(self, stack: ExitStack) -> Program:
        del stack
        argv = await self.look()
        self._search = await trio.to_thread.run_sync(duplicates.search_no_more, self.netns)
        if self.name == slirp4netns.PROGRAM:
            return Program(argv, descriptors=(self.netns,), ready=slirp4netns.READY)
        return Program(argv, pid_file=self.pid_file)

    async def begun(self, ref: ProcessRef) -> None:
        del ref
        await trio.to_thread.run_sync(duplicates.search_again, self.netns, self._search)
