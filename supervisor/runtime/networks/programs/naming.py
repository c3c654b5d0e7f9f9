"""Names on networks: aardvark-dns is told who is where, runs while somebody is, and is asked whether it knows.

Rules: its files are what counts; a supervisor that comes up reads them, and what a container's record says is written
again. Changes that come at once are one change: the program is told once. A container is `joined` when the program
answers to its name, so its first question to others is answered as well.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import trio

from supervisor.kernel import process
from supervisor.network.names import PROGRAM, ZoneFiles, guest_of, zone_of
from supervisor.network.plans import DNS_PORT
from supervisor.network.user_mode import programs
from supervisor.runtime.networks.programs.asking import Asking
from supervisor.runtime.networks.programs.helper_program import Helper, Program
from supervisor.runtime.networks.programs.rest import Rest
from supervisor.runtime.records import replaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import ExitStack
    from typing import Any, TypeVar

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.names import Guest, Zone
    from supervisor.network.plans import Attachment, NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.programs.helper_book import Helpers
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings

    T = TypeVar("T")

__all__ = ["KEY", "Naming"]

KEY = PROGRAM
"""In the book of helpers."""
_CALM = 5.0
"""Seconds after which the program has read, for certain, what it was told to."""


class _Server(Helper):
    """The program as the book of helpers has it."""

    key = KEY
    name = PROGRAM

    def __init__(self, naming: Naming) -> None:
        self._naming = naming

    async def program(self, stack: ExitStack) -> Program:  # noqa: ARG002 - opens nothing
        return await self._naming.program()

    async def begun(self, ref: ProcessRef) -> None:
        self._naming.has_begun(ref)

    async def wanted(self) -> bool:
        return self._naming.is_used()


class Naming:
    """One for an engine. Nothing is read before somebody joins."""

    def __init__(
        self,
        layout: Layout,
        settings: Callable[[], Settings],
        helpers: Helpers,
        spawn: Callable[[Callable[[], Awaitable[Any]]], object],
        disk: trio.CapacityLimiter,
        is_known: Callable[[str], bool],
        servers_of: Callable[[NetworkPlan], Sequence[str]],
    ) -> None:
        """`spawn` begins work that lives as long as the engine. `is_known`: a container is on networks, as far as is
        recorded. `servers_of`: whom a network asks by now, whatever its plan says."""
        self._files = ZoneFiles(layout.names)
        self._settings = settings
        self._helpers = helpers
        self._is_known = is_known
        self._servers_of = servers_of
        self._disk = disk
        self._server = _Server(self)
        self._netns: int | None = None
        """Open for as long as somebody is there."""
        self._servers: Sequence[str] = ()
        self._zones: dict[str, Zone] = {}
        self._guests: dict[str, dict[str, Guest]] = {}
        """By networks' ids and containers'."""
        self._changed: set[str] = set()
        """Networks whose files are not what they should be."""
        self._emptied: set[str] = set()
        """Files of networks on which nobody is any more."""
        self._signalled = 0.0
        """When the program was told last."""
        self._is_told = True
        """The program has read the files as they are."""
        self._rest = Rest(spawn, self.end_unused, "the name server")
        self._turn = trio.Lock()
        self._writing = trio.Lock()
        self._is_read = False

    def is_used(self) -> bool:
        """Somebody is on a network whose names are served."""
        return any(self._guests.values())

    async def joined(
        self,
        container: Container,
        networks: Sequence[NetworkPlan],
        attachments: Sequence[Attachment],
        *,
        netns: int | None = None,
        servers: Sequence[str] = (),
        again: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """A container has addresses on networks, whose bridges are there. `netns`: a descriptor of the network namespace in
        which they are, None: this process's own. `servers`: whom to ask for other names where neither network nor container
        says it; none: whom the host asks. `again`: makes the bridges what they should be, whatever others have done to
        them.

        NetworkFailed, NotSupported, StorageFailed, DiskFull, DeadlineExceeded; the container has no names there then.
        """
        self._servers = servers
        where = partial(self._where, container, networks, attachments, servers)
        if not where():
            return
        await self._read()
        known = where()  # as of now: who is not there yet is not told of changes
        try:
            for zone, guest in known:
                self._put(zone, guest)
            await self._serve(netns)
            await self._wait_known(known, netns, again)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.left(container.id, [zone.network for zone, _ in known])
            raise

    async def rejoined(
        self,
        container: Container,
        networks: Sequence[NetworkPlan],
        attachments: Sequence[Attachment],
        *,
        netns: int | None = None,
        servers: Sequence[str] = (),
        anew: bool = False,
    ) -> None:
        """The same of one that has joined before, for the next supervisor; `anew`: somebody may have changed the files.
        After an error it is still what is wanted."""
        self._servers = servers
        known = self._where(container, networks, attachments, servers)
        if not known:
            return
        await self._read()
        for zone, guest in known:
            self._put(zone, guest)
            if anew:
                self._changed.add(zone.network)
        await self._serve(netns, insist=True)

    async def left(self, container: str, networks: Sequence[str] | None = None) -> None:
        """It is not on these networks any more, by their ids; None: on none. It need not have been. Errors as `joined`."""
        await self._read()
        for network in list(self._guests) if networks is None else networks:
            if self._guests.get(network, {}).pop(container, None) is not None:
                self._changed.add(network)
        if self._changed:
            await self._tell()

    async def refreshed(self, network: NetworkPlan) -> None:
        """Others are to be asked for other names. Nothing to do where nobody is. Errors as `joined`."""
        await self._read()
        zone = zone_of(network, self._servers)
        if zone is not None and self._guests.get(zone.network) and self._zones.get(zone.network) != zone:
            self._zones[zone.network] = zone
            self._changed.add(zone.network)
            await self._tell()

    # ------------------------------------------------------------------ the files and the program

    def _where(
        self,
        container: Container,
        networks: Sequence[NetworkPlan],
        attachments: Sequence[Attachment],
        servers: Sequence[str],
    ) -> list[tuple[Zone, Guest]]:
        """Where it has names."""
        plans = {plan.id: plan for plan in networks}
        definition = container.definition
        configured = self._settings().containers.dns_servers
        wanted = [*(configured if "none" not in configured else ()), *definition.spec.dns_server]
        found = []
        for attachment in attachments:
            plan = plans[attachment.network_id]
            plan = replaced(plan, dns_servers=list(self._servers_of(plan)))
            zone = zone_of(plan, servers) if attachment.addresses else None
            if zone is not None:
                hostname = definition.spec.hostname
                found.append((zone, guest_of(container.id, container.name, hostname, attachment, wanted)))
        return found

    def _put(self, zone: Zone, guest: Guest) -> None:
        """The first guest brings the zone; what has been changed of that since is not changed back."""
        guests = self._guests.setdefault(zone.network, {})
        if not guests:
            self._zones[zone.network] = zone
        if guests.get(guest.id) != guest:
            guests[guest.id] = guest
            self._changed.add(zone.network)

    async def _read(self) -> None:
        async with self._turn:
            if not self._is_read:
                self._zones, self._guests = await self._in_thread(self._files.read)
                self._changed |= {
                    network
                    for network, guests in self._guests.items()
                    if not guests or not all(map(self._is_known, guests))
                }
                for network in self._changed:
                    guests = self._guests[network]
                    self._guests[network] = {id: guests[id] for id in guests if self._is_known(id)}
                self._is_read = True

    async def _serve(self, netns: int | None, *, insist: bool = False) -> None:
        """Somebody is there, and the program has to be. Whoever comes first writes for all who wait. `insist`: if it cannot
        be now, as soon as it can be."""
        async with self._turn:
            await self._write()
            self._netns = netns
            begin = self._helpers.insist if insist else self._helpers.ensure
            await begin(self._server)
            there = self._helpers.process_of(KEY)
            if there is not None and netns is not None and not _is_in(there, netns):
                await self._helpers.end(KEY)  # the sandbox is another one by now
                await begin(self._server)
            self._hurry()

    async def _tell(self) -> None:
        """What is less, or another, than it was: whoever goes does not wait for a program that is not there."""
        async with self._turn:
            if not self.is_used():
                self._rest.begin()  # it would end by itself if it found nobody there, and the next one would have none
                return
            await self._write()
            self._hurry()

    async def _remove_emptied(self) -> None:
        async with self._writing:
            emptied, self._emptied = self._emptied, set()
            await self._in_thread(partial(self._files.remove, emptied))

    async def _write_one(self, network: str) -> None:
        async with self._writing:
            zone, guests = self._zones[network], dict(self._guests[network])
            if guests:
                self._emptied.discard(zone.file)
            await self._in_thread(partial(self._files.write, zone, guests))
            if not guests:
                self._emptied.add(zone.file)

    def _hurry(self) -> None:
        """Have the program read the files again, unless it has read them as they are. One that comes up is told then."""
        if not self._is_told:
            self._is_told = self._helpers.signal(KEY, signal.SIGHUP)
            self._signalled = trio.current_time()

    async def end_unused(self) -> None:
        """Without anybody there is no program, and nothing for it to read. PymanError: it is there still."""
        async with self._turn:
            if self._is_read and not self.is_used():
                await self._helpers.end(KEY)
                await self._write()
                await self._in_thread(self._files.clear)
                self._emptied.clear()
                self._netns = None

    async def _write(self) -> None:
        if self._emptied and trio.current_time() - self._signalled > _CALM:
            await self._remove_emptied()
        while self._changed:
            network = self._changed.pop()
            self._is_told = False
            try:
                await self._write_one(network)
            except BaseException:
                self._changed.add(network)
                raise
            if not self._guests[network]:
                del self._guests[network], self._zones[network]

    async def program(self) -> Program:
        """How it is begun: with all files, whatever somebody has done to them. NotSupported: it is not installed."""
        settings = self._settings()
        self._is_told = True
        for network in list(self._guests):
            if self._guests.get(network):
                await self._write_one(network)
        await self._remove_emptied()
        directories, instead = (
            settings.engine.helper_binaries_dir,
            "networks that are made with --disable-dns",
        )
        path = programs.find(PROGRAM, directories, package=PROGRAM, instead=instead)
        argv = [path, "--config", self._files.path, "--port", str(self._port()), "run"]
        return Program(argv, network=self._netns, pid_file=self._files.pid_file)

    def has_begun(self, ref: ProcessRef) -> None:
        """Files may have been changed since it has read them."""
        pidfd = None if self._is_told else process.open_pidfd(ref)
        if pidfd is not None:
            with pidfd:
                self._is_told = pidfd.send_signal(signal.SIGHUP)
                self._signalled = trio.current_time()

    def _port(self) -> int:
        return self._settings().network.dns_bind_port or DNS_PORT

    # ------------------------------------------------------------------ whether it serves

    async def _wait_known(
        self,
        known: Sequence[tuple[Zone, Guest]],
        netns: int | None,
        again: Callable[[], Awaitable[object]] | None,
    ) -> None:
        """Until it answers to all of these. NetworkFailed: it does not."""

        async def tell_again() -> None:
            if again is not None:
                await again()
            await self._tell_again()

        server = partial(self._helpers.process_of, KEY)
        asking = Asking(self._port(), netns, self._disk, tell_again=tell_again, server=server)
        for zone, guest in known:
            await asking.wait_known(zone, guest)

    async def _tell_again(self) -> None:
        """It tries a port once, and does not come back to it. Another engine's program may just have been leaving that, or
        its last container the bridge, which nobody was on yet."""
        async with self._turn:
            if self.is_used():
                await self._helpers.ensure(self._server)
                self._helpers.signal(KEY, signal.SIGHUP)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


def _is_in(ref: ProcessRef, netns: int) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{ref.pid}/ns/net"), os.fstat(netns))
    except OSError:  # it has just ended
        return False
