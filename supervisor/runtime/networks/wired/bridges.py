"""The bridges of networks that containers are on, and what the packet filter knows of networks and of published ports.

A bridge comes with the first container that is on its network and goes a moment after the last (`tidying`). One change at a
time; what the kernel is told happens in a thread, in the network namespace in which the bridges are.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, links
from supervisor.network.kernel.place import in_place
from supervisor.network.plans import labelled
from supervisor.runtime.networks.wired.tidying import Outcome, Tidying, identity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from supervisor.network.plans import Attachment, NetworkPlan, Port
    from supervisor.runtime.networks.wired.claims import Claims
    from supervisor.runtime.records import Observed
    from supervisor.state.database import Database

    T = TypeVar("T")

__all__ = ["Bridges", "take_away"]


class Bridges:
    """One for an engine, or for what an ordinary user has instead of the host."""

    def __init__(
        self,
        disk: trio.CapacityLimiter,
        engine: str,
        database: Database | None,
        spawn: Callable[[Callable[[], Awaitable[Any]]], object],
        *,
        publishes: bool = True,
        claims: Callable[[], Claims] | None = None,
    ) -> None:
        """`engine`: as labels name it. `database`: None: what is left ends with the namespace that it is in. `publishes`: the
        packet filter there leads ports into containers. `claims`: of bridges; None: no other engine is where they are."""
        self._disk = disk
        self._engine = engine
        self._claims = claims
        self._publishes = publishes
        self._tidying = Tidying(database, spawn, self._interfaces_gone, self._bridge_gone)
        self._lock = trio.Lock()
        self._users: dict[str, set[str]] = {}
        """Containers by networks' ids."""
        self._made: dict[str, int] = {}
        """Networks of which this supervisor knows that all is there, by their ids, and where."""
        self._plans: dict[str, NetworkPlan] = {}
        """Those that containers are on, by their ids."""
        self._published: dict[str, tuple[Sequence[Port], Sequence[Attachment]]] = {}
        """Ports that lead into containers, by the ids of these, and where there."""
        self._begun = self._rebuilt = 0
        """The last attempt to make all of it anew, and the last that has succeeded."""

    def recover(self, intents: Mapping[str, bytes]) -> None:
        """What may be there of an earlier supervisor's is taken away, unless somebody needs it. StateDamaged."""
        self._tidying.recover(intents)

    async def tidy_network(self, id: str) -> None:
        """What containers have left of one network, now: it is about to be removed."""
        await self._tidying.tidy_network(id)

    async def tidy_all(self) -> None:
        """What containers have left, now."""
        await self._tidying.tidy_all()

    def note(self, container: str, observed: Observed) -> None:
        """What a record says."""
        for network in observed.networks:
            self._hold(container, network)
        if observed.ports and self._publishes:
            self._published[container] = observed.ports, observed.attachments

    def _hold(self, container: str, network: NetworkPlan) -> None:
        self._users.setdefault(network.id, set()).add(container)
        self._plans[network.id] = network

    def users(self, network_id: str) -> frozenset[str]:
        return frozenset(self._users.get(network_id, ()))

    async def hold(
        self, container: str, network: NetworkPlan, netns: int | None, *, anew: bool = False
    ) -> None:
        """There is the bridge, for as long as the container does not leave it. `anew`: whatever is known of it. NetworkFailed,
        NotSupported."""
        if network.id not in self._made:
            await self._tidying.look_again(netns)  # what is in the way of a new one may have gone meanwhile
        async with self._lock:
            self._hold(container, network)
            where = identity(netns)
            if anew or self._made.get(network.id) != where or await self._is_missing(network, netns):
                if network.driver == "bridge":
                    await self._tidying.expect(network)
                    await self._make(network, netns)
                self._made[network.id] = where

    async def _is_missing(self, network: NetworkPlan, netns: int | None) -> bool:
        """Somebody has removed the bridge behind our back, as another engine does that finds nobody on it."""
        if network.driver != "bridge":
            return False
        return not await self.call(netns, partial(links.is_there, network))

    async def _make(self, network: NetworkPlan, netns: int | None) -> None:
        others = [each for each in self._plans.values() if each.driver == "bridge"]
        if not await self.call(netns, partial(_make, network, others)):
            await self._make_anew(netns)

    def begin_anew(self) -> None:
        """Nothing is there any more: bridges are in a new network namespace from now on."""
        self._made.clear()
        self._tidying.begin_anew()

    def leave(
        self,
        container: str,
        network: NetworkPlan,
        netns: int | None,
        attachment: Attachment | None = None,
    ) -> None:
        """It need not have been on it. `attachment`: whose end on the host the kernel is about to take away."""
        users = self._users.setdefault(network.id, set())
        users.discard(container)
        if not users:
            del self._users[network.id]
            self._plans.pop(network.id, None)
        if network.driver == "bridge":
            self._tidying.note(network, netns, attachment)

    async def _interfaces_gone(self, attachments: Sequence[Attachment], netns: int | None) -> None:
        await self.call(netns, partial(links.ensure_gone, attachments))

    async def _bridge_gone(self, network: NetworkPlan, netns: int | None) -> Outcome:
        async with self._lock:
            if network.id in self._users:
                return Outcome.DONE
            self._made.pop(network.id, None)
            others = [each for each in self._plans.values() if each.driver == "bridge"]
            work = partial(take_away, network, self._engine, others, self._claims)
            outcome = await self.call(netns, work)
            if outcome is Outcome.DONE:
                await self._tidying.forget(network)
            return outcome

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
                try:
                    await self.call(netns, partial(firewall.publish, *now))
                except NetworkFailed:
                    if await self.call(netns, firewall.is_there):
                        raise
                    await self._make_anew(netns)  # somebody has flushed it

    async def unpublish(
        self, container: str, netns: int | None, others: frozenset[str] = frozenset()
    ) -> None:
        """There need not be any. `others`: addresses that are not the container's any more. NetworkFailed."""
        async with self._lock:
            former = self._published.get(container)
            if former is not None:
                await self.call(netns, partial(firewall.unpublish, *former, others))
                del self._published[container]

    async def rebuild(self, netns: int | None) -> None:
        """All of it, whatever somebody else has done to it. NetworkFailed, NotSupported."""
        asked = self._begun
        async with self._lock:
            if self._rebuilt > asked:  # meanwhile, for somebody else
                return
            self._begun = begun = self._begun + 1
            await self._make_anew(netns)
            self._rebuilt = begun

    async def _make_anew(self, netns: int | None) -> None:
        networks = [each for each in self._plans.values() if each.driver == "bridge"]
        published = [(port, attachments) for ports, attachments in self._published.values() for port in ports]
        if networks:
            await self.call(netns, partial(_rebuild, networks, published))
        self._made = {id: where for id, where in self._made.items() if id in self._plans}

    async def call(self, netns: int | None, work: Callable[[], T]) -> T:
        """Something that the kernel is told there, in a thread."""
        return await trio.to_thread.run_sync(partial(in_place, netns, work), limiter=self._disk)


def _make(network: NetworkPlan, others: Sequence[NetworkPlan]) -> bool:
    """False: nobody has made the table yet, or by other rules, or somebody has flushed it."""
    links.ensure_bridge(network)
    if not firewall.is_there():
        return False
    firewall.add_network(network, others)
    return True


def _rebuild(networks: Sequence[NetworkPlan], published: Sequence[tuple[Port, Sequence[Attachment]]]) -> None:
    for network in networks:
        links.ensure_bridge(network)
    firewall.rebuild(networks, published)


def take_away(
    network: NetworkPlan, engine: str, others: Sequence[NetworkPlan], claims: Callable[[], Claims] | None
) -> Outcome:
    """What a network has on the host on which no container of the engine is. `others`: networks on which some are. `claims`:
    as `Bridges` has them."""
    with claims() if claims is not None else nullcontext() as held:
        strangers = links.cleared(network, engine)
        if network.is_unmanaged:
            return Outcome.DONE
        if any(labelled(each.alias)[1] == network.id for each in strangers):
            return Outcome.DONE  # another engine's containers are on this network: that takes it away
        if strangers or any(each.interface == network.interface for each in others):
            return Outcome.NEEDED
        if held is not None and not held.no_one_needs(network.interface):
            return Outcome.LATER  # another engine has no interface on it yet, or not any more
        firewall.remove_network(network, others)
        links.remove_bridge(network)
        return Outcome.DONE
