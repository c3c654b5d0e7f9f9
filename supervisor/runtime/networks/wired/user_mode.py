"""A container whose network is a program's: pasta or slirp4netns, which an ordinary user can have.

The program works between the container's network namespace and the host's ordinary sockets. It is begun anew for each run,
by the book of helpers, which has it there again if it ends before the container does. It takes the host's ports itself, so
until then they are only looked at.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from pyman.errors import NetworkFailed, PymanError
from supervisor.network.plans import Attachment
from supervisor.runtime.networks.wired.taking import Taking
from supervisor.runtime.networks.wiring import Unwired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Port
    from supervisor.oci.request import Networking
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_program import Helper
    from supervisor.runtime.services import Services

__all__ = ["UserMode", "unlink"]


class UserMode(Unwired, ABC):
    """`wiring.Wiring` of one program or two."""

    mode: ClassVar[str]

    def __init__(self, services: Services, container: Container) -> None:
        self.services = services
        self.container = container
        self._taking = Taking(services, container.id)

    def key(self, name: str) -> str:
        """Of a helper of its."""
        return f"{name}-{self.container.id}"

    async def in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self.services.disk)

    @property
    def bundle(self) -> str:
        return self.services.layout.container_bundle(self.container.id)

    # ------------------------------------------------------------------ what differs

    @abstractmethod
    def _configured(self) -> list[str]:
        """The program's options, by the settings of now."""

    @property
    def words(self) -> list[str]:
        """The program's options. A run keeps those with which it began, whatever is configured meanwhile."""
        recorded = self.container.observed.attachments
        return recorded[0].words if recorded else self._configured()

    @abstractmethod
    async def _find_program(self) -> None:
        """And what has to be known of it before a run. NotSupported."""

    @abstractmethod
    def _check_ports(self, ports: Sequence[Port]) -> None:
        """Whether the host's ports can be had. Blocks. PortInUse, NetworkFailed, PermissionDenied."""

    @abstractmethod
    def _helpers(self, init: ProcessRef) -> list[Helper]:
        """In the order in which they begin."""

    def _keys(self) -> list[str]:
        """Of all that there may be, in the order in which they end."""
        return [self.key(self.mode)]

    @abstractmethod
    def clear(self) -> None:
        """What they have had in the run directory. It need not be there. Blocks. OSError."""

    async def end_others(self) -> None:
        """Programs that are there although the book of helpers does not know them."""

    @abstractmethod
    def told(self) -> Networking: ...

    # ------------------------------------------------------------------ Wiring

    async def plan(self) -> dict[str, Any]:
        await self._find_program()
        observed = self.container.observed
        if observed.attachments:  # a restart by policy keeps its ports
            await self._look_at(observed.ports)
            return {}
        try:
            ports = await self._taking.ports(self.container.definition.spec.portmappings)
            await self._look_at(ports)
        except BaseException:
            self.drop()
            raise
        attachment = Attachment(self.mode, self.mode, self.mode, words=self._configured())
        return {"attachments": [attachment], "networks": [], "ports": ports}

    async def _look_at(self, ports: Sequence[Port]) -> None:
        if ports:
            await self.in_thread(partial(self._check_ports, ports))

    def stays(self) -> bool:
        return True

    def drop(self) -> None:
        if not self.container.observed.attachments:
            self.services.allocation.give_back(self.container.id)

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        for helper in self._helpers(init):
            await self.services.helpers.ensure(helper)
        return {}

    async def adopt(self, init: ProcessRef) -> None:
        """The container runs on without its network until that can be."""
        for helper in self._helpers(init):
            await self.services.helpers.insist(helper)

    async def turn_over(self) -> None:
        failure: PymanError | None = None
        for key in self._keys():
            try:
                await self.services.helpers.end(key)
            except PymanError as error:
                failure = failure or error
        await self.end_others()
        try:
            await self.in_thread(self.clear)
        except OSError as error:
            failure = failure or self._failed(error.strerror or str(error))
        if failure is not None:
            raise failure

    async def take_down(self) -> None:
        if self.container.observed.attachments:
            await self.turn_over()

    def _failed(self, reason: str) -> NetworkFailed:
        name = self.container.name
        return NetworkFailed(f"cannot take down the network of container '{name}': {reason}", subject=name)


def unlink(path: str) -> None:
    """It need not be there."""
    with suppress(FileNotFoundError):
        os.unlink(path)
