"""All secrets of the graph root: made, found, read, removed.

Rules: what is in the store is not in memory, since other engines change it, too; whoever looks at it or changes it holds
its lock. An intent comes first, then the driver and the store, and event and end of the intent are one transaction: a
supervisor that finds an intent looks whether the store has the secret, and so everything is told exactly once. Intents,
events and messages have names and ids, and never what is in a secret.
"""

from __future__ import annotations

import os
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from pyman.api.system import Problem
from pyman.errors import InvalidArgument, NameInUse, NoSuchSecret, PymanError
from pyman.names import EventStatus, EventType
from supervisor.kernel import files
from supervisor.kernel.children import CLEAN_ENVIRONMENT
from supervisor.logging import log
from supervisor.runtime.intended import Intents
from supervisor.runtime.locking import Locks
from supervisor.runtime.secrets import file
from supervisor.runtime.secrets.drivers import InFile, Surroundings, completed_options, driver_of
from supervisor.runtime.secrets.records import ID_LENGTH, Secret, check_data, check_name
from supervisor.runtime.views.times import rfc3339
from supervisor.state.changes import EventDraft

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from pyman.api.event import Actor
    from supervisor.runtime.secrets.drivers import Driver
    from supervisor.runtime.secrets.file import Table
    from supervisor.runtime.secrets.records import Wish
    from supervisor.settings.model import Settings
    from supervisor.state.database import Database

__all__ = ["Secrets"]

T = TypeVar("T")


class _Intent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is about to be done. As it is recorded."""

    made: Secret | None = None
    removed: Secret | None = None
    """With `made`: it is replaced."""
    forgotten: Secret | None = None
    """Its driver has to forget it; it is told already."""
    events: list[EventDraft] = []


class Secrets:
    """One for an engine. Nothing is read before somebody asks."""

    def __init__(
        self,
        directory: str,
        database: Database,
        settings: Callable[[], Settings],
        disk: trio.CapacityLimiter,
        patient: trio.CapacityLimiter,
    ) -> None:
        self._directory = directory
        self._path = f"{directory}/secrets.json"
        self._lock = f"{directory}/secrets.lock"
        self._locks = Locks(patient, "the secrets")
        self._intents = Intents(database, _Intent, "secret-", "secret")
        self._settings = settings
        self._disk = disk
        self._patient = patient

    # ------------------------------------------------------------------ finding

    async def every(self) -> list[Secret]:
        """By their names."""
        table = await self._seen()
        return sorted(table.by_id.values(), key=lambda secret: secret.name)

    async def find(self, names: Sequence[str]) -> dict[str, Secret | PymanError]:
        """By their names, or ids, or the beginnings of ids; or why one is not found."""
        table = await self._seen()
        found: dict[str, Secret | PymanError] = {}
        for name in names:
            try:
                found[name] = table.find(name)
            except PymanError as error:
                found[name] = error
        return found

    async def read(self, names: Sequence[str], *, exactly: bool = False) -> list[tuple[Secret, bytes]]:
        """The secrets and what is in them. `exactly`: they are names, and nothing else that could be meant is taken.
        NoSuchSecret, AmbiguousId, StorageFailed, DeadlineExceeded."""
        if not await self._is_there():
            raise NoSuchSecret(f"cannot find secret '{names[0]}'", subject=names[0])
        async with self._held():
            table = await self._in_thread(partial(file.read, self._path))
            find = table.named if exactly else table.find
            chosen = [find(name) for name in names]
            return [(secret, await self._driver(secret).lookup(secret.id)) for secret in chosen]

    async def _seen(self) -> Table:
        """Where there is no store, none is made."""
        if not await self._is_there():
            return file.Table({}, {})
        async with self._held():
            return await self._in_thread(partial(file.read, self._path))

    async def _is_there(self) -> bool:
        await self._intents.wait_settled()
        return await self._in_thread(partial(os.path.lexists, self._path))

    # ------------------------------------------------------------------ making

    async def create(self, wish: Wish, data: bytes, actor: Actor | None) -> tuple[Secret, bool]:
        """The secret, and whether it is new. InvalidArgument, NotSupported, NameInUse, DiskFull, StorageFailed,
        DeadlineExceeded."""
        check_name(wish.name)
        check_data(wish.name, len(data))
        if wish.replace and wish.ignore:
            raise InvalidArgument("cannot both replace a secret and ignore that it is there")
        configured = self._settings().secrets
        driver = wish.driver or configured.driver
        options = wish.options or (configured.opts if driver == configured.driver else {})
        options = completed_options(driver, options, self._usual)
        await self._intents.wait_settled()
        await self._in_thread(self._make_directory)
        async with self._held():
            table = await self._in_thread(partial(file.read, self._path))
            former = table.by_name.get(wish.name)
            if former is not None and wish.ignore:
                return former, False
            if former is None and wish.name in table.by_id:
                raise NameInUse(
                    f"cannot make secret '{wish.name}': that is the id of another one", subject=wish.name
                )
            if former is not None and not wish.replace:
                raise NameInUse(
                    f"cannot make secret '{wish.name}': there is one",
                    subject=wish.name,
                    hint="--replace puts the new one in its place",
                )
            now = rfc3339(time.time_ns())
            created = now if former is None else former.created
            id = _new_id(table)
            secret = Secret(id, wish.name, driver, options, dict(wish.labels), created, now)
            await self._make(table, secret, former, data, actor)
            return secret, True

    async def _make(
        self, table: Table, secret: Secret, former: Secret | None, data: bytes, actor: Actor | None
    ) -> None:
        events = [_event(EventStatus.CREATE, secret, actor)]
        if former is not None:
            events.insert(0, _event(EventStatus.REMOVE, former, actor))
        key = await self._intents.begin(_Intent(made=secret, removed=former, events=events))
        try:
            await self._driver(secret).store(secret.id, data)
            await self._write(table, added=secret, gone=former)
            await self._tell(key, events, former)
        except PymanError:
            with trio.CancelScope(shield=True):
                await self._unmake(key, table, secret)
            raise
        if former is not None:
            await self._forget(f"{key}-former", former)

    async def _tell(self, key: str, events: Sequence[EventDraft], former: Secret | None = None) -> None:
        """The end of an intent; what was replaced has still to be forgotten by its driver."""
        further = [] if former is None else [self._intents.put(f"{key}-former", _Intent(forgotten=former))]
        await self._intents.tell(key, events, *further)

    async def _unmake(self, key: str, table: Table, secret: Secret) -> None:
        """Something failed in the middle of it."""
        try:
            if secret.id in (await self._in_thread(partial(file.read, self._path))).by_id:
                await self._write(table)
            await self._forget(key, secret)
        except PymanError as error:  # the next start takes up what is still intended
            log.warning("cannot take back a secret", secret=secret.name, error=str(error))

    async def _forget(self, key: str, secret: Secret) -> None:
        """Have the driver forget what nobody can ask for any more; it may have nothing of it."""
        try:
            await self._driver(secret).delete(secret.id)
        except PymanError as error:
            log.warning("cannot forget what was in a secret", secret=secret.name, error=str(error))
        await self._intents.drop(key)

    # ------------------------------------------------------------------ removing

    async def remove(self, name: str, actor: Actor | None) -> Secret:
        """NoSuchSecret, AmbiguousId, StorageFailed, DeadlineExceeded. Containers that were created with it keep what they
        have."""
        if not await self._is_there():
            raise NoSuchSecret(f"cannot find secret '{name}'", subject=name)
        async with self._held():
            table = await self._in_thread(partial(file.read, self._path))
            secret = table.find(name)
            events = [_event(EventStatus.REMOVE, secret, actor)]
            key = await self._intents.begin(_Intent(removed=secret, events=events))
            try:
                await self._driver(secret).delete(secret.id)
                await self._write(table, gone=secret)
            except PymanError:
                with trio.CancelScope(shield=True):
                    await self._intents.drop(key)
                raise
            await self._intents.tell(key, events)
            return secret

    # ------------------------------------------------------------------ checking

    async def problems(self, *, repair: bool) -> list[Problem]:
        """Secrets whose data is gone from their files, and data in the usual file that is no secret's, which `repair`
        removes: nobody else is at it while the lock is held."""
        if not await self._is_there():
            return []
        found: list[Problem] = []
        try:
            async with self._held():
                table = await self._in_thread(partial(file.read, self._path))
                kept = {self._usual: await InFile(self._usual, self._around()).ids()}
                for secret in table.by_id.values():
                    driver = self._driver(secret) if secret.driver == "file" else None
                    if not isinstance(driver, InFile):
                        continue
                    path = secret.options["path"]
                    if path not in kept:
                        kept[path] = await driver.ids()
                    if secret.id not in kept[path]:
                        found.append(Problem(f"secret {secret.name}", "what was in it is gone"))
                strays = kept[self._usual] - set(table.by_id)
                if repair:
                    for id in strays:
                        await InFile(self._usual, self._around()).delete(id)
        except PymanError as error:
            return [*found, Problem("secrets", error.message)]
        if strays:
            text = f"{len(strays)} things in it belong to no secret"
            found.append(Problem(f"{self._usual}/secretsdata.json", text, repaired=repair))
        return found

    # ------------------------------------------------------------------ starting

    def recover(self, nursery: trio.Nursery, intents: Mapping[str, bytes]) -> None:
        """What a supervisor that was killed has left: settled in the background, before anything else is done to secrets.
        StateDamaged."""
        self._intents.recover(nursery, intents, self._finish)

    async def _finish(self, key: str, intent: _Intent) -> None:
        async with self._held():
            await self._finish_held(key, intent)

    async def _finish_held(self, key: str, intent: _Intent) -> None:
        if intent.forgotten is not None:
            await self._forget(key, intent.forgotten)
            return
        table = await self._in_thread(partial(file.read, self._path))
        made, removed = intent.made, intent.removed
        if made is not None:
            if made.id not in table.by_id:
                await self._forget(key, made)
                return
            await self._tell(key, intent.events, removed)
            if removed is not None:
                await self._forget(f"{key}-former", removed)
            return
        if removed is not None and removed.id in table.by_id:
            try:
                await self._driver(removed).delete(removed.id)
                await self._write(table, gone=removed)
            except PymanError as error:
                log.warning("cannot remove a secret", secret=removed.name, error=str(error))
                await self._intents.drop(key)
                return
        await self._intents.tell(key, intent.events)

    # ------------------------------------------------------------------ small parts

    def _held(self) -> AbstractAsyncContextManager[None]:
        """As Podman, also to read: another engine does not replace the file, but writes into it."""
        return self._locks.held([self._lock], self._settings().pyman.call_deadline)

    def _make_directory(self) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise files.storage_error(error, "make", self._directory) from error

    @property
    def _usual(self) -> str:
        """Where the file driver keeps data, unless it is told otherwise."""
        return f"{self._directory}/filedriver"

    def _driver(self, secret: Secret) -> Driver:
        return driver_of(secret.driver, secret.options, self._around())

    def _around(self) -> Surroundings:
        settings = self._settings()
        return Surroundings(
            environment={
                **CLEAN_ENVIRONMENT,
                "HOME": settings.xdg.home,
                "XDG_CONFIG_HOME": settings.xdg.config_home,
                "XDG_DATA_HOME": settings.xdg.data_home,
                "XDG_RUNTIME_DIR": settings.xdg.runtime_dir,
            },
            home=settings.xdg.home,
            deadline=settings.pyman.call_deadline,
            disk=self._disk,
            patient=self._patient,
        )

    async def _write(self, table: Table, *, added: Secret | None = None, gone: Secret | None = None) -> None:
        def work() -> None:
            file.replace(self._path, table.changed(added=added, gone=gone).encoded())

        await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._disk)


def _new_id(table: Table) -> str:
    """Never all decimal, so that the beginning of it is not taken for a number."""
    while True:
        id = secrets.token_hex(32)[:ID_LENGTH]
        if id not in table.by_id and not id[:12].isdecimal():
            return id


def _event(status: EventStatus, secret: Secret, actor: Actor | None) -> EventDraft:
    return EventDraft(
        type=EventType.SECRET.value,
        status=status.value,
        id=secret.id,
        name=secret.name,
        attributes=dict(secret.labels),
        actor=actor,
    )
