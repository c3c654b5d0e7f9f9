"""All networks of a host, or of an ordinary user: defined, found, removed.

Rules: the files are what counts, since other engines change them, too; whoever looks at them or changes them holds the
locks that Podman takes. An intent comes first, then the file, and event and end of the intent are one transaction: a
supervisor that finds an intent looks whether there is the file, and so everything is told exactly once.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from pyman.api.network import Network
from pyman.errors import InvalidArgument, NetworkInUse, PymanError
from pyman.names import EventStatus, EventType
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.network.definitions import live
from supervisor.network.definitions.creating import Surroundings, check_name, define, with_servers
from supervisor.network.definitions.directory import Directory, Networks, default_network
from supervisor.runtime.in_the_way import remove_all
from supervisor.runtime.intended import Intents
from supervisor.runtime.locking import Locks
from supervisor.runtime.views.times import rfc3339
from supervisor.state.changes import EventDraft

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.network import CreateNetworkRequest
    from supervisor.network.plans import NetworkPlan
    from supervisor.runtime.container import Container
    from supervisor.runtime.networks.users import User
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.state.database import Database

__all__ = ["NetworkBook"]

T = TypeVar("T")
_MODE = 0o755


class _Intent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is about to be done. As it is recorded."""

    made: Network | None = None
    removed: Network | None = None
    changed: Network | None = None
    """As it is afterwards."""
    events: list[EventDraft] = []


class NetworkBook:
    """One for an engine. Nothing is read before somebody asks."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        settings: Callable[[], Settings],
        disk: trio.CapacityLimiter,
        patient: trio.CapacityLimiter,
        remove_container: Callable[[str, float | None, Actor | None], Awaitable[None]],
    ) -> None:
        self._directory = Directory(layout.networks)
        self._lock_files = layout.network_locks
        self._locks = Locks(patient, "the networks")
        self._intents = Intents(database, _Intent, "network-", "network")
        self._settings = settings
        self._disk = disk
        self._remove_container = remove_container
        self._born = rfc3339(time.time_ns())
        self._latest: Mapping[str, Network] = {}
        """By their names, as the files were when the locks were held last."""
        self.users: Callable[[], Mapping[str, Sequence[User]]] = dict
        """Who is on networks, by the names of these."""
        self.containers: Callable[[], Iterable[Container]] = list
        self.changed: Callable[[Network], Awaitable[None]] = _nothing
        """Tells whoever serves names on a network whom to ask for others, before it is told to everybody."""
        self.tidy_network: Callable[[Network], Awaitable[None]] = _nothing
        """Has what is left on a network of containers that were removed taken away."""

    # ------------------------------------------------------------------ finding

    @property
    def default_name(self) -> str:
        return self._settings().network.default_network

    async def known(self) -> Networks:
        """Fresh. StorageFailed, DeadlineExceeded."""
        async with self.locked() as known:
            return known

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Networks]:
        """Fresh, and meanwhile nobody removes one. StorageFailed, DeadlineExceeded."""
        await self._intents.wait_settled()
        if not await self._in_thread(self._directory.exists):
            default = self._default()
            yield Networks({default.name: default}, {})
            return
        async with self._held(shared=True):
            yield await self._read()

    def _default(self) -> Network:
        return default_network(self._settings().network, self._born)

    async def _read(self) -> Networks:
        known = await self._in_thread(partial(self._directory.read, self._default()))
        self._latest = known.by_name
        return known

    def servers_of(self, plan: NetworkPlan) -> Sequence[str]:
        """Whom a network asks for other names, since its plan was made, as far as is known here."""
        found = self._latest.get(plan.name)
        return plan.dns_servers if found is None or found.id != plan.id else found.network_dns_servers

    def dangling(self) -> Callable[[Network], bool]:
        """Whether nothing is on a network, as of now. The default one is never so."""
        used = {*self.users(), self.default_name}
        return lambda network: network.name not in used

    # ------------------------------------------------------------------ making

    async def create(self, wish: CreateNetworkRequest, actor: Actor | None) -> tuple[Network, bool]:
        """The network, and whether it is new. InvalidArgument, NameInUse, NetworkFailed, DiskFull, StorageFailed,
        DeadlineExceeded."""
        if wish.name:
            check_name(wish.name)
        await self._intents.wait_settled()
        async with self._held():
            known = await self._read()
            if wish.name in known.damaged:
                raise known.damaged[wish.name]
            if wish.ignore and wish.name in known.by_name:
                return known.by_name[wish.name], False
            network = await self._in_thread(partial(self._defined, wish, known))
            await self._make(network, actor)
            return network, True

    def _defined(self, wish: CreateNetworkRequest, known: Networks) -> Network:
        pools = self._settings().network.default_subnet_pools
        around = Surroundings(known.by_name, known.damaged.keys(), live.look(), pools)
        network = define(wish, around, secrets.token_hex(32), rfc3339(time.time_ns()))
        self._directory.check_size(network)
        return network

    async def _make(self, network: Network, actor: Actor | None) -> None:
        events = [_event(EventStatus.CREATE, network, actor)]
        key = await self._intents.begin(_Intent(made=network, events=events))
        try:
            await self._write(network)
            await self._intents.tell(key, events)
        except PymanError:
            with trio.CancelScope(shield=True):
                await self._take_back(key, self._unmake(network))
            raise

    async def _unmake(self, network: Network) -> None:
        if _same((await self._read()).by_name.get(network.name), network):
            await self._erase(network)

    async def _take_back(self, key: str, undo: Awaitable[None]) -> None:
        """Something failed in the middle of it."""
        try:
            await undo
            await self._intents.drop(key)
        except PymanError as error:  # the next start takes up what is still intended
            log.warning("cannot take back what was done to a network", error=str(error))

    # ------------------------------------------------------------------ changing

    async def update(
        self, name: str, add: Sequence[str], drop: Sequence[str], actor: Actor | None
    ) -> tuple[Network, bool]:
        """With other name servers, and whether they are. InvalidArgument, NoSuchNetwork, AmbiguousId, DiskFull,
        StorageFailed, DeadlineExceeded."""
        (await self.known()).find(name)  # what is not there makes no directory
        async with self._held():
            former = (await self._read()).find(name)
            network = with_servers(former, add, drop)
            if network == former:
                return network, False
            await self._in_thread(partial(self._directory.check_size, network))
            await self._change(former, network, actor)
            return network, True

    async def _change(self, former: Network, network: Network, actor: Actor | None) -> None:
        events = [_event(EventStatus.UPDATE, network, actor)]
        key = await self._intents.begin(_Intent(changed=network, events=events))
        try:
            await self._write(network)
            await self.changed(network)
            await self._intents.tell(key, events)
        except PymanError:
            with trio.CancelScope(shield=True):
                await self._take_back(key, self._change_back(former))
            raise

    async def _change_back(self, former: Network) -> None:
        await self._write(former)
        await self.changed(former)

    # ------------------------------------------------------------------ removing

    async def remove(self, name: str, actor: Actor | None) -> Network:
        """NoSuchNetwork, AmbiguousId, NetworkInUse, InvalidArgument (the default one), StorageFailed, DeadlineExceeded."""
        network = (await self.known()).find(name)  # what is not there makes no directory
        self._refuse_default(network)
        await self.tidy_network(network)
        async with self._held():
            network = (await self._read()).find(name)
            self._refuse_default(network)
            self._refuse_used(network)
            events = [_event(EventStatus.REMOVE, network, actor)]
            key = await self._intents.begin(_Intent(removed=network, events=events))
            try:
                await self._erase(network)
            except PymanError:
                with trio.CancelScope(shield=True):
                    await self._intents.drop(key)
                raise
            await self._intents.tell(key, events)
            return network

    async def remove_used(self, name: str, timeout: float | None, actor: Actor | None) -> Network:
        """`remove`, after the containers that are on it. `timeout`: seconds until SIGKILL; none: their own."""
        network = (await self.known()).find(name)
        self._refuse_default(network)
        users = partial(self._users_of, network.name)
        await remove_all(users, lambda id: self._remove_container(id, timeout, actor))
        return await self.remove(network.id, actor)

    def _users_of(self, name: str) -> Sequence[User]:
        return self.users().get(name, ())

    def _refuse_default(self, network: Network) -> None:
        if network.name == self.default_name:
            raise InvalidArgument(
                f"cannot remove network '{network.name}': it is the default network", subject=network.name
            )

    def _refuse_used(self, network: Network) -> None:
        if users := self.users().get(network.name):
            raise NetworkInUse(
                f"cannot remove network '{network.name}': containers are on it:"
                f" {', '.join(sorted(user.name for user in users))}",
                subject=network.name,
                hint="remove them first, or use --force",
            )

    # ------------------------------------------------------------------ starting

    def recover(self, nursery: trio.Nursery, intents: Mapping[str, bytes]) -> None:
        """What a supervisor that was killed has left: settled in the background, before anything else is done to networks.
        StateDamaged."""
        self._intents.recover(nursery, intents, self._finish)

    async def _finish(self, key: str, intent: _Intent) -> None:
        async with self._held():
            by_name = (await self._read()).by_name
            made, removed, changed = intent.made, intent.removed, intent.changed
            if made is not None and not _same(by_name.get(made.name), made):
                await self._intents.drop(key)
                return
            if changed is not None and by_name.get(changed.name) != changed:
                await self._intents.drop(key)
                return
            if changed is not None:
                await self.changed(changed)
            if removed is not None and _same(by_name.get(removed.name), removed):
                try:
                    await self._erase(removed)
                except PymanError as error:
                    log.warning("cannot remove a network", network=removed.name, error=str(error))
                    await self._intents.drop(key)
                    return
            await self._intents.tell(key, intent.events)

    # ------------------------------------------------------------------ small parts

    @asynccontextmanager
    async def _held(self, *, shared: bool = False) -> AsyncIterator[None]:
        """As Podman, also to read: it does not replace files, but writes into them."""
        paths = await self._in_thread(partial(self._lockable, readers=shared))
        async with self._locks.held(paths, self._settings().pyman.call_deadline, shared=shared):
            yield

    def _lockable(self, *, readers: bool) -> Sequence[str]:
        """Who only reads does without those that cannot be made: nobody writes there either. StorageFailed."""
        if readers:
            return [each for each in self._lock_files if os.access(_nearest(each), os.W_OK)]
        for directory in (self._directory.path, *map(os.path.dirname, self._lock_files)):
            try:
                os.makedirs(directory, mode=_MODE, exist_ok=True)
            except OSError as error:
                raise files.storage_error(error, "make", directory) from error
        return self._lock_files

    async def _write(self, network: Network) -> None:
        await self._in_thread(partial(self._directory.write, network))
        self._latest = {**self._latest, network.name: network}

    async def _erase(self, network: Network) -> None:
        await self._in_thread(partial(self._directory.remove, network.name))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


async def _nothing(_network: Network) -> None:
    return


def _nearest(lock: str) -> str:
    """The lock file, or where it would be."""
    return lock if os.path.lexists(lock) else os.path.dirname(lock)


def _same(found: Network | None, network: Network) -> bool:
    return found is not None and found.id == network.id


def _event(status: EventStatus, network: Network, actor: Actor | None) -> EventDraft:
    return EventDraft(
        type=EventType.NETWORK.value,
        status=status.value,
        id=network.id,
        name=network.name,
        attributes={"driver": network.driver},
        actor=actor,
    )
