"""All volumes of the supervisor: found, made, mounted for containers and people, removed.

Rules: what is on the disk follows an intent, and record and event end it in one transaction; so a supervisor that is
killed leaves nothing half made, and tells everything once. Making and removing is one at a time; a container that is
created holds its volumes from the transaction on in which it is recorded with them. Who uses a volume is not noted:
the containers' definitions say it.

A volume that is more than a directory is mounted as long as somebody holds it. Mounted first and then noted, given up
first and then unmounted: what is mounted and held by nobody is a killed supervisor's, and is unmounted at the start.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.api.system import Problem
from pyman.errors import AmbiguousId, NameInUse, NoSuchVolume, PymanError, StateDamaged, VolumeInUse
from pyman.names import EventStatus
from supervisor.logging import log
from supervisor.runtime.in_the_way import remove_all
from supervisor.runtime.volumes import driver
from supervisor.runtime.volumes.entry import Entry, recorded
from supervisor.runtime.volumes.ground import Ground
from supervisor.runtime.volumes.records import Volume, VolumeObserved
from supervisor.runtime.volumes.wishes import defined, new_name, wish_of
from supervisor.state.changes import DeleteRecord, DropIntent, EventDraft, PutIntent, PutState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from pyman.api.event import Actor
    from pyman.api.spec import ContainerSpec, NamedVolume
    from supervisor.runtime.container import Container
    from supervisor.runtime.volumes.records import Wish
    from supervisor.settings.layout import Layout
    from supervisor.state.changes import Change, Loaded
    from supervisor.state.database import Database

__all__ = ["Batch", "Volumes"]

_PREFIX = "volume-"
_encode = msgspec.json.Encoder().encode


class _Intent(msgspec.Struct, frozen=True):
    """What is about to be done to directories. As it is recorded."""

    names: list[str]
    removes: bool = False
    events: list[EventDraft] = []
    """Of a removal that has happened."""


class Batch:
    """Volumes that are recorded, or forgotten, together with a container: for its transaction."""

    def __init__(self, book: Volumes, made: Sequence[Entry] = (), gone: Sequence[Entry] = ()) -> None:
        self._book = book
        self.made = list(made)
        self.gone = list(gone)
        self.changes: list[Change] = []
        self.events: list[EventDraft] = []
        self.applied = False

    def apply(self) -> None:
        """In the step in which the transaction is told."""
        self.applied = True
        for entry in self.made:
            self._book.take_in(entry)
        for entry in self.gone:
            self._book.let_go(entry)


class Volumes:
    """One for an engine. `load` comes before everything else."""

    def __init__(
        self, layout: Layout, database: Database, disk: trio.CapacityLimiter, *, rootless: bool
    ) -> None:
        self.ground = Ground(layout)
        self._database = database
        self._disk = disk
        self._rootless = rootless
        self._entries: dict[str, Entry] = {}
        self._changing = trio.Lock()
        """Held by whoever makes or removes a volume, or records a container that uses one."""
        self.allocate: Callable[[], int] = lambda: -1
        """A number of a lock."""
        self.release: Callable[[int | None], None] = lambda _number: None
        self.containers: Callable[[], Iterable[Container]] = tuple
        """All that are known."""
        self.remove_container: Callable[[str, float | None, Actor | None], Awaitable[None]] = _nobody
        """By force, its id; with the seconds until SIGKILL."""
        self.discard: Callable[[str], None] = lambda _path: None
        """Hands a directory to the task that deletes what `ground.trash` has."""

    # ------------------------------------------------------------------ finding

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def seen(self) -> dict[str, Entry]:
        """Those that people see: not what goes with a container that has been removed, and is being taken away."""
        leaving = {
            volume.name
            for container in self.containers()
            if container.observed.leaving and container.takes_volumes
            for volume in container.definition.spec.volumes
            if volume.is_anonymous
        }
        if not leaving:
            return self._entries
        used = self.used()
        return {name: entry for name, entry in self._entries.items() if name not in leaving or name in used}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Entry | None:
        """By its whole name."""
        return self._entries.get(name)

    def find(self, name: str) -> Entry:
        """By its whole name. NoSuchVolume."""
        entry = self._entries.get(name)
        if entry is None:
            raise NoSuchVolume(f"cannot find volume '{name}'", subject=name)
        return entry

    def look_up(self, name: str) -> Entry:
        """By its name or the beginning of it, as people give it. NoSuchVolume, AmbiguousId."""
        seen = self.seen()
        if name in seen:
            return seen[name]
        found = [entry for known, entry in seen.items() if known.startswith(name)] if name else []
        if len(found) > 1:
            raise AmbiguousId(
                f"cannot tell which volume '{name}' is: {len(found)} names begin with it",
                subject=name,
                hint="give more of it",
            )
        if not found:
            raise NoSuchVolume(f"cannot find volume '{name}'", subject=name)
        return found[0]

    def path(self, name: str) -> str:
        """Where the data of a volume is, or will be."""
        entry = self._entries.get(name)
        return entry.definition.mountpoint if entry is not None else self.ground.data(name)

    def paths(self, volumes: Iterable[NamedVolume]) -> dict[str, str]:
        """`path` of each, by name."""
        return {volume.name: self.path(volume.name) for volume in volumes}

    def users(self, name: str) -> list[Container]:
        """The containers that use a volume."""
        return [
            container
            for container in self.containers()
            if not container.observed.leaving
            and any(volume.name == name for volume in container.definition.spec.volumes)
        ]

    def used(self) -> set[str]:
        """The names of all that containers use."""
        return {
            volume.name
            for container in self.containers()
            if not container.observed.leaving
            for volume in container.definition.spec.volumes
        }

    # ------------------------------------------------------------------ making

    async def ensure(self, wish: Wish, actor: Actor | None) -> Entry:
        """The volume of that name, made if there is none. InvalidArgument, NotSupported, NameInUse, StorageFailed."""
        async with self._changing:
            entry = self._entries.get(wish.name)
            return entry if entry is not None else await self._create(wish, actor)

    async def create(self, wish: Wish, actor: Actor | None, *, ignore: bool = False) -> Entry:
        """A new one. As `ensure`; NameInUse: there is one of that name. `ignore`: then it is taken."""
        async with self._changing:
            entry = self._entries.get(wish.name)
            if entry is None:
                return await self._create(wish, actor)
            if not ignore:
                raise NameInUse(f"cannot make volume '{wish.name}': there is one", subject=wish.name)
            return entry

    async def _create(self, wish: Wish, actor: Actor | None) -> Entry:
        async with self._made([wish], actor) as batch:
            await self._database.commit(
                batch.changes, batch.events, durable=True, apply=lambda _events: batch.apply()
            )
        return batch.made[0]

    @asynccontextmanager
    async def joined(self, spec: ContainerSpec, actor: Actor | None) -> AsyncIterator[Batch]:
        """While a container is recorded: its volumes are there and stay. Those that are missing are made, and recorded
        with it, or are taken away again. `spec`: every volume in it has a name. As `ensure`; NoSuchVolume: one is
        missing that was not to be made."""
        if not spec.volumes:
            yield Batch(self)
            return
        async with self._changing:
            missing = {volume.name: volume for volume in spec.volumes if volume.name not in self._entries}
            wishes = [wish_of(volume) for volume in missing.values()]
            async with self._made(wishes, actor) as batch:
                yield batch

    @asynccontextmanager
    async def _made(self, wishes: Sequence[Wish], actor: Actor | None) -> AsyncIterator[Batch]:
        """Directories for volumes, which are recorded inside or removed again."""
        batch = Batch(self)
        if not wishes:
            yield batch
            return
        made: list[str] = []
        key = ""
        try:
            for volume, observed in await self._on_disk(partial(self._checked, wishes)):
                numbered = msgspec.structs.replace(volume, lock=self.allocate())
                batch.made.append(Entry(numbered, observed))
            key = await self._intend([entry.name for entry in batch.made])
            await self._on_disk(partial(self._make, batch, made))
            for entry in batch.made:
                batch.changes.append(recorded(entry))
                batch.events.append(entry.event(EventStatus.CREATE, actor))
            batch.changes.append(DropIntent(key))
            yield batch
        finally:
            if not batch.applied:
                with trio.CancelScope(shield=True):
                    await self._unmake(batch, made, key)

    def _checked(self, wishes: Sequence[Wish]) -> list[tuple[Volume, VolumeObserved]]:
        """What is to be made. Nothing is, where it cannot be. Blocks."""
        found = []
        for given in wishes:
            wish = given if given.name else msgspec.structs.replace(given, name=new_name())
            found.append(defined(wish, self.ground.data(wish.name), rootless=self._rootless))
            self.ground.refuse_taken(wish.name)
        return found

    def _make(self, batch: Batch, made: list[str]) -> None:
        """Their directories; those that are there are in `made`. Blocks."""
        for entry in batch.made:
            definition = entry.definition
            self.ground.make(definition.name, definition.uid, definition.gid)
            made.append(definition.name)

    async def _unmake(self, batch: Batch, made: Sequence[str], key: str) -> None:
        try:
            for name in made:
                self.discard(await self._on_disk(partial(self.ground.take_away, name)))
            if key:
                await self._database.commit([DropIntent(key)])
        except PymanError as error:  # the next start takes up what is still intended
            log.warning("cannot take back a volume", error=str(error))
        finally:
            for entry in batch.made:
                self.release(entry.definition.lock)

    def take_in(self, entry: Entry) -> None:
        """It is recorded."""
        self._entries[entry.name] = entry

    def let_go(self, entry: Entry) -> None:
        """It is recorded no more."""
        self._entries.pop(entry.name, None)
        self.release(entry.definition.lock)

    # ------------------------------------------------------------------ removing

    async def remove(self, entry: Entry, actor: Actor | None, *, pruned: bool = False) -> bool:
        """False: it is gone already. VolumeInUse, naming the containers; StorageFailed. `pruned`: that is told,
        too."""
        async with self._changing:
            if self._entries.get(entry.name) is not entry:
                return False
            self._refuse_used(entry)
            told = (EventStatus.REMOVE, EventStatus.PRUNE) if pruned else (EventStatus.REMOVE,)
            async with self._removed([entry], actor, told) as batch:
                await self._database.commit(
                    batch.changes, batch.events, durable=True, apply=lambda _events: batch.apply()
                )
            return True

    async def remove_used(self, entry: Entry, timeout: float | None, actor: Actor | None) -> bool:
        """`remove`, after the containers that use it. `timeout`: seconds until SIGKILL; none: their own."""
        users = partial(self.users, entry.name)
        await remove_all(users, lambda id: self.remove_container(id, timeout, actor))
        return await self.remove(entry, actor)

    def _refuse_used(self, entry: Entry) -> None:
        users = self.users(entry.name)
        if users:
            raise VolumeInUse(
                f"cannot remove volume '{entry.name}': containers use it:"
                f" {', '.join(sorted(container.name for container in users))}",
                subject=entry.name,
                hint="remove them first, or use --force",
            )

    @asynccontextmanager
    async def left(self, container: Container, actor: Actor | None, *, wanted: bool) -> AsyncIterator[Batch]:
        """While a container is forgotten. `wanted`: its anonymous volumes, which no other one uses, go with it.
        StorageFailed."""
        names = [volume.name for volume in container.definition.spec.volumes if volume.is_anonymous]
        if not wanted or not names:
            yield Batch(self)
            return
        async with self._changing:
            entries = []
            for name in dict.fromkeys(names):
                entry = self._entries.get(name)
                others = [user for user in self.users(name) if user is not container]
                if entry is not None and entry.definition.anonymous and not others:
                    entries.append(entry)
            async with self._removed(entries, actor, (EventStatus.REMOVE,)) as batch:
                yield batch

    @asynccontextmanager
    async def _removed(
        self, entries: Sequence[Entry], actor: Actor | None, told: Sequence[EventStatus]
    ) -> AsyncIterator[Batch]:
        """Volumes whose directories are out of their places, and which are forgotten inside."""
        batch = Batch(self, gone=entries)
        if not entries:
            yield batch
            return
        names = [entry.name for entry in entries]
        batch.events = [entry.event(status, actor) for entry in entries for status in told]
        with trio.CancelScope(shield=True):
            key = await self._intend(names, removes=True, events=batch.events)
            batch.changes = [*(DeleteRecord("volume", name) for name in names), DropIntent(key)]
            try:
                for name in names:
                    self.discard(await self._on_disk(partial(self.ground.take_away, name)))
                yield batch
            finally:
                if not batch.applied:
                    await self._told_nevertheless(key, entries, batch.events)

    async def _told_nevertheless(
        self, key: str, entries: Sequence[Entry], events: Sequence[EventDraft]
    ) -> None:
        """Something failed in the middle of it."""
        try:
            await self._finish_removals(key, entries, events)
        except PymanError as error:  # the next start takes up what is still intended
            log.warning("cannot forget a volume", error=str(error))

    async def _finish_removals(
        self, key: str, entries: Sequence[Entry], events: Sequence[EventDraft]
    ) -> None:
        """Of several some could be removed."""
        gone = [
            entry for entry in entries if not await self._on_disk(partial(self.ground.is_own, entry.name))
        ]
        batch = Batch(self, gone=gone)
        told = [event for event in events if any(entry.name == event.name for entry in gone)]
        changes: list[Change] = [*(DeleteRecord("volume", entry.name) for entry in gone), DropIntent(key)]
        await self._database.commit(changes, told, durable=True, apply=lambda _events: batch.apply())

    # ------------------------------------------------------------------ mounting

    async def mount(self, entry: Entry, container: str) -> str:
        """Have it mounted for a container, and where it is. Again: nothing is done. StorageFailed, DeadlineExceeded."""
        if not entry.definition.needs_mount:
            return entry.definition.mountpoint
        async with entry.mounting:
            await self._mount(entry)
            if container not in entry.observed.holders:
                holders = (*entry.observed.holders, container)
                event = entry.event(EventStatus.MOUNT, None, container=container)
                await self.note(entry, [event], holders=holders)
        return entry.definition.mountpoint

    async def mount_all(self, spec: ContainerSpec, container: str) -> None:
        """`mount` of all that a container uses. NoSuchVolume."""
        for volume in spec.volumes:
            await self.mount(self.find(volume.name), container)

    async def unmount(self, entry: Entry, container: str) -> None:
        """A container needs it no more. Not mounted for it: nothing is done."""
        if container not in entry.observed.holders:
            return
        async with entry.mounting:
            holders = tuple(holder for holder in entry.observed.holders if holder != container)
            event = entry.event(EventStatus.UNMOUNT, None, container=container)
            await self.note(entry, [event], holders=holders)
            await self._settle(entry)

    async def unmount_all(self, spec: ContainerSpec, container: str) -> None:
        for volume in spec.volumes:
            entry = self._entries.get(volume.name)
            if entry is not None:
                await self.unmount(entry, container)

    async def mount_lasting(self, entry: Entry, actor: Actor | None) -> str:
        """Once more for people, and where it is. Where nothing has to be mounted, none is counted."""
        if entry.definition.needs_mount:
            async with entry.mounting:
                await self._mount(entry)
                event = entry.event(EventStatus.MOUNT, actor)
                await self.note(entry, [event], mounts=entry.observed.mounts + 1)
        return entry.definition.mountpoint

    async def unmount_lasting(self, entry: Entry, actor: Actor | None, *, force: bool) -> None:
        """Undo one of these, with `force` all. There is none: nothing is done."""
        async with entry.mounting:
            if not entry.observed.mounts:
                return
            left = 0 if force else entry.observed.mounts - 1
            await self.note(entry, [entry.event(EventStatus.UNMOUNT, actor)], mounts=left)
            await self._settle(entry)

    @asynccontextmanager
    async def held(self, entry: Entry) -> AsyncIterator[str]:
        """While something is done to what is in it: where that is."""
        if not entry.definition.needs_mount:
            yield entry.definition.mountpoint
            return
        async with entry.mounting:
            await self._mount(entry)
            entry.holds += 1
        try:
            yield entry.definition.mountpoint
        finally:
            with trio.CancelScope(shield=True):
                async with entry.mounting:
                    entry.holds -= 1
                    await self._settle(entry)

    async def _mount(self, entry: Entry) -> None:
        if not await self._on_disk(partial(driver.is_mounted, entry.definition)):
            await driver.mount(entry.definition)

    async def _settle(self, entry: Entry) -> None:
        """Unmount what nobody holds any more."""
        if not entry.observed.count and not entry.holds:
            await self._on_disk(partial(driver.unmount, entry.definition))

    async def note(self, entry: Entry, events: Sequence[EventDraft] = (), **changes: Any) -> None:
        """Commit what has become of a volume; only then is it so."""
        async with entry.noting:
            new = msgspec.structs.replace(entry.observed, **changes)

            def take_over(_events: object) -> None:
                entry.observed = new

            change = PutState("volume", entry.name, _encode(new))
            await self._database.commit([change], events, apply=take_over)

    # ------------------------------------------------------------------ checking

    async def problems(self, *, repair: bool) -> list[Problem]:
        """What is recorded compared with what is there. `repair`: directories of no volume are removed; they are this
        engine's own, as the file beside their data says."""
        found = []
        async with self._changing:
            there = await self._on_disk(lambda: set(self.ground.own()))
            for entry in self:
                if not await self._on_disk(partial(os.path.isdir, entry.definition.mountpoint)):
                    text = f"its directory '{entry.definition.mountpoint}' is gone"
                    found.append(Problem(f"volume {entry.name}", text))
                elif entry.name not in there:
                    found.append(Problem(f"volume {entry.name}", "its directory is another engine's"))
            for name in sorted(there - set(self._entries)):
                if repair:
                    self.discard(await self._on_disk(partial(self.ground.take_away, name)))
                found.append(
                    Problem(f"{self.ground.root}/{name}", "it belongs to no volume", repaired=repair)
                )
        return found

    # ------------------------------------------------------------------ starting

    async def recover(self, loaded: Loaded, known: frozenset[str], *, rebooted: bool) -> None:
        """What is recorded, and what a supervisor that was killed has left of it. `known`: the containers that are
        recorded. StateDamaged, StorageFailed."""
        for record in loaded.records:
            if record.kind != "volume":
                continue
            try:
                definition = msgspec.json.decode(record.definition, type=Volume)
                observed = msgspec.json.decode(record.state, type=VolumeObserved)
            except msgspec.DecodeError as error:
                raise StateDamaged(
                    f"cannot read the record of volume '{record.name}': {error}",
                    subject=record.name,
                    hint="pyman system check tells more",
                ) from None
            self._entries[definition.name] = Entry(definition, observed)
        await self._finish_intents(loaded.intents)
        await self._reset(frozenset() if rebooted else known, rebooted=rebooted)
        if not self._entries and not await self._on_disk(partial(os.path.lexists, self.ground.root)):
            return
        try:
            for path in await self._on_disk(partial(self.ground.left, frozenset(self._entries))):
                await self._on_disk(partial(self.ground.drop, path))
                self.discard(path)
        except PymanError as error:
            log.warning("cannot remove what is left of volumes", error=str(error))
        for entry in self:
            if entry.definition.needs_mount:
                try:
                    await self._settle(entry)
                except PymanError as error:
                    log.warning("cannot unmount a volume", volume=entry.name, error=str(error))

    async def _finish_intents(self, intents: Mapping[str, bytes]) -> None:
        for key, body in intents.items():
            if not key.startswith(_PREFIX):
                continue
            try:
                intent = msgspec.json.decode(body, type=_Intent)
            except msgspec.DecodeError as error:
                raise StateDamaged(f"cannot read what was about to be done to a volume: {error}") from None
            entries = [entry for name in intent.names if (entry := self._entries.get(name)) is not None]
            if intent.removes:
                await self._finish_removals(key, entries, intent.events)
                continue
            for name in intent.names:
                # Recorded ones have no such intent any more.
                await self._on_disk(partial(self.ground.take_away, name))
            await self._database.commit([DropIntent(key)])

    async def _reset(self, known: frozenset[str], *, rebooted: bool) -> None:
        """After a boot nothing is mounted, and a container that is gone holds nothing."""
        changes: list[Change] = []
        for entry in self:
            observed = entry.observed
            holders = tuple(holder for holder in observed.holders if holder in known)
            mounted = 0 if rebooted else observed.mounts
            if (holders, mounted) != (observed.holders, observed.mounts):
                entry.observed = msgspec.structs.replace(observed, holders=holders, mounts=mounted)
                changes.append(PutState("volume", entry.name, _encode(entry.observed)))
        if changes:
            await self._database.commit(changes)

    # ------------------------------------------------------------------ small parts

    def discard_soon(self) -> None:
        """From a thread: there is something in the trash."""
        trio.from_thread.run_sync(self.discard, self.ground.root)

    async def _intend(
        self, names: Sequence[str], *, removes: bool = False, events: Sequence[EventDraft] = ()
    ) -> str:
        key = f"{_PREFIX}{new_name()[:32]}"
        intent = _Intent(list(names), removes, list(events))
        await self._database.commit([PutIntent(key, _encode(intent))])
        return key

    async def _on_disk(self, work: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


async def _nobody(_id: str, _timeout: float | None, _actor: Actor | None) -> None:
    return
