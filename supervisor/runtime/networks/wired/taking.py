"""Addresses and ports that a container takes for its coming run. What another one has that has just ended is waited for.

So is another engine that is taking away a bridge just now.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from msgspec.structs import replace

from pyman.names import State
from supervisor.logging import log
from supervisor.network.planning import plan_of
from supervisor.network.plans import Port, label_of
from supervisor.runtime.networks.wired.allocation import Held
from supervisor.runtime.records import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyman.api.network import Network
    from pyman.api.spec import NetworkWish, PortMapping
    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.networks.wired.claims import Claims
    from supervisor.runtime.services import Services

__all__ = ["Taking"]

T = TypeVar("T")

_LOOK = 0.02
"""Seconds until another engine is looked at again. The kernel could wait for the lock, in a thread: but one that is given up
would get it all the same, for the open file that a running container's monitor has, and nobody would give it back."""
_ENDED = (State.STOPPED, State.REMOVING)
"""States of containers of which something is being taken away."""


class Taking:
    """On behalf of one container."""

    def __init__(self, services: Services, id: str) -> None:
        self._services = services
        self._id = id

    async def addresses(self, network: Network, wish: NetworkWish, claims: Claims | None) -> Attachment:
        """Of one network. InvalidArgument, AddressInUse, NetworkFailed."""
        take = partial(self._services.allocation.take, self._id, network, wish, wish.interface_name)
        if claims is not None:
            plan = plan_of(network)
            take = partial(take, claim=partial(claims.take, plan), release=partial(claims.give_back, plan))
        attachment = await self._patiently(take)
        if not attachment.host_interface:
            return attachment
        label = label_of(self._services.database.journal_id, self._id, network.id)
        return replace(attachment, label=label)

    async def bridge(self, network: NetworkPlan, claims: Claims | None) -> None:
        """That there is going to be one of a network for as long as the container needs it."""
        if claims is None or network.driver != "bridge":
            return
        with trio.move_on_after(self._services.settings.pyman.call_deadline):
            while not claims.need(network.interface):  # noqa: ASYNC110 - of locks of files nobody is told
                await trio.sleep(_LOOK)
            return
        log.warning("another engine does not get done with taking a bridge away", bridge=network.interface)

    async def ports(self, mappings: Iterable[PortMapping]) -> list[Port]:
        """Of the host, one by one. PortInUse."""
        found = [
            Port(each.host_port + step, each.container_port + step, each.protocol, each.host_ip)
            for each in mappings
            for step in range(each.range)
        ]
        await self._patiently(lambda: self._services.allocation.take_ports(self._id, found))
        return found

    async def _patiently(self, take: Callable[[], T]) -> T:
        """Whatever is `Held`. AddressInUse, PortInUse, NetworkFailed."""
        allocation = self._services.allocation
        with trio.move_on_after(self._services.settings.pyman.call_deadline):
            while True:
                try:
                    return take()
                except Held as held:
                    refusal = held
                if not any(map(self._is_ending, refusal.holders)):
                    break
                await allocation.wait_given_back()
        message = refusal.message
        if len(refusal.holders) == 1:
            (holder,) = map(self._services.find, refusal.holders)
            who = "another container" if holder is None else f"container '{holder.name}'"
            message += f": {who} has it"
        raise refusal.kind(message, subject=refusal.subject)

    def _is_ending(self, id: str) -> bool:
        """One that nobody finds any more has been removed: what is left of it is being taken away. One that is to run again
        keeps what it has."""
        holder = self._services.find(id)
        if holder is None:
            return True
        return holder.observed.state in _ENDED and holder.observed.wanted is not Wanted.RUNNING
