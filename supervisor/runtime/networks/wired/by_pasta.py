"""pasta as a container's network.

It gives up its rights before it opens the namespace, and may not look at other processes then. So the namespace is mounted
on a file in the container's run directory; and pasta ends by itself once that file is gone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyman.errors import NetworkFailed
from supervisor.kernel import mounts
from supervisor.kernel.addresses import first_address
from supervisor.network import ports as host_ports
from supervisor.network.plans import is_ipv6
from supervisor.network.user_mode import pasta, programs
from supervisor.oci.request import Networking
from supervisor.runtime.networks.programs.helper_program import Program
from supervisor.runtime.networks.programs.in_container import InterfaceHelper
from supervisor.runtime.networks.wired.user_mode import UserMode, unlink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from pyman.api.spec import ContainerSpec
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Port
    from supervisor.network.user_mode.pasta import Setup
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_program import Helper
    from supervisor.runtime.services import Services
    from supervisor.settings.model import Settings

__all__ = ["ByPasta", "options_of"]


def options_of(spec: ContainerSpec, settings: Settings) -> list[str]:
    """As configured, and then as asked for."""
    return [*settings.network.pasta_options, *spec.network_options.get(pasta.PROGRAM, ())]


class ByPasta(UserMode):
    mode = pasta.PROGRAM

    def __init__(self, services: Services, container: Container) -> None:
        super().__init__(services, container)
        self._program = ""
        self._maps_guest = False

    def _configured(self) -> list[str]:
        return options_of(self.container.definition.spec, self.services.settings)

    async def _find_program(self) -> None:
        settings = self.services.settings
        directories = settings.engine.helper_binaries_dir
        instead = "--network slirp4netns"
        self._program = programs.find(pasta.PROGRAM, directories, package="passt", instead=instead)
        self._maps_guest = await programs.knows(
            self._program, pasta.GUEST_MAP, deadline=settings.pyman.call_deadline
        )

    def _check_ports(self, ports: Sequence[Port]) -> None:
        host_ports.probe(ports)

    def _setup(self) -> Setup:
        return pasta.set_up(self.words, self.container.observed.ports, maps_guest=self._maps_guest)

    def told(self) -> Networking:
        setup = self._setup()
        return Networking(
            addresses=setup.own[:1],
            host=setup.host or first_address(setup.own) or None,
            forwarders=setup.servers,
            ipv6=any(map(is_ipv6, setup.own)),
        )

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        try:
            return await super().connect(init)
        except NetworkFailed as error:
            if self._setup().own:
                raise
            hint = "this host has no default route, which not every pasta can do without: use --network slirp4netns or none"
            raise NetworkFailed(error.message, subject=error.subject, hint=hint) from error

    def _helpers(self, init: ProcessRef) -> list[Helper]:
        return [_Pasta(self, init)]

    async def begin(self) -> tuple[str, Setup]:
        """The program, and what it is told now."""
        await self._find_program()
        return self._program, self._setup()

    @property
    def files(self) -> tuple[str, str]:
        """The namespace, and the program's pid."""
        return f"{self.bundle}/netns", f"{self.bundle}/pasta.pid"

    async def end_others(self) -> None:
        await pasta.end_former(self.files[1])

    def clear(self) -> None:
        mounts.unmount(self.files[0], lazy=True)
        for path in self.files:
            unlink(path)


class _Pasta(InterfaceHelper):
    def __init__(self, wiring: ByPasta, init: ProcessRef) -> None:
        super().__init__(wiring, init, pasta.PROGRAM)
        self._wiring = wiring

    async def program(self, stack: ExitStack) -> Program:
        await self._wiring.end_others()
        return await super().program(stack)

    def _make_ready(self) -> None:
        namespace, _ = self._wiring.files
        self._wiring.clear()
        os.close(os.open(namespace, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        mounts.bind(f"/proc/self/fd/{self._netns}", namespace, recursive=False)
        super()._make_ready()

    async def _program(self, stack: ExitStack) -> Program:
        del stack
        path, setup = await self._wiring.begin()
        namespace, pid = self._wiring.files
        return Program([path, *setup.arguments, "--pid", pid, "--netns", namespace], pid_file=pid)
