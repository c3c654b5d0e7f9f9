"""Addresses that DHCP servers give to one container: a client for each such network, and what these have written down.

A client is begun when the interface is there, and ends before that goes: then it gives its lease back. The book of helpers
has it there again if it ends before; what it has got stays on the interface meanwhile. Nothing of it is allocated: the
record follows what the clients write down.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from pyman.errors import NetworkFailed, PymanError
from supervisor.kernel import files
from supervisor.kernel.inotify import MOVED_TO, Inotify
from supervisor.logging import log
from supervisor.network.dhcp import client, lease
from supervisor.network.kernel import links
from supervisor.network.plans import Address
from supervisor.runtime.networks.programs.helper_program import Program
from supervisor.runtime.networks.programs.helper_start import last_words
from supervisor.runtime.networks.programs.in_container import ContainerHelper
from supervisor.runtime.records import replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import ExitStack

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.dhcp.lease import Lease
    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Observed
    from supervisor.runtime.services import Services

__all__ = ["Leasing"]

_ANSWER = 10.0
"""Seconds that a server has to give an address."""
_MOST_SAID = 200
"""Characters of a client's last words."""


class Leasing:
    """Of one container: its clients, one for each network with a DHCP server, and what these have written down."""

    def __init__(self, services: Services, container: Container) -> None:
        self.services = services
        self.container = container

    def key(self, name: str) -> str:
        """Of a client."""
        return f"{name}-{self.container.id}"

    def key_on(self, network_id: str) -> str:
        return self.key(f"{client.PROGRAM}-{network_id[:12]}")

    async def in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self.services.disk)

    @property
    def directory(self) -> str:
        """Where clients work."""
        return f"{self.services.layout.container_bundle(self.container.id)}/dhcp"

    async def find(self) -> list[str]:
        """The client. NotSupported."""
        settings = self.services.settings
        return await client.find(settings.engine.helper_binaries_dir, deadline=settings.pyman.call_deadline)

    # ------------------------------------------------------------------ clients

    async def get(self, init: ProcessRef, on: Iterable[str] | None = None) -> dict[str, Any]:
        """Addresses on the networks of these ids, or on all; what the record says then. NetworkFailed: there is one on
        which nobody gives any; clients are there all the same. NotSupported, StorageFailed, DeadlineExceeded."""
        wanted = [each for each in _leased(self.container.observed) if on is None or each[0].id in on]
        for network, attachment in wanted:
            await self._begin(init, network, attachment)
            # One after the other: the default route leads to the first that has one.
            await self._answered(attachment)
        return {"attachments": await self.found(self.container.observed)}

    async def _begin(self, init: ProcessRef, network: NetworkPlan, attachment: Attachment) -> None:
        await self.services.helpers.ensure(_Client(self, init, network, attachment, anew=True))

    async def adopt(self, init: ProcessRef) -> None:
        """Clients of an earlier supervisor, or new ones as soon as there can be."""
        for network, attachment in _leased(self.container.observed):
            await self.services.helpers.insist(_Client(self, init, network, attachment))

    async def end(self, networks: Iterable[NetworkPlan]) -> None:
        """Leases are given back. There need not be any. PymanError: a client is there still."""
        failure: PymanError | None = None
        for network in networks:
            if network.leased:
                try:
                    await self.services.helpers.end(self.key_on(network.id))
                    await self.in_thread(partial(client.clear, self.directory, network.id))
                except PymanError as error:
                    failure = failure or error
                except OSError as error:
                    failure = failure or files.storage_error(
                        error, "remove", error.filename or self.directory
                    )
        if failure is not None:
            raise failure

    async def mend(self, init: ProcessRef, netns: int, *, waits: bool) -> None:
        """Where an address is missing on the interface, it is asked for anew. `waits`: until it is there; else the record
        follows. Errors as `get`."""
        for network, attachment in _leased(self.container.observed):
            if await self._is_there(netns, attachment):
                continue
            await self.end([network])
            await self._begin(init, network, attachment)
            if waits:
                await self._answered(attachment)
        self.renew(self.container.observed)

    async def _is_there(self, netns: int, attachment: Attachment) -> bool:
        look = partial(links.has_addresses, netns, attachment)
        return await trio.to_thread.run_sync(look, limiter=self.services.disk)

    def renew(self, observed: Observed) -> None:
        """Ask servers once more, who then also get their default route if it is free by now. Nobody waits for it."""
        for network, _ in _leased(observed):
            self.services.helpers.signal(self.key_on(network.id), signal.SIGUSR1)

    # ------------------------------------------------------------------ what they have written down

    async def found(self, observed: Observed) -> list[Attachment]:
        """What it has on networks, as of now."""
        return await trio.to_thread.run_sync(partial(self._found, observed), limiter=self.services.disk)

    def _found(self, observed: Observed) -> list[Attachment]:
        by_lease = {network.id for network, _ in _leased(observed)}
        return [
            _with(each, self._lease(each)) if each.network_id in by_lease else each
            for each in observed.attachments
        ]

    def _lease(self, attachment: Attachment) -> Lease | None:
        try:
            return lease.read(f"{self.directory}/{client.record_of(attachment.network_id)}")
        except NetworkFailed as error:
            log.warning(
                "cannot read what a DHCP server has given", container=self.container.id, error=str(error)
            )
            return None

    async def _answered(self, attachment: Attachment) -> None:
        """Until there is a lease. NetworkFailed, StorageFailed."""
        look = partial(self._lease, attachment)
        try:
            with trio.move_on_after(_ANSWER) as scope, Inotify() as inotify:
                inotify.add(self.directory, MOVED_TO)
                while await trio.to_thread.run_sync(look, limiter=self.services.disk) is None:
                    await inotify.read()
        except OSError as error:
            raise files.storage_error(error, "watch", self.directory) from error
        if scope.cancelled_caught:
            name, network = self.container.name, attachment.network
            ask = partial(last_words, self.services.layout, self.key_on(attachment.network_id))
            said = (await trio.to_thread.run_sync(ask, limiter=self.services.disk))[:_MOST_SAID]
            raise NetworkFailed(
                f"cannot connect container '{name}' to network '{network}': no DHCP server has given it an address within"
                f" {_ANSWER:g} s{f' ({said})' if said else ''}",
                subject=network,
                hint="a DHCP server has to be reachable from the network's interface on the host",
            )

    async def watch(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell now, and whenever a client has written something down."""
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            with Inotify() as inotify:
                inotify.add(self.directory, MOVED_TO)
                while True:
                    await tell()
                    await inotify.read()
        except OSError as error:
            failure = files.storage_error(error, "watch", self.directory)
            log.warning("cannot follow leases", container=self.container.id, error=str(failure))


class _Client(ContainerHelper):
    def __init__(
        self,
        leasing: Leasing,
        init: ProcessRef,
        network: NetworkPlan,
        attachment: Attachment,
        *,
        anew: bool = False,
    ) -> None:
        """`anew`: what an earlier run had does not count."""
        super().__init__(leasing, init, client.PROGRAM)
        self.key = leasing.key_on(network.id)
        self._leasing = leasing
        self._network = network
        self._attachment = attachment
        self._anew = anew

    async def _program(self, stack: ExitStack) -> Program:
        del stack
        container, attachment = self._leasing.container, self._attachment
        words = await self._leasing.find()
        now = [each for each in container.observed.attachments if each.network_id == self._network.id]
        had = [address.address for each in now for address in each.addresses]
        arguments = client.arguments(attachment.interface, container.definition.hostname, "".join(had[:1]))
        return Program(
            [*words, *arguments],
            environment=client.environment(self._network, attachment),
            cwd=self._leasing.directory,
            network=self._netns,
        )

    def _make_ready(self) -> None:
        client.lay_out(self._leasing.directory, self._network.id, anew=self._anew)

    def _finish(self) -> None:
        self._anew = False


def _leased(observed: Observed) -> list[tuple[NetworkPlan, Attachment]]:
    both = zip(observed.networks, observed.attachments, strict=True)
    return [(network, attachment) for network, attachment in both if network.leased]


def _with(attachment: Attachment, found: Lease | None) -> Attachment:
    if found is None:
        return replaced(attachment, addresses=[], gateway="", servers=[], searches=[])
    return replaced(
        attachment,
        addresses=[Address(found.address, found.prefix)],
        gateway=found.gateway,
        servers=list(found.servers),
        searches=list(found.searches),
    )
