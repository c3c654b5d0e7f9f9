"""A container on networks: addresses and ports are allocated, interfaces made, names and the packet filter told."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pyman.errors import NetworkFailed, PymanError
from supervisor.kernel import inside
from supervisor.logging import log
from supervisor.network import links
from supervisor.network import ports as host_ports
from supervisor.network.planning import plan_of
from supervisor.oci.request import Networking
from supervisor.runtime.networks.taking import Taking

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.definitions.directory import Networks
    from supervisor.network.plans import Attachment, NetworkPlan, Port
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Observed
    from supervisor.runtime.services import Services

__all__ = ["Bridged"]

T = TypeVar("T")


class Bridged:
    """`wiring.Wiring` of bridge, macvlan and ipvlan networks."""

    def __init__(self, services: Services, container: Container) -> None:
        self._services = services
        self._container = container
        self._id = container.id
        self.taking = Taking(services, container.id)
        self._sockets: list[socket.socket] = []
        """That hold ports of the host, until conmon has them."""

    # ------------------------------------------------------------------ before the run

    async def plan(self) -> dict[str, Any]:
        observed = self._container.observed
        if observed.attachments:  # a restart by policy keeps them
            self._claim(observed.ports)
            return {}
        known = await self._services.networks.known()
        try:
            networks, attachments = await self._on_networks(known)
            ports = await self.taking.ports(self._container.definition.spec.portmappings)
            self._claim(ports)
        except BaseException:
            self.drop()
            raise
        return {"attachments": attachments, "networks": networks, "ports": ports}

    async def _on_networks(self, known: Networks) -> tuple[list[NetworkPlan], list[Attachment]]:
        wishes = self._container.definition.spec.networks
        networks, attachments = [], []
        for name, wish in wishes.items():
            network = known.find(name)
            take = partial(self._services.allocation.take, self._id, network, wish, wish.interface_name)
            attachments.append(await self.taking.patiently(take))
            networks.append(plan_of(network))
        return networks, attachments

    def _claim(self, ports: Sequence[Port]) -> None:
        self._close()
        if ports:
            self._sockets = host_ports.claim(ports)

    def drop(self) -> None:
        self._close()
        if not self._container.observed.attachments:
            self._services.allocation.give_back(self._id)

    def _close(self) -> None:
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()

    def held(self) -> Sequence[int]:
        return [each.fileno() for each in self._sockets]

    # ------------------------------------------------------------------ the run

    async def place(self) -> int | None:
        """Where the bridges are: a descriptor of a network namespace, or None: this process's own."""
        return None

    async def ground(self) -> None:
        observed, bridges = self._container.observed, self._services.bridges
        place = await self.place()
        for network in observed.networks:
            await bridges.hold(self._id, network, place)
        await self.lead(observed, place)

    async def lead(self, observed: Observed, place: int | None) -> None:
        """Its ports of the host, into it. NetworkFailed, NotSupported."""
        if observed.ports:
            await self._services.bridges.publish(self._id, observed.ports, observed.attachments, place)

    async def heal(self) -> None:
        """What somebody has flushed, and is in no bridge's part of the packet filter. Errors as `lead`."""

    def told(self, observed: Observed | None = None) -> Networking:
        """`observed`: what the record may say soon."""
        observed = observed or self._container.observed
        bridges = [each for each in observed.networks if each.driver == "bridge"]
        gateways = [subnet.gateway for each in bridges for subnet in each.subnets if subnet.gateway]
        served = [each for each in bridges if each.dns]
        return Networking(
            addresses=[each.address for on in observed.attachments for each in on.addresses],
            host=next((each for each in gateways if ":" not in each), next(iter(gateways), "")),
            servers=[subnet.gateway for each in served for subnet in each.subnets if subnet.gateway],
            searches=["dns.podman"] if served else [],
        )

    async def connect(self, init: ProcessRef) -> None:
        with self.inside(init) as netns:
            await self._services.bridges.call(await self.place(), partial(self._attach, netns))

    @contextmanager
    def inside(self, init: ProcessRef) -> Iterator[int]:
        """A descriptor of the container's network namespace. NetworkFailed."""
        try:
            netns = inside.of_process(init, "network")
        except OSError as error:
            name = self._container.name
            raise NetworkFailed(
                f"cannot connect container '{name}' to its networks: its first process has ended",
                subject=name,
            ) from error
        try:
            yield netns
        finally:
            os.close(netns)

    def _attach(self, netns: int) -> None:
        observed = self._container.observed
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            links.attach(netns, network, attachment, hairpin=bool(observed.ports))

    async def adopt(self, init: ProcessRef) -> None:
        """Interfaces, rules and sockets are the kernel's and conmon's: they are there still."""

    # ------------------------------------------------------------------ after the run

    async def turn_over(self) -> None:
        """Interfaces go with the namespace; addresses, rules and bridges are the next run's as well."""

    async def take_down(self) -> None:
        self._close()
        observed = self._container.observed
        if not observed.attachments:
            return
        bridges, place = self._services.bridges, await self.place()
        failures: list[PymanError] = []

        async def attempt(step: Callable[[], Awaitable[object]]) -> None:
            try:
                await step()
            except PymanError as error:
                failures.append(error)

        await attempt(partial(bridges.unpublish, self._id, place))
        if self._services.dependents(self._id):
            # One of them may be in its network namespace, which does not end then.
            await attempt(partial(bridges.call, place, self._detach))
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            bridges.leave(self._id, network, place, attachment.host_interface)
        for later in failures[1:]:
            log.warning("cannot take down a network", container=self._id, error=str(later))
        if failures:
            raise failures[0]

    def _detach(self) -> None:
        for attachment in self._container.observed.attachments:
            links.detach(attachment)
