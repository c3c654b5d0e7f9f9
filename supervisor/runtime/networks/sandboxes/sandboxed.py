"""A container on an ordinary user's bridges, which are in the sandbox; ports of the host are led there by the forwarder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pyman.errors import PymanError
from supervisor.logging import log
from supervisor.network.kernel import links
from supervisor.runtime.networks.wired.bridged import Bridged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.records import Observed

__all__ = ["Sandboxed"]


class Sandboxed(Bridged):
    """`wiring.Wiring` of the same networks, in the sandbox."""

    async def plan(self) -> dict[str, Any]:
        planned = await super().plan()
        try:
            await self.services.sandbox.look()
        except BaseException:
            self.drop()
            raise
        return planned

    def claims(self, monitor: ProcessRef | None = None) -> None:
        """The sandbox is the engine's own."""

    async def hold(self, *, alone: bool) -> None:
        """The forwarder has the monitor's sockets, too."""

    async def place(self) -> int:
        return await self.services.sandbox.place(self.id)

    async def ready_place(self) -> int:
        return await self.services.sandbox.ready(self.id)

    async def lead(self, observed: Observed) -> None:
        await self.services.sandbox.ports.publish(self.id, observed, self.sockets)

    async def lead_no_more(self) -> None:
        if self.container.observed.ports:
            await self.services.sandbox.ports.unpublish(self.id)

    async def heal(self) -> None:
        await self.services.sandbox.heal(self.container)

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
        steps = self._adopt_attachments, self._adopt_sandbox, super().adopt
        for step in steps:
            try:
                await step(init)
            except PymanError as error:
                log.warning("cannot bring back a network", container=self.id, error=str(error))

    async def _adopt_attachments(self, init: ProcessRef) -> None:
        """The sandbox may have gone with the last process that kept it, and the container is on no bridge then. Before its
        programs come, which look at what is there."""
        place, bridges, observed = await self.place(), self.services.bridges, self.container.observed
        with self.inside(init) as netns:
            lost = await bridges.call(place, partial(_lost, netns, observed))
            if lost:
                log.warning("a container's bridges are gone, and made anew", container=self.id)
                await bridges.rebuild(place)
                await bridges.call(place, partial(_attach_anew, netns, lost, hairpin=observed.hairpin))

    async def _adopt_sandbox(self, init: ProcessRef) -> None:
        del init
        await self.services.sandbox.adopt(self.container)

    async def turn_over(self) -> None:
        """The forwarder has the former monitor's sockets: the next run needs the ports itself."""
        await super().turn_over()
        await self.lead_no_more()


def _lost(netns: int, observed: Observed) -> list[tuple[NetworkPlan, Attachment]]:
    """What it is not on, though it should be."""
    on = zip(observed.networks, observed.attachments, strict=True)
    return [each for each in on if not links.is_attached(netns, *each)]


def _attach_anew(netns: int, lost: Sequence[tuple[NetworkPlan, Attachment]], *, hairpin: bool) -> None:
    for each in lost:
        links.attach_anew(netns, *each, hairpin=hairpin)
