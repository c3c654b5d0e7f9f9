"""A container on an ordinary user's bridges, which are in the sandbox; ports of the host are led there by the forwarder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyman.errors import PymanError
from supervisor.logging import log
from supervisor.runtime.networks.wired.bridged import Bridged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.records import Observed

__all__ = ["Sandboxed"]


class Sandboxed(Bridged):
    async def plan(self) -> dict[str, Any]:
        planned = await super().plan()
        try:
            await self.services.sandbox.look()
        except BaseException:
            self.drop()
            raise
        return planned

    async def place(self) -> int:
        return await self.services.sandbox.place(self.id)

    async def ready_place(self) -> int:
        return await self.services.sandbox.ready(self.id)

    async def lead(self, observed: Observed) -> None:
        sandbox = self.services.sandbox
        if observed.attachments:
            await sandbox.publish(self.id, observed.ports, observed.attachments, self.sockets)
        else:
            await sandbox.unpublish(self.id)

    async def lead_no_more(self) -> None:
        if self.container.observed.ports:
            await self.services.sandbox.unpublish(self.id)

    async def heal(self) -> None:
        await self.services.sandbox.heal(self.id)

    def left(self) -> None:
        self.services.sandbox.left(self.id)

    def host_at(self, gateways: Sequence[str]) -> str | None:
        del gateways  # of the sandbox, where the host is not
        return self.services.sandbox.host

    @property
    def forwarders(self) -> list[str]:
        return list(self.services.sandbox.servers)

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        found = await super().connect(init)
        if self.container.observed.ports:
            # Should the forwarder have died meanwhile: the sockets are the monitor's by now.
            await self.lead(self.container.observed)
        return found

    async def adopt(self, init: ProcessRef) -> None:
        """The container runs on without what cannot be."""
        for step in (partial(self.services.sandbox.adopt, self.container), partial(super().adopt, init)):
            try:
                await step()
            except PymanError as error:
                log.warning("cannot bring back a network", container=self.id, error=str(error))

    async def turn_over(self) -> None:
        """The forwarder has the former monitor's sockets: the next run needs the ports itself."""
        await super().turn_over()
        await self.lead_no_more()
