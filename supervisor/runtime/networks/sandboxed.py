"""A container on networks of an ordinary user: its bridges are in the sandbox, and the forwarder leads its ports there.

The packet filter in the sandbox knows the ports as well: there the host's address may be the sandbox's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pyman.errors import PymanError
from supervisor.logging import log
from supervisor.runtime.networks.bridged import Bridged

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.request import Networking
    from supervisor.runtime.records import Observed

__all__ = ["Sandboxed"]


class Sandboxed(Bridged):
    async def plan(self) -> dict[str, Any]:
        await self._services.sandbox.way_out.settle()
        return await super().plan()

    async def place(self) -> int | None:
        return await self._services.sandbox.place(self._id)

    async def ground(self) -> None:
        await self._services.sandbox.ready(self._id)
        await super().ground()

    async def lead(self, observed: Observed, place: int | None) -> None:
        await super().lead(observed, place)
        if observed.ports:
            await self._services.sandbox.publish(
                self._id, observed.ports, observed.attachments, self._sockets
            )

    async def heal(self) -> None:
        await super().heal()
        await self._services.sandbox.heal()

    def told(self, observed: Observed | None = None) -> Networking:
        way = self._services.sandbox.way_out
        return msgspec.structs.replace(
            super().told(observed), host=way.host, forwarders=list(way.forwarders), ipv6=way.ipv6
        )

    async def connect(self, init: ProcessRef) -> None:
        await super().connect(init)
        # Should the forwarder have died meanwhile: the sockets are the monitor's by now.
        await self.lead(self._container.observed, await self.place())

    async def adopt(self, init: ProcessRef) -> None:
        """The container runs on, without what cannot be brought back."""
        await super().adopt(init)
        try:
            await self._services.sandbox.way_out.settle()
            await self._services.sandbox.ready(self._id)
            await self.lead(self._container.observed, await self.place())
        except PymanError as error:
            log.warning("cannot bring back a network", container=self._id, error=str(error))

    async def turn_over(self) -> None:
        await super().turn_over()
        await self._services.sandbox.unpublish(self._id)  # else nobody could claim the ports

    async def take_down(self) -> None:
        if not self._container.observed.attachments:
            return
        await self._services.sandbox.unpublish(self._id)
        try:
            await super().take_down()
        finally:
            await self._services.sandbox.left(self._id)
