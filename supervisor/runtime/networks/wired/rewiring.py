"""What a running container has on networks, changed: one more, one less, or mended where somebody has broken it.

What is recorded of the container is what is acted on: on a network that it is put on it is recorded already, and on one
that it is taken off it still is. All of it can be repeated.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from supervisor.network.kernel import links
from supervisor.network.planning import plan_of
from supervisor.network.plans import first_addresses
from supervisor.oci import live_files, resolver
from supervisor.oci.hosts import HOSTS
from supervisor.runtime.records import replaced
from supervisor.runtime.specs import build_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyman.api.network import Network
    from pyman.api.spec import NetworkWish
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.wired.bridged import Bridged
    from supervisor.runtime.records import Observed
    from supervisor.runtime.services import Services

__all__ = ["Rewiring"]


class Rewiring:
    """Of one container, for one request."""

    def __init__(self, services: Services, container: Container, wiring: Bridged) -> None:
        self._services = services
        self._container = container
        self._id = container.id
        self._wiring = wiring
        self._allotted: list[Attachment] = []
        """Where it is not yet, not even by the record."""

    async def allot(self, network: Network, wish: NetworkWish) -> Attachment:
        """What it is to have on one more network. InvalidArgument, AddressInUse, NetworkFailed, NotSupported."""
        await self._wiring.check_source(network)
        claims, taking = self._wiring.claims_of_run(), self._wiring.taking
        attachment = await taking.addresses(network, wish, claims)
        self._allotted.append(attachment)
        await taking.bridge(self.plan_of(network), claims)
        return attachment

    def plan_of(self, network: Network) -> NetworkPlan:
        return plan_of(network, self._services.settings.network.dns_bind_port)

    def give_up(self) -> None:
        """What it was to have."""
        if self._allotted:
            self._give_back(self._allotted)

    def give_back(self, former: Observed) -> None:
        """What it had on networks before that it has not now."""
        now = {network.id for network in self._container.observed.networks}
        self._give_back(each for each in former.attachments if each.network_id not in now)

    def _give_back(self, attachments: Iterable[Attachment]) -> None:
        for attachment in attachments:
            self._services.allocation.give_back(self._id, attachment.network_id)
        self._wiring.keep()

    def without(self, name: str) -> dict[str, Any]:
        """What the record says when it is off a network."""
        observed = self._container.observed
        return {
            "attachments": [each for each in observed.attachments if each.network != name],
            "networks": [each for each in observed.networks if each.name != name],
        }

    def _on(self, name: str) -> tuple[NetworkPlan, Attachment] | None:
        observed = self._container.observed
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            if network.name == name:
                return network, attachment
        return None

    async def put_on(self, name: str, init: ProcessRef) -> dict[str, Any]:
        """What the record says besides from then on. NetworkFailed, NotSupported, StorageFailed, DiskFull."""
        changes: dict[str, Any] = {}
        if (found := self._on(name)) is not None:
            network, attachment = found
            observed, bridges = self._container.observed, self._services.bridges
            place = await self._wiring.ready_place()
            await bridges.hold(self._id, network, place)
            with self._wiring.inside(init) as netns:
                attach = partial(links.attach, netns, network, attachment, hairpin=observed.hairpin)
                await bridges.call(place, attach)
            if network.dns:
                join, servers = self._services.naming.joined, self._wiring.forwarders
                await join(self._container, [network], [attachment], netns=place, servers=servers)
            if network.leased:
                changes = await self._wiring.leasing.get(init, [network.id])
                observed = replaced(observed, **changes)
            await self.follow(replaced(observed, **self.without(name)), observed)
        return changes

    async def take_off(self, name: str, init: ProcessRef) -> dict[str, Any]:
        """It need not have come on it altogether. Errors as `put_on`."""
        if (found := self._on(name)) is not None:
            network, attachment = found
            former, bridges = self._container.observed, self._services.bridges
            rest = replaced(former, **self.without(name))
            place = await self._wiring.place()
            await self._lead(former, rest)
            if network.dns:
                await self._services.naming.left(self._id, [network.id])
            if network.leased:
                await self._wiring.leasing.end([network])
            with self._wiring.inside(init) as netns:
                await bridges.call(place, partial(_detach, netns, attachment))
                # The default route has gone with it, where it led there.
                await bridges.call(place, partial(_mend, netns, rest))
            if rest.leased:
                self._wiring.leasing.renew(rest)
            bridges.leave(self._id, network, place)
            if not rest.attachments:
                self._wiring.left()
            await self._rewrite(former, rest)
        return {}

    async def put_back(self, name: str, init: ProcessRef) -> None:
        """It has been taken off it in part. Errors as `put_on`."""
        await self.mend(init, waits=False)
        observed = self._container.observed
        await self._rewrite(replaced(observed, **self.without(name)), observed)

    async def mend(self, init: ProcessRef, *, waits: bool = True) -> None:
        """What is missing of what it has on networks, and of all that the packet filter has to know. `waits`: for DHCP
        servers as well. NetworkFailed, NotSupported."""
        observed, bridges = self._container.observed, self._services.bridges
        place = await self._wiring.place()
        bridges.note(self._id, observed)
        await bridges.rebuild(place)
        await self._wiring.heal()
        with self._wiring.inside(init) as netns:
            await bridges.call(place, partial(_mend, netns, observed))
            if observed.leased:
                await self._wiring.leasing.mend(init, netns, waits=waits)
        await self._wiring.name_again(anew=True)

    async def follow(self, former: Observed, now: Observed) -> None:
        """After a change of addresses. Errors as `put_on`."""
        await self._lead(former, now)
        await self._rewrite(former, now)

    async def _lead(self, former: Observed, now: Observed) -> None:
        """Published ports lead to the first address of either kind."""
        if now.ports and first_addresses(former.attachments) != first_addresses(now.attachments):
            await self._wiring.lead(now)

    async def _rewrite(self, former: Observed, now: Observed) -> None:
        """Its hosts and resolv.conf."""
        rewrite = partial(self._rewrite_files, former, now)
        await trio.to_thread.run_sync(rewrite, limiter=self._services.disk)

    def _rewrite_files(self, former: Observed, now: Observed) -> None:
        from supervisor.runtime.life.joining import network_files

        before, after = self._wiring.told(former), self._wiring.told(now)
        files = network_files(self._services, self._id)
        definition = self._container.definition
        if (path := files.get(HOSTS)) is not None:
            names = list(dict.fromkeys((definition.hostname, definition.name)))
            was, becomes = (told.addresses or ["127.0.0.1"] for told in (before, after))
            live_files.rewrite(path, lambda text: live_files.changed_hosts(text, was, becomes, names))
        if (path := files.get(resolver.RESOLV_CONF)) is not None:
            lines = [
                resolver.resolv_conf(build_request(self._services, definition, "", networking=told), "bridge")
                for told in (before, after)
            ]
            live_files.rewrite(path, lambda text: live_files.changed_lines(text, *lines))


def _detach(netns: int, attachment: Attachment) -> None:
    links.detach(attachment)
    links.detach_inside(netns, attachment)


def _mend(netns: int, observed: Observed) -> None:
    for network, attachment in zip(observed.networks, observed.attachments, strict=True):
        links.mend(netns, network, attachment, hairpin=observed.hairpin)
