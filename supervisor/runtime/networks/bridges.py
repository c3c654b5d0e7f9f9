"""The bridges of networks that containers are on, and what the packet filter knows of networks and of published ports.

A bridge comes with the first container that is on its network and goes with the last. One change at a time; what the
kernel is told happens in a thread, in the network namespace in which the bridges are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import NetworkFailed
from supervisor.network import firewall, links
from supervisor.network.place import in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from supervisor.network.plans import Attachment, NetworkPlan, Port
    from supervisor.runtime.records import Observed

    T = TypeVar("T")

__all__ = ["Bridges"]


class Bridges:
    """One for an engine, or for what an ordinary user has instead of the host."""

    def __init__(self, disk: trio.CapacityLimiter) -> None:
        self._disk = disk
        self._lock = trio.Lock()
        self._users: dict[str, set[str]] = {}
        """Containers by networks' ids."""
        self._made: set[str] = set()
        """Networks of which this supervisor knows that all is there."""
        self._plans: dict[str, NetworkPlan] = {}
        """Those that containers are on, by their ids."""
        self._published: dict[str, tuple[Sequence[Port], Sequence[Attachment]]] = {}
        """Ports that lead into containers, by the ids of these, and where there."""
        self._begun = self._rebuilt = 0
        """The last attempt to make all of it anew, and the last that has succeeded."""

    def note(self, container: str, observed: Observed) -> None:
        """What a record says."""
        for network in observed.networks:
            self._hold(container, network)
        if observed.ports:
            self._published[container] = observed.ports, observed.attachments

    def _hold(self, container: str, network: NetworkPlan) -> None:
        self._users.setdefault(network.id, set()).add(container)
        self._plans[network.id] = network

    def users(self, network_id: str) -> frozenset[str]:
        return frozenset(self._users.get(network_id, ()))

    async def hold(self, container: str, network: NetworkPlan, netns: int | None) -> None:
        """There is the bridge, for as long as the container does not leave it. NetworkFailed, NotSupported."""
        async with self._lock:
            self._hold(container, network)
            if network.id not in self._made:
                await self.call(netns, partial(_make, network))
                self._made.add(network.id)

    async def leave(self, container: str, network: NetworkPlan, netns: int | None) -> None:
        """It need not have been on it. NetworkFailed: then it still is."""
        async with self._lock:
            users = self._users.setdefault(network.id, set())
            if not users - {container}:
                self._made.discard(network.id)
                await self.call(netns, partial(_take_away, network))
            users.discard(container)
            if not users:
                del self._users[network.id]
                self._plans.pop(network.id, None)

    async def publish(
        self, container: str, ports: Sequence[Port], attachments: Sequence[Attachment], netns: int | None
    ) -> None:
        """Lead ports of the host into a container, or elsewhere in it. NetworkFailed, NotSupported."""
        async with self._lock:
            former, now = self._published.get(container), (ports, attachments)
            if former not in (None, now):
                await self.call(netns, partial(firewall.unpublish, *former))
                del self._published[container]
            if attachments:
                self._published[container] = now
                await self.call(netns, partial(firewall.publish, *now))

    async def unpublish(self, container: str, netns: int | None) -> None:
        """There need not be any. NetworkFailed."""
        async with self._lock:
            former = self._published.get(container)
            if former is not None:
                await self.call(netns, partial(firewall.unpublish, *former))
                del self._published[container]

    async def rebuild(self, netns: int | None) -> None:
        """All of it, whatever somebody else has done to it. NetworkFailed, NotSupported."""
        asked = self._begun
        async with self._lock:
            if self._rebuilt > asked:  # meanwhile, for somebody else
                return
            self._begun = begun = self._begun + 1
            networks = [each for each in self._plans.values() if each.driver == "bridge"]
            published = [
                (port, attachments) for ports, attachments in self._published.values() for port in ports
            ]
            if networks:
                await self.call(netns, partial(_rebuild, networks, published))
            self._rebuilt = begun

    async def call(self, netns: int | None, work: Callable[[], T]) -> T:
        """Something that the kernel is told there, in a thread."""
        return await trio.to_thread.run_sync(partial(in_place, netns, work), limiter=self._disk)


def _make(network: NetworkPlan) -> None:
    if network.driver != "bridge":
        return
    links.ensure_bridge(network)
    try:
        firewall.add_network(network)
    except NetworkFailed:
        # Nobody has made the table yet, or somebody has flushed it.
        if firewall.is_there():
            raise
        firewall.rebuild([network], [])


def _rebuild(networks: Sequence[NetworkPlan], published: Sequence[tuple[Port, Sequence[Attachment]]]) -> None:
    for network in networks:
        links.ensure_bridge(network)
    firewall.rebuild(networks, published)


def _take_away(network: NetworkPlan) -> None:
    if network.driver != "bridge":
        return
    if not links.parts_of(network):  # other engines' containers may be on it
        firewall.remove_network(network)
        links.remove_bridge(network)
