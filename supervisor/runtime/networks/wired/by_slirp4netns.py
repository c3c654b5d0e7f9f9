"""slirp4netns as a container's network, and what leads ports into it: itself, or the forwarder, which is faster.

Both end with conmon, which has the other end of a pipe of theirs: a FIFO in the run directory, so that the next supervisor
can give it to others. Where conmon is gone and the container is not, some are begun that do without.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from supervisor.kernel import files, pipes, process
from supervisor.network import ports as host_ports
from supervisor.network.relay import forwarding
from supervisor.network.user_mode import programs, slirp4netns
from supervisor.oci.request import Networking
from supervisor.runtime.networks.programs.helper_program import Program
from supervisor.runtime.networks.programs.in_container import ContainerHelper, InterfaceHelper
from supervisor.runtime.networks.wired.holding import holders
from supervisor.runtime.networks.wired.user_mode import UserMode, unlink

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Port
    from supervisor.network.user_mode.slirp4netns import Options
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_program import Helper
    from supervisor.runtime.services import Services
    from supervisor.settings.model import Settings

__all__ = ["BySlirp4netns", "options_of"]

_LIFELINE, _CONTROL = "lifeline", "ports.sock"
_PORTS = "forwarder"


def options_of(spec: ContainerSpec, settings: Settings) -> list[str]:
    """As configured, and then as asked for."""
    return [*settings.engine.network_cmd_options, *spec.network_options.get(slirp4netns.PROGRAM, ())]


class BySlirp4netns(UserMode):
    mode = slirp4netns.PROGRAM

    def __init__(self, services: Services, container: Container) -> None:
        super().__init__(services, container)
        self._lifeline = -1
        """What conmon is going to have of it."""
        self._sockets: list[socket.socket] = []
        """That hold ports of the host, until conmon has them."""

    def _configured(self) -> list[str]:
        return options_of(self.container.definition.spec, self.services.settings)

    @property
    def options(self) -> Options:
        """InvalidArgument."""
        return slirp4netns.parse(self.words)

    def find(self) -> str:
        """The program. NotSupported."""
        engine = self.services.settings.engine
        if engine.network_cmd_path:
            return engine.network_cmd_path
        return programs.find(slirp4netns.PROGRAM, engine.helper_binaries_dir, package="slirp4netns")

    async def _find_program(self) -> None:
        self.find()

    def _check_ports(self, ports: Sequence[Port]) -> None:
        self._close()
        if self.forwards:
            host_ports.probe(ports)
        else:
            self._sockets = host_ports.claim(ports)

    @property
    def forwards(self) -> bool:
        """It leads ports itself."""
        return self.options.port_handler == slirp4netns.PROGRAM

    def held(self) -> Sequence[int]:
        path = f"{self.bundle}/{_LIFELINE}"
        try:
            pipes.make_fifo(path)
            # For reading as well: then it need not wait for the other end.
            self._lifeline = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise files.storage_error(error, "make", path) from error
        return [self._lifeline, *(each.fileno() for each in self._sockets)]

    def drop(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        self._close()
        super().drop()

    def _close(self) -> None:
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()

    def told(self) -> Networking:
        options = self.options
        return Networking(addresses=[options.own], forwarders=[options.server], ipv6=options.enable_ipv6)

    def _helpers(self, init: ProcessRef) -> list[Helper]:
        network = _Slirp4netns(self, init)
        if self.forwards or not self.container.observed.ports:
            return [network]
        return [network, _Forwarder(self, init)]

    def _keys(self) -> list[str]:
        return [self.key(_PORTS), *super()._keys()]

    def lifeline(self, stack: ExitStack) -> int | None:
        """Its other end, for a program that has to end with conmon; None: conmon is gone."""
        monitor = self.container.observed.monitor
        pidfd = process.open_pidfd(monitor) if monitor is not None else None
        if pidfd is None or stack.enter_context(pidfd).exited():
            return None
        path = f"{self.bundle}/{_LIFELINE}"
        try:
            found = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise files.storage_error(error, "open", path) from error
        stack.callback(os.close, found)
        return found

    @property
    def control(self) -> str:
        """Where the forwarder is told what to lead."""
        return f"{self.bundle}/{_CONTROL}"

    def clear(self) -> None:
        for name in (_LIFELINE, _CONTROL, slirp4netns.SOCKET):
            unlink(f"{self.bundle}/{name}")


class _Slirp4netns(InterfaceHelper):
    def __init__(self, wiring: BySlirp4netns, init: ProcessRef) -> None:
        super().__init__(wiring, init, slirp4netns.PROGRAM)
        self._wiring = wiring
        self._ports = wiring.container.observed.ports if wiring.forwards else []

    async def _program(self, stack: ExitStack) -> Program:
        wiring = self._wiring
        lifeline = wiring.lifeline(stack)
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


class _Forwarder(ContainerHelper):
    def __init__(self, wiring: BySlirp4netns, init: ProcessRef) -> None:
        super().__init__(wiring, init, _PORTS)
        self._wiring = wiring

    async def _program(self, stack: ExitStack) -> Program:
        try:
            self._listening = stack.enter_context(forwarding.listen(self._wiring.control))
        except OSError as error:
            raise files.storage_error(error, "listen at", self._wiring.control) from error
        control, lifeline = self._listening.fileno(), self._wiring.lifeline(stack)
        return Program(
            forwarding.command(self._wiring.control, control, transparent=False, lifeline=lifeline),
            descriptors=(control,) if lifeline is None else (control, lifeline),
            network=self._netns,
        )

    def _finish(self) -> None:
        self._listening.close()  # or nobody would hear that the program has ended
        container, own = self._wiring.container, self._wiring.options.own
        ports = container.observed.ports
        with ExitStack() as stack:
            sockets = holders(ports, container.observed.monitor, (), stack)
            forwarding.lead(
                self._wiring.control, container.id, sockets, [([own], port.container_port) for port in ports]
            )
