"""A container on networks: addresses and ports are allocated, interfaces made, names and the packet filter told."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cached_property, partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from pyman.errors import NetworkFailed, PymanError
from supervisor.kernel import inside
from supervisor.logging import log
from supervisor.network import ports as host_ports
from supervisor.network.kernel import links
from supervisor.network.names import SEARCH_DOMAIN
from supervisor.network.planning import check_source, is_leased, plan_of
from supervisor.network.plans import is_ipv6
from supervisor.oci.request import Networking
from supervisor.runtime.networks.wired.claims import Claims
from supervisor.runtime.networks.wired.taking import Taking
from supervisor.runtime.records import replaced

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from pyman.api.network import Network
    from pyman.api.spec import NetworkWish
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.definitions.directory import Networks
    from supervisor.network.plans import Attachment, NetworkPlan, Port
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.wired.leasing import Leasing
    from supervisor.runtime.records import Observed
    from supervisor.runtime.services import Services

__all__ = ["Bridged"]

T = TypeVar("T")


class Bridged:
    """`wiring.Wiring` of bridge, macvlan and ipvlan networks, in this process's own network namespace."""

    def __init__(self, services: Services, container: Container) -> None:
        self.services = services
        self.container = container
        self.id = container.id
        self.taking = Taking(services, container.id)
        self.sockets: list[socket.socket] = []
        """That hold ports of the host, until conmon has them."""
        self._claims: Claims | None = None
        """Its addresses and bridges, until what a run has on networks is taken down: from one run that follows at once to the
        next, and should conmon end before the container does."""

    # ------------------------------------------------------------------ before the run

    async def plan(self) -> dict[str, Any]:
        observed = self.container.observed
        self._close_sockets()
        try:
            if observed.attachments:  # a restart by policy keeps them
                self.keep()
                await self._need(observed.networks)
                await self._claim(observed.ports)
                return {}
            self._close_claims()
            self._claims = self.claims()
            known = await self.services.networks.known()
            networks, attachments = await self._on_networks(known)
            await self._need(networks)
            ports = await self.taking.ports(self.container.definition.spec.portmappings)
            await self._claim(ports)
        except BaseException:
            self.drop()
            raise
        return {"attachments": attachments, "networks": networks, "ports": ports}

    def stays(self) -> bool:
        """It may have been put on a network since, or taken off one; or nobody has held its addresses meanwhile."""
        observed, wishes = self.container.observed, self.container.definition.spec.networks
        if observed.rewiring or [each.network for each in observed.attachments] != list(wishes):
            return False
        return all(map(_is_as_wished, wishes.values(), observed.attachments)) and not self.keep()

    def claims(self, monitor: ProcessRef | None = None) -> Claims | None:
        """For addresses and bridges; `monitor`: of a run that goes on. None: no other engine is where the bridges are."""
        return Claims(self.services.layout.sockets, monitor)

    def claims_of_run(self) -> Claims | None:
        """As `claims`; they are closed when that run is taken down."""
        if self._claims is None or not self._claims.held():
            self._claims = self.claims(self.container.observed.monitor)
        return self._claims

    def keep(self) -> frozenset[str]:
        """What is recorded is claimed, and nothing else. Addresses of it that another engine's container has."""
        claims = self.claims_of_run()
        return frozenset() if claims is None else claims.keep(self.container.observed)

    async def _on_networks(self, known: Networks) -> tuple[list[NetworkPlan], list[Attachment]]:
        wishes = self.container.definition.spec.networks
        networks, attachments = [], []
        for name, wish in wishes.items():
            network = known.find(name)
            await self.check_source(network)
            attachments.append(await self.taking.addresses(network, wish, self._claims))
            networks.append(plan_of(network, self.services.settings.network.dns_bind_port))
        return networks, attachments

    async def _need(self, networks: Iterable[NetworkPlan]) -> None:
        for network in networks:
            await self.taking.bridge(network, self._claims)

    async def check_source(self, network: Network) -> None:
        """That the addresses there can be had. NotSupported."""
        check_source(network, rootless=self.services.settings.rootless)
        if is_leased(network):
            await self.leasing.find()

    @cached_property
    def leasing(self) -> Leasing:
        """Of networks with a DHCP server alone."""
        from supervisor.runtime.networks.wired.leasing import Leasing

        return Leasing(self.services, self.container)

    async def _claim(self, ports: Sequence[Port]) -> None:
        if ports:
            claim, disk = partial(host_ports.claim, ports), self.services.disk
            self.sockets = await trio.to_thread.run_sync(claim, limiter=disk)

    def drop(self) -> None:
        self._close_sockets()
        if not self.container.observed.holds:
            self._close_claims()
            self.services.allocation.give_back(self.id)

    def close(self) -> None:
        self._close_sockets()
        self._close_claims()

    def _close_sockets(self) -> None:
        sockets, self.sockets = self.sockets, []
        for each in sockets:
            each.close()

    def _close_claims(self) -> None:
        if self._claims is not None:
            self._claims.close()
            self._claims = None

    def held(self) -> Sequence[int]:
        sockets = [each.fileno() for each in self.sockets]
        return sockets if self._claims is None else [*sockets, *self._claims.held()]

    # ------------------------------------------------------------------ the run

    async def hold(self, *, alone: bool) -> None:
        for address in sorted(self.keep()):
            log.warning("another engine's container has an address", container=self.id, address=address)
        if alone and not self.sockets:
            try:
                await self._claim(self.container.observed.ports)
            except PymanError as error:
                log.warning("cannot hold the ports of a container", container=self.id, error=str(error))

    async def place(self) -> int | None:
        """Where the bridges are: a descriptor of a network namespace, or None: this process's own. NetworkFailed."""
        return None

    async def ready_place(self) -> int | None:
        """As `place`; and what is on a bridge reaches what the host reaches. NetworkFailed, DeadlineExceeded."""
        return None

    async def lead(self, observed: Observed) -> None:
        """The ports of the host lead to the container's addresses. NetworkFailed, NotSupported."""
        place = await self.place()
        await self.services.bridges.publish(self.id, observed.ports, observed.attachments, place)

    async def lead_no_more(self) -> None:
        """They need not lead anywhere. To an address that is another engine's container's by now they are that one's.
        NetworkFailed."""
        if self.container.observed.ports:
            await self.services.bridges.unpublish(self.id, await self.place(), self.keep())

    async def heal(self) -> None:
        """What others have removed, besides what the packet filter has for bridges. NetworkFailed."""

    def left(self) -> None:
        """It is on no bridge any more."""

    async def ground(self) -> None:
        observed = self.container.observed
        place = await self.ready_place()
        await self._hold(observed.networks, place)
        if observed.ports:
            await self.lead(observed)
        if self.has_names():
            join, servers = self.services.naming.joined, self.forwarders
            on, having = observed.networks, observed.attachments
            again = partial(self._hold, on, place, anew=True)
            await join(self.container, on, having, netns=place, servers=servers, again=again)

    async def _hold(self, networks: Iterable[NetworkPlan], place: int | None, *, anew: bool = False) -> None:
        for network in networks:
            await self.services.bridges.hold(self.id, network, place, anew=anew)

    def has_names(self) -> bool:
        """On one of its networks containers find one another by their names."""
        return any(network.dns for network in self.container.observed.networks)

    def told(self, observed: Observed | None = None) -> Networking:
        """`observed`: what the record may say soon."""
        observed = observed or self.container.observed
        bridges = [each for each in observed.networks if each.driver == "bridge"]
        gateways = [subnet.gateway for each in bridges for subnet in each.subnets if subnet.gateway]
        served = [each for each in bridges if each.dns]
        servers = [subnet.gateway for each in served for subnet in each.subnets if subnet.gateway]
        leased = [each for on in observed.attachments for each in on.servers]
        searches = [SEARCH_DOMAIN] if served else []
        searches += [each for on in observed.attachments for each in on.searches]
        addresses = [each.address for on in observed.attachments for each in on.addresses]
        return Networking(
            addresses=addresses,
            host=self.host_at(gateways),
            forwarders=self.forwarders,
            ipv6=any(map(is_ipv6, addresses)),
            servers=[*servers, *leased] if servers else [],
            leased=leased,
            searches=searches,
        )

    def host_at(self, gateways: Sequence[str]) -> str | None:
        """By which the container finds the host, as `Networking` has it. `gateways`: of its bridges."""
        return next((each for each in gateways if not is_ipv6(each)), next(iter(gateways), ""))

    @property
    def forwarders(self) -> list[str]:
        """Who asks the host's name servers for the container, if it cannot do that itself."""
        return []

    async def connect(self, init: ProcessRef) -> dict[str, Any]:
        observed = self.container.observed
        if not observed.attachments:
            return {}  # it has been taken off all of them
        with self.inside(init) as netns:
            await self.services.bridges.call(await self.place(), partial(self._attach, netns))
        if not observed.leased:
            return {}
        found = await self.leasing.get(init)
        await self.follow(observed, replaced(observed, **found))
        return found

    async def follow(self, former: Observed, now: Observed) -> None:
        """Its files and its ports, after a change of addresses. NetworkFailed, NotSupported, StorageFailed, DiskFull."""
        from supervisor.runtime.networks.wired.rewiring import Rewiring

        await Rewiring(self.services, self.container, self).follow(former, now)

    @contextmanager
    def inside(self, init: ProcessRef) -> Iterator[int]:
        """A descriptor of the container's network namespace. NetworkFailed."""
        try:
            netns = inside.of_process(init, "network")
        except OSError as error:
            name = self.container.name
            raise NetworkFailed(
                f"cannot connect container '{name}' to its networks: its first process has ended",
                subject=name,
            ) from error
        try:
            yield netns
        finally:
            os.close(netns)

    def _attach(self, netns: int) -> None:
        observed = self.container.observed
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            links.attach(netns, network, attachment, hairpin=observed.hairpin)

    async def adopt(self, init: ProcessRef) -> None:
        """Interfaces, rules and sockets are the kernel's and conmon's: they are there still."""
        if self.container.observed.leased:
            await self.leasing.adopt(init)
        try:
            await self.name_again()
        except PymanError as error:
            log.warning("cannot serve the names of a container", container=self.id, error=str(error))

    async def name_again(self, *, anew: bool = False) -> None:
        """It has names already; `anew`: somebody may have taken them away. NetworkFailed, StorageFailed, DiskFull."""
        if self.has_names():
            observed, rejoin = self.container.observed, self.services.naming.rejoined
            place, servers = await self.place(), self.forwarders
            await rejoin(
                self.container,
                observed.networks,
                observed.attachments,
                netns=place,
                servers=servers,
                anew=anew,
            )

    # ------------------------------------------------------------------ after the run

    async def turn_over(self) -> None:
        """Interfaces go with the namespace; addresses, rules and bridges are the next run's as well. A lease is not."""
        if self.container.observed.leased:
            await self.leasing.end(self.container.observed.networks)

    async def take_down(self) -> None:
        observed = self.container.observed
        if not observed.attachments:
            self._close_claims()
            return
        bridges, place = self.services.bridges, await self.place()
        failures: list[PymanError] = []

        async def attempt(step: Callable[[], Awaitable[object]]) -> None:
            try:
                await step()
            except PymanError as error:
                failures.append(error)

        if observed.leased:
            await attempt(partial(self.leasing.end, observed.networks))
        if self.has_names():
            await attempt(partial(self.services.naming.left, self.id))
        await attempt(self.lead_no_more)
        # One of the dependents may be in its network namespace, which does not end then; and an interface whose name on the
        # host was asked for is in the next run's way.
        at_once = self.services.dependents(self.id) or any(
            wish.options for wish in self.container.definition.spec.networks.values()
        )
        for attachment in observed.attachments if at_once else ():
            await attempt(partial(bridges.call, place, partial(links.detach, attachment)))
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            bridges.leave(self.id, network, place, None if at_once else attachment)
        if failures:
            raise _together(failures)
        self.left()
        self._close_claims()


def _is_as_wished(wish: NetworkWish, attachment: Attachment) -> bool:
    """What nobody wishes for may be anything."""
    own_name = wish.options.get("host_interface_name") or attachment.host_interface
    return (
        {ip_address(each) for each in wish.static_ips}
        <= {ip_address(each.address) for each in attachment.addresses}
        and wish.static_mac in ("", attachment.mac)
        and own_name == attachment.host_interface
        and wish.interface_name == attachment.interface
        and wish.aliases == attachment.aliases
    )


def _together(failures: Sequence[PymanError]) -> PymanError:
    """All of them in one."""
    first, *others = failures
    if not others:
        return first
    return NetworkFailed("; ".join(map(str, failures)), subject=first.subject)
