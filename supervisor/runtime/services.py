"""What every container's worker shares: settings, paths, the state, the tools and the host-wide limits."""

from __future__ import annotations

import os
from functools import cached_property, partial
from typing import TYPE_CHECKING

import trio

from supervisor.images.library import Images
from supervisor.kernel.process import ProcessRef
from supervisor.runtime.creation.userns import IdLedger
from supervisor.runtime.dependencies import Dependencies
from supervisor.runtime.health.schedule import Schedule
from supervisor.runtime.life.restart import Budget
from supervisor.runtime.rootfs.layers import OwnLayers
from supervisor.runtime.volumes.book import Volumes
from supervisor.state.database import Retention
from supervisor.storage.overlay import Overlays
from supervisor.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from pyman.api.event import Actor
    from pyman.api.network import Network
    from pyman.api.spec import ContainerSpec
    from supervisor.conmon.find import Conmon
    from supervisor.conmon.logs import LogKeeper
    from supervisor.events.journal import Journal
    from supervisor.images.transfer.arriving import Arriving
    from supervisor.images.transfer.leaving import Leaving
    from supervisor.oci.runtimes import Runtimes
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.book import NetworkBook
    from supervisor.runtime.networks.programs.helper_book import Helpers
    from supervisor.runtime.networks.programs.naming import Naming
    from supervisor.runtime.networks.sandboxes.sandbox import Sandbox
    from supervisor.runtime.networks.wired.allocation import Allocation
    from supervisor.runtime.networks.wired.bridges import Bridges
    from supervisor.runtime.registry import Registry
    from supervisor.runtime.secrets.book import Secrets
    from supervisor.runtime.secrets.choosing import Chosen as ChosenSecrets
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.state.database import Database

    RemoveContainer = Callable[[str, float | None, Actor | None], Awaitable[None]]

__all__ = ["Reaped", "Services"]

REAPED_KEPT = 4096
STARTS_AT_ONCE = 8
"""Containers being created by conmon at the same time: more only wait for the processor, and miss deadlines."""


class Reaped:
    """Wait statuses of the last orphans, for containers that lost their monitor."""

    def __init__(self) -> None:
        self._statuses: dict[ProcessRef, int] = {}

    def note(self, ref: ProcessRef, status: int) -> None:
        self._statuses[ref] = status
        while len(self._statuses) > REAPED_KEPT:
            del self._statuses[next(iter(self._statuses))]

    def status_of(self, ref: ProcessRef) -> int | None:
        """The wait status of exactly that process, if it was one of the last."""
        return self._statuses.get(ref)

    def read(self, path: str) -> None:
        """What the keeper reaped while no supervisor was there: `pid start-time status` lines. Read once."""
        try:
            with open(path, encoding="ascii") as file:
                lines = file.read(1 << 20).splitlines()
            os.unlink(path)
        except FileNotFoundError:
            return
        for line in lines:
            fields = line.split()
            if len(fields) == 3 and all(field.isdecimal() for field in fields):
                self.note(ProcessRef(int(fields[0]), int(fields[1])), int(fields[2]))


class Services:
    """Assembled once by the engine. `settings` is replaced as a whole by a reload."""

    settings: Settings
    budget: Budget

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        database: Database,
        journal: Journal,
        conmon: Conmon,
        runtimes: Runtimes,
        logs: LogKeeper,
        reaped: Reaped,
        registry: Registry,
    ) -> None:
        self.layout = layout
        self.database = database
        self.journal = journal
        self.conmon = conmon
        self.runtimes = runtimes
        self.logs = logs
        self.reaped = reaped
        self.starts = trio.CapacityLimiter(STARTS_AT_ONCE)
        self.disk = trio.CapacityLimiter(16)
        """Threads for mounts, directories and specs; apart from every other room's."""
        self.patient = trio.CapacityLimiter(16)
        """Threads that may wait for the image store's locks, which other engines hold for as long as they unpack."""
        self.overlays = Overlays(settings, layout)
        self.store = Store(layout, settings, self.overlays)
        """The image store, which other engines share."""
        self.layers = OwnLayers(self.store)
        self.images = Images(self.store, database, settings, layout)
        self.volumes = Volumes(layout, database, self.disk, rootless=settings.rootless)
        self.take(settings)
        self.ids = IdLedger()
        self.find: Callable[[str], Container | None] = lambda _id: None
        """The container of an id, if there is one."""
        self.dependents: Callable[[str], list[str]] = lambda _id: []
        """The names of the containers that cannot be without that of an id."""
        self._registry = registry
        self.dependencies = Dependencies(registry)
        self.health = Schedule(settings.pyman.health_checks_at_once)
        self.discard: Callable[[str], None] = lambda _path: None
        """Hands a directory to the task that deletes what was moved into the trash."""
        self.remove_container: RemoveContainer
        """By force, with the seconds until SIGKILL; none: its own."""
        self.spawn: Callable[[Callable[[], Awaitable[Any]]], Answer[Any]]
        """Begins work that lives as long as the engine."""
        self.ending = False
        """The supervisor ends: nothing is started any more, neither by a user nor by a policy."""

    # Every first command waits for what is imported at the start: these have many modules, which few ever need.

    @cached_property
    def arriving(self) -> Arriving:
        from supervisor.images.transfer.arriving import Arriving

        return Arriving(self.images, self.settings, self.layout)

    @cached_property
    def leaving(self) -> Leaving:
        from supervisor.images.transfer.leaving import Leaving

        return Leaving(self.images, self.arriving, self.layout)

    @cached_property
    def secrets(self) -> Secrets:
        from supervisor.runtime.secrets.book import Secrets

        return Secrets(
            self.layout.secrets, self.database, lambda: self.settings, self.disk, trio.CapacityLimiter(4)
        )

    @cached_property
    def networks(self) -> NetworkBook:
        from supervisor.runtime.networks.book import NetworkBook
        from supervisor.runtime.networks.users import leaving, users

        book = NetworkBook(
            self.layout,
            self.database,
            lambda: self.settings,
            self.disk,
            trio.CapacityLimiter(4),
            self.remove_container,
        )
        registry = self._registry

        async def tidy_network(network: Network) -> None:
            await registry.settled(leaving(network, registry.containers))
            if "bridges" in vars(self):
                # Another one may have its bridge and its subnets next.
                await self.bridges.tidy_network(network.id)

        book.users = lambda: users(registry.containers)
        book.containers = lambda: registry.containers
        book.changed = self._refresh_names
        book.tidy_network = tidy_network
        return book

    async def _refresh_names(self, network: Network) -> None:
        if network.dns_enabled and self.bridges.users(network.id):
            from supervisor.network.planning import plan_of

            await self.naming.refreshed(plan_of(network))

    @cached_property
    def allocation(self) -> Allocation:
        from supervisor.runtime.networks.wired.allocation import Allocation

        return Allocation()

    @cached_property
    def sandbox(self) -> Sandbox:
        """Of an ordinary user alone."""
        from supervisor.runtime.networks.sandboxes.sandbox import Sandbox

        return Sandbox(self)

    @cached_property
    def bridges(self) -> Bridges:
        from supervisor.runtime.networks.wired.bridges import Bridges
        from supervisor.runtime.networks.wired.claims import Claims

        engine = self.database.journal_id
        if self.settings.rootless:
            return Bridges(self.disk, engine, None, self.spawn, publishes=False)
        claims = partial(Claims, self.layout.sockets)
        return Bridges(self.disk, engine, self.database, self.spawn, claims=claims)

    @cached_property
    def helpers(self) -> Helpers:
        from supervisor.runtime.networks.programs.helper_book import Helpers

        return Helpers(self.layout, self.database, self.reaped, self.spawn, self.disk)

    @cached_property
    def naming(self) -> Naming:
        from supervisor.runtime.networks.programs.naming import Naming

        def is_known(id: str) -> bool:
            container = self.find(id)
            return container is not None and bool(container.observed.networks)

        return Naming(
            self.layout,
            lambda: self.settings,
            self.helpers,
            self.spawn,
            self.disk,
            is_known,
            self.networks.servers_of,
        )

    async def choose_secrets(self, spec: ContainerSpec) -> ChosenSecrets:
        """Those that a container to be asks for."""
        from supervisor.runtime.secrets.choosing import choose

        return await choose(self, spec)

    async def secret_values(self, spec: ContainerSpec) -> dict[str, str]:
        """The variables of a container that are secrets, with their values of now."""
        from supervisor.runtime.secrets.choosing import values

        return await values(self, spec)

    def resume(self, intents: Mapping[str, bytes]) -> None:
        """Take up what an earlier supervisor has begun and nobody else does."""
        if any(key.startswith("rmi-") for key in intents):
            from supervisor.runtime import image_removal

            image_removal.resume(self, intents)
        if any(key.startswith("bridge-") for key in intents):
            self.bridges.recover(intents)

    async def settle(self) -> None:
        """What would be done in a while."""
        if "naming" in vars(self):
            await self.naming.end_unused()
        if "bridges" in vars(self):
            await self.bridges.tidy_all()
        if "sandbox" in vars(self):
            await self.sandbox.end_unused()

    def take(self, settings: Settings) -> None:
        """Settings at start and after a reload. A changed budget begins anew, with its whole burst."""
        former = getattr(self, "settings", None)
        self.settings = settings
        self.images.take(settings)
        mine = settings.pyman
        if former is None or former.pyman != mine:
            if former is not None:
                self.health.set_most(mine.health_checks_at_once)
            self.budget = Budget(mine.restart_budget, mine.restart_burst)
            self.database.set_retention(
                Retention(entries=mine.events_max_entries, bytes=mine.events_max_bytes)
            )
