"""Addresses and ports that a container takes for its coming run. What another one has that has just ended is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from pyman.names import STATES_WITH_PROCESS
from supervisor.network import ports as host_ports
from supervisor.network.plans import Port
from supervisor.runtime.networks.allocation import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pyman.api.spec import PortMapping
    from supervisor.runtime.services import Services

__all__ = ["Taking"]

T = TypeVar("T")


class Taking:
    """On behalf of one container."""

    def __init__(self, services: Services, id: str) -> None:
        self._services = services
        self._id = id

    async def patiently(self, take: Callable[[], T]) -> T:
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

    async def ports(self, wishes: Iterable[PortMapping]) -> list[Port]:
        """Of the host, one by one. PortInUse, NetworkFailed, PermissionDenied."""

        def take() -> list[Port]:
            found = [port for wish in wishes for port in self._expanded(wish)]
            self._services.allocation.take_ports(self._id, found)
            return found

        return await self.patiently(take)

    def _expanded(self, wish: PortMapping) -> Iterator[Port]:
        for protocol in wish.protocol.split(","):
            first = wish.host_port or self._choose(protocol, wish.host_ip, wish.range)
            for step in range(wish.range):
                yield Port(first + step, wish.container_port + step, protocol, wish.host_ip)

    def _choose(self, protocol: str, host_ip: str, count: int) -> int:
        allocation = self._services.allocation

        def taken(number: int) -> bool:
            return bool(allocation.port_holder(Port(number, number, protocol, host_ip)))

        return host_ports.choose(protocol, host_ip, count, taken)

    def _is_ending(self, id: str) -> bool:
        """One that nobody finds any more has been removed: what is left of it is being taken away."""
        holder = self._services.find(id)
        if holder is None:
            return True
        return holder.observed.state not in STATES_WITH_PROCESS and bool(holder.observed.finished_at)
