"""The bridges of networks that containers are on, and the networks' part of the packet filter.

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
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from supervisor.network.plans import NetworkPlan

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

    def note(self, container: str, networks: Iterable[NetworkPlan]) -> None:
        """What a record says."""
        for network in networks:
            self._users.setdefault(network.id, set()).add(container)

    def users(self, network_id: str) -> frozenset[str]:
        return frozenset(self._users.get(network_id, ()))

    async def hold(self, container: str, network: NetworkPlan, netns: int | None) -> None:
        """There is the bridge, for as long as the container does not leave it. NetworkFailed, NotSupported."""
        async with self._lock:
            self._users.setdefault(network.id, set()).add(container)
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


def _take_away(network: NetworkPlan) -> None:
    if network.driver != "bridge":
        return
    firewall.remove_network(network)
    if not links.parts_of(network):  # other engines' containers may be on it
        links.remove_bridge(network)
