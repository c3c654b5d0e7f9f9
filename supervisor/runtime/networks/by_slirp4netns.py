"""slirp4netns as a container's network.

It ends with conmon, which has the other end of a pipe of its: a FIFO in the run directory, so that the next supervisor can
give it to another one. Where conmon is gone and the container is not, one is begun that does without.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.kernel import files, pipes
from supervisor.network import programs, slirp4netns
from supervisor.oci.request import Networking
from supervisor.runtime.networks.helper_book import Program
from supervisor.runtime.networks.user_mode import OfContainer, UserMode, probe, unlink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from pyman.api.spec import ContainerSpec
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Port
    from supervisor.network.slirp4netns import Options
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.helper_book import Helper
    from supervisor.runtime.services import Services
    from supervisor.settings.model import Settings

__all__ = ["BySlirp4netns", "options_of"]

_LIFELINE = "lifeline"


def options_of(spec: ContainerSpec, settings: Settings) -> Options:
    """As configured, and then as asked for. InvalidArgument."""
    asked = spec.network_options.get(slirp4netns.PROGRAM, ())
    return slirp4netns.parse([*settings.engine.network_cmd_options, *asked])


class BySlirp4netns(UserMode):
    mode = slirp4netns.PROGRAM

    def __init__(self, services: Services, container: Container) -> None:
        super().__init__(services, container)
        self._lifeline = -1
        """What conmon is going to have of it."""

    @property
    def options(self) -> Options:
        return options_of(self.container.definition.spec, self.services.settings)

    def find(self) -> str:
        """The program. NotSupported."""
        engine = self.services.settings.engine
        if engine.network_cmd_path:
            return engine.network_cmd_path
        return programs.find(slirp4netns.PROGRAM, engine.helper_binaries_dir, package="slirp4netns")

    async def _settle(self) -> None:
        self.find()

    def _look(self, ports: Sequence[Port]) -> None:
        probe(ports)

    def held(self) -> Sequence[int]:
        path = f"{self.bundle}/{_LIFELINE}"
        try:
            pipes.make_fifo(path)
            # For reading as well: then it need not wait for the other end.
            self._lifeline = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise files.storage_error(error, "make", path) from error
        return [self._lifeline]

    def drop(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        super().drop()

    def told(self) -> Networking:
        options = self.options
        return Networking(addresses=[options.own], forwarders=[options.server], ipv6=options.enable_ipv6)

    def _helpers(self, init: ProcessRef) -> list[Helper]:
        return [_Slirp4netns(self, init)]

    def lifeline(self) -> int | None:
        """Its other end, for a program that has to end with conmon; None: conmon is gone."""
        path = f"{self.bundle}/{_LIFELINE}"
        with suppress(OSError):
            # Only where somebody reads can it be written to, and conmon does both.
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        return None

    def _clear(self) -> None:
        for name in (_LIFELINE, slirp4netns.SOCKET):
            unlink(f"{self.bundle}/{name}")


class _Slirp4netns(OfContainer):
    def __init__(self, wiring: BySlirp4netns, init: ProcessRef) -> None:
        super().__init__(wiring, init)
        self._wiring = wiring
        self._ports = wiring.container.observed.ports

    async def _program(self, stack: ExitStack) -> Program:
        wiring = self._wiring
        lifeline = wiring.lifeline()
        if lifeline is not None:
            stack.callback(os.close, lifeline)
        arguments = slirp4netns.arguments(
            wiring.options, self._netns, exit_fd=lifeline, forwards=bool(self._ports)
        )
        return Program(
            [wiring.find(), *arguments],
            cwd=wiring.bundle,
            descriptors=(self._netns,) if lifeline is None else (self._netns, lifeline),
            ready=slirp4netns.READY,
        )

    def _make_ready(self) -> None:
        unlink(f"{self._wiring.bundle}/{slirp4netns.SOCKET}")
        super()._make_ready()

    def _finish(self) -> None:
        super()._finish()
        if self._ports:
            slirp4netns.forward(self._wiring.bundle, self._ports)
