"""The engine: assembled at start, taken apart at the end, and the calls that concern many containers.

Starting is recovering: state opened, a reboot noticed by the boot id, leftovers cleared, every container
given to a worker that compares it with what is there. After `shutdown` every call fails with
EngineStopped.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import outcome
import trio

from pyman.errors import EngineStopped, InternalError, NoSuchContainer, PymanError
from supervisor.conmon.find import find_conmon
from supervisor.conmon.logs import LogKeeper
from supervisor.events.journal import Journal
from supervisor.events.sinks import sink_of
from supervisor.kernel import children, files, null_device, process
from supervisor.kernel.background import background
from supervisor.logging import log
from supervisor.oci import namespaces
from supervisor.oci.runtimes import find_runtimes
from supervisor.runtime.answers import in_background
from supervisor.runtime.container import Container, ExecSession
from supervisor.runtime.creation.creating import Creation
from supervisor.runtime.dependencies import Turns
from supervisor.runtime.life import execs
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.restart import Asked
from supervisor.runtime.life.worker import Worker
from supervisor.runtime.many import Many
from supervisor.runtime.mounts.sources import mounting
from supervisor.runtime.networks.wiring import WIRED
from supervisor.runtime.probes import Probes
from supervisor.runtime.recovery import leftovers, refresh
from supervisor.runtime.registry import Entry, Registry, check_name
from supervisor.runtime.services import Reaped, Services
from supervisor.runtime.volumes import legacy
from supervisor.settings.layout import make_directories
from supervisor.state.database import Database, DeleteRecord, Retention
from supervisor.state.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyman.api.container import ExecRequest
    from pyman.api.event import Actor
    from pyman.api.spec import Caller, ContainerSpec
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.creation.imaged import Chosen
    from supervisor.runtime.life.execs import Exec
    from supervisor.runtime.records import Definition, ExecDefinition, ExecObserved, Observed
    from supervisor.runtime.registry import View
    from supervisor.settings.layout import Layout
    from supervisor.settings.model import Settings
    from supervisor.state.database import Loaded

__all__ = ["Engine"]


ADOPTION = 5.0
"""Seconds that all containers together get to be adopted before the supervisor calls itself ready."""


class Engine:
    """One per supervisor. `run` is its life; everything else may be called once it has reported started."""

    def __init__(self, settings: Settings, layout: Layout, probes: Probes | None = None) -> None:
        """`probes`: what was asked of other programs before, if it was."""
        self.settings = settings
        self.layout = layout
        self._probes = probes
        self.registry = Registry()
        self.reaped = Reaped()
        """Told by the keeper as well, from the very beginning."""
        self.services: Services
        self.locks: Locks
        self._nursery: trio.Nursery
        self._valid = False
        self._trash_filled = trio.Event()
        self._creation: Creation

    # ------------------------------------------------------------------ start and end

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the state, recover, report started, and live until cancelled."""
        make_directories(self.layout)
        settings = self.settings
        retention = Retention(
            entries=settings.pyman.events_max_entries, bytes=settings.pyman.events_max_bytes
        )
        database = Database.open(self.layout.database, retention=retention)
        try:
            async with trio.open_nursery() as tools:
                await self._assemble(database)
                # Orphans first: what ends while the containers are adopted must not be lost.
                await tools.start(partial(children.reap_orphans, self.reaped.note))
                await tools.start(self.services.images.run)
                tools.start_soon(self.services.logs.run)
                tools.start_soon(background.run)
                tools.start_soon(self.services.health.run)
                tools.start_soon(self._empty_trash)
                sink = sink_of(settings.engine, f"{self.layout.tmp}/events.log", database)
                if sink is not None:
                    tools.start_soon(sink.run, self.services.journal)
                async with trio.open_nursery() as self._nursery:
                    await self._recover(database.load())
                    self._valid = True
                    task_status.started()
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._end()
        finally:
            try:
                database.close()
            except PymanError as error:  # a full disk: everything that was committed is there
                log.warning("cannot mark the end in the state", error=str(error))

    def _end(self) -> None:
        """Nothing new is taken on, subscribers are told the last events, the locks are free."""
        self._valid = False
        self.services.journal.close()
        self.services.store.close()
        self.locks.close()

    async def _assemble(self, database: Database) -> None:
        settings, layout = self.settings, self.layout
        found: dict[str, Any] = {}

        async def look(name: str, search: Callable[[], Awaitable[Any]]) -> None:
            found[name] = await search()

        path = os.environ.get("PATH", os.defpath)
        asked = self._probes or Probes()
        async with trio.open_nursery() as searches:
            searches.start_soon(
                look, "conmon", partial(find_conmon, settings.engine.conmon_path, path, asked.conmon)
            )
            searches.start_soon(
                look,
                "runtimes",
                partial(
                    find_runtimes,
                    settings.engine,
                    probed=asked.runtimes,
                    environment=settings.child_environment,
                    deadline=settings.pyman.call_deadline,
                ),
            )
        for warning in (*settings.warnings, *found["runtimes"].warnings):
            log.warning(warning)
        journal = Journal(database)
        self.services = Services(
            settings,
            layout,
            database,
            journal,
            found["conmon"],
            found["runtimes"],
            LogKeeper(),
            self.reaped,
            self.registry,
        )
        self.each = Many(self.services.dependencies).each
        self.services.discard = self._discard
        self.services.spawn = lambda work: in_background(self._nursery, work)
        self.services.find = self._container
        self.services.volumes.containers = lambda: self.registry.containers
        self.services.volumes.discard = self._discard
        self.services.remove_container = self._remove_with_volume
        self.services.volumes.remove_container = self._remove_with_volume
        self.services.images.is_external = lambda id: self.registry.get(id) is None
        self.services.images.name_of = self._name_of
        self.services.images.mounting = lambda image: mounting(self.registry.containers, image)
        self.services.images.remove_container = self._remove_by_force
        self.services.images.settled = self.registry.settled

    async def _recover(self, loaded: Loaded) -> None:
        """From the records to workers. Nothing that is alive is forgotten, whatever else is missing."""
        services = self.services
        self.locks = Locks.open(self.layout.lock_file, self.settings.engine, loaded)
        services.volumes.allocate, services.volumes.release = self.locks.allocate, self.locks.release
        self._creation = Creation(services, self.registry, self.locks, self._nursery, self._entry_of)
        services.dependents = self._creation.names_of_dependents
        self.reaped.read(self.layout.reaped)
        boot = process.boot_id()
        known_boot = loaded.meta.get("boot_id")
        rebooted = bool(known_boot) and known_boot != boot and not refresh.in_foreign_container()
        observed = refresh.records(loaded)
        if rebooted or not known_boot:
            observed = await refresh.after_boot(services, observed, boot, rebooted=rebooted)
        sessions = [] if rebooted else [r for r in loaded.records if r.kind == "exec"]
        known = {definition.id: state.monitor for definition, state in observed}
        executing = {record.id for record in sessions}
        clear = partial(leftovers.clear, self.layout, known, executing)
        services.overlays.adopt(await trio.to_thread.run_sync(clear))
        await services.images.recover(loaded.intents, set(known))
        await services.volumes.recover(loaded, frozenset(known), rebooted=rebooted)
        if any(key.startswith("secret-") for key in loaded.intents):
            services.secrets.recover(self._nursery, loaded.intents)
        if any(key.startswith("network-") for key in loaded.intents):
            services.networks.recover(self._nursery, loaded.intents)
        files.write_atomic(self.layout.alive, b"", 0o600)
        null_device.take_back()
        for definition, state in observed:
            self._add(await legacy.adopted(services, definition, state), state)
        for record in sessions:
            await self._adopt_exec(*refresh.exec_record(record))
        helpers = [] if rebooted else [record for record in loaded.records if record.kind == "helper"]
        sandboxed = os.path.lexists(self.layout.sandbox)
        if helpers:
            services.helpers.load(helpers)
        adopted = await self._start_workers()
        if helpers or sandboxed:
            self._nursery.start_soon(self._end_unasked_helpers, adopted)
        services.resume(loaded.intents)

    async def _start_workers(self) -> list[trio.Event]:
        """All at once; one that takes long does not hold up the supervisor for more than its budget. What tells that
        each is done."""
        adopted: list[trio.Event] = []
        with trio.move_on_after(ADOPTION):
            async with trio.open_nursery() as adoption:
                for entry in self.registry:
                    done = trio.Event()
                    adopted.append(done)
                    self._nursery.start_soon(entry.worker.run, done)
                    adoption.start_soon(done.wait)
        return adopted

    async def _end_unasked_helpers(self, adopted: list[trio.Event]) -> None:
        """Once all of them have said what they need, however long that takes."""
        for done in adopted:
            await done.wait()
        try:
            if os.path.lexists(self.layout.sandbox):
                await self.services.sandbox.end_unused()
            await self.services.helpers.end_unasked()
        except PymanError as error:
            log.warning("cannot end a helper", error=str(error))

    def _container(self, id: str) -> Container | None:
        entry = self.registry.get(id)
        return entry.container if entry is not None else None

    def _add(self, definition: Definition, observed: Observed) -> Entry:
        container = Container(definition, observed)
        if definition.userns.is_own:
            self.services.ids.open(definition.id)
            self.services.ids.claim(definition.id, definition.userns.maps)
        if observed.holds:
            self.services.allocation.note(definition.id, observed.attachments, observed.ports)
        if observed.networks:
            self.services.bridges.note(definition.id, observed)
            if self.settings.rootless:
                self.services.sandbox.known_user(definition.id)
        entry = self._entry_of(container)
        self.registry.add(entry)
        return entry

    def _entry_of(self, container: Container) -> Entry:
        return Entry(container, Worker(self.services, container, self._forget, self._let_go))

    def _let_go(self, container: Container) -> None:
        """Its name is free, and its ids: its processes have ended with the first one, and its directories are closed
        to everybody. Among the host's processes some may be left until the OCI runtime has ended them."""
        self.registry.let_go(container)
        if not namespaces.is_shared(
            namespaces.mode("pid", container.definition.spec, self.settings.containers)
        ):
            self.services.ids.release(container.id)

    def _forget(self, container: Container) -> None:
        self.registry.forget(container)
        if container.definition.spec.netns.nsmode in WIRED:
            self.services.allocation.forget(container.id)
        self.services.ids.release(container.id)
        self.locks.release(container.definition.lock)

    async def _adopt_exec(self, definition: ExecDefinition, observed: ExecObserved) -> None:
        session = ExecSession(definition)
        session.observed = observed
        entry = self.registry.get(definition.container)
        if entry is None:
            # It had not ended when its container was removed.
            if session.observed.monitor is not None:
                process.kill(session.observed.monitor)
            await self.services.database.commit([DeleteRecord("exec", definition.id)])
            return
        entry.container.execs[definition.id] = session
        running = execs.Exec(self.services, entry.container, session)
        self._nursery.start_soon(self._guarded, running, running.adopt)

    async def shutdown(self, containers: str = "leave") -> None:
        """Refuse new work, and with `stop` end every container. Failures are logged; it goes on."""
        self._valid = False
        self.services.ending = True
        await self.services.images.end()
        if containers == "stop":
            # All of them: one that is down may be about to be started, and the worker takes its messages in order.
            turns = Turns(self.registry, self.services.dependencies.all_needed, last=True)
            async with trio.open_nursery() as nursery:
                for entry in self.registry:
                    nursery.start_soon(self._stop_quietly, entry, turns)
        await self.services.settle()

    async def _stop_quietly(self, entry: Entry, turns: Turns) -> None:
        await turns.come(entry.container.id)
        try:
            await entry.worker.ask(rq.Stop(asked=Asked.SHUTDOWN))
        except NoSuchContainer:
            pass
        except PymanError as error:
            log.warning("cannot stop", container=entry.container.id, error=str(error))
        finally:
            turns.done(entry.container.id)

    def reload(self, settings: Settings) -> None:
        """Take over settings that were read again. What needs a restart is the caller's to tell."""
        self.settings = settings
        self.services.take(settings)

    def check_valid(self) -> None:
        if not self._valid:
            raise EngineStopped("cannot do that: the runtime is stopped")

    # ------------------------------------------------------------------ the trash

    def _discard(self, _path: str) -> None:
        self._trash_filled.set()

    def _trash(self) -> list[str]:
        try:
            return [
                *(f"{self.layout.trash}/{name}" for name in os.listdir(self.layout.trash)),
                *self.services.store.ground.trash(),
                *self.services.volumes.ground.trash(),
            ]
        except (OSError, PymanError) as error:
            log.warning("cannot look into the trash", error=str(error))
            return []

    async def _empty_trash(self) -> None:
        """Delete what is there, now and whenever something was added. What resists is left for the next start."""
        left: set[str] = set()
        while True:
            self._trash_filled = trio.Event()
            for path in await trio.to_thread.run_sync(self._trash):
                if path in left:
                    continue
                try:
                    await files.remove_tree(path)
                except PymanError as error:
                    left.add(path)
                    log.warning("cannot delete", path=path, error=str(error))
            await self._trash_filled.wait()

    # ------------------------------------------------------------------ containers

    def background(self, work: Callable[[], Awaitable[Any]]) -> Answer[Any]:
        """Work that is finished whatever becomes of the client that asked for it."""
        self.check_valid()
        return in_background(self._nursery, work)

    def view(self, namespace: str = "") -> View:
        """The containers that a client sees."""
        self.check_valid()
        return self.registry.within(namespace or self.settings.engine.namespace)

    async def create(
        self,
        spec: ContainerSpec,
        caller: Caller,
        actor: Actor | None,
        *,
        replace: bool,
        image: Chosen | None = None,
    ) -> Entry:
        """A new container (`Creation.create`)."""
        self.check_valid()
        return await self._creation.create(spec, caller, actor, replace=replace, image=image)

    async def complete(self, entry: Entry, actor: Actor | None) -> None:
        """All of it is there (`Creation.complete`)."""
        await self._creation.complete(entry, actor)

    def _name_of(self, id: str) -> str:
        entry = self.registry.get(id)
        return entry.container.name if entry is not None else ""

    async def _remove_by_force(self, id: str, actor: Actor | None) -> None:
        """With the image that it uses."""
        entry = self.registry.get(id)
        if entry is not None:
            await entry.worker.ask(rq.Remove(force=True, timeout=0, actor=actor))

    async def _remove_with_volume(self, id: str, timeout: float | None, actor: Actor | None) -> None:
        """With the volume, or the network, that it uses."""
        entry = self.registry.get(id)
        if entry is not None:
            await entry.worker.ask(rq.Remove(force=True, timeout=timeout, actor=actor))

    async def rename(self, entry: Entry, name: str, actor: Actor | None) -> None:
        """Both names belong to the container until it has taken over the new one."""
        check_name(name)
        id = entry.container.id
        if name == entry.container.name:
            return
        self.registry.reserve(name, id)
        try:
            former = await entry.worker.ask(rq.Rename(name=name, actor=actor))
        except BaseException:
            self.registry.release(name, id)
            raise
        self.registry.release(former, id)

    # ------------------------------------------------------------------ exec

    async def begin_exec(
        self,
        container: Container,
        request: ExecRequest,
        actor: Actor | None,
        descriptors: Sequence[int] = (),
    ) -> Exec:
        """Start a session; its answers say what becomes of it. `descriptors`: what becomes the command's; they are the
        session's from here."""
        session, spec = await execs.begin(self.services, container, request, actor, descriptors)
        work = partial(session.run, spec, request.rows, request.columns)
        self._nursery.start_soon(self._guarded, session, work)
        return session

    async def _guarded(self, session: Exec, work: Callable[[], Awaitable[None]]) -> None:
        """A bug in a session is that session's and its client's."""
        done = await outcome.acapture(work)
        if isinstance(done, outcome.Error) and isinstance(done.error, Exception):
            log.error("exec session", exec=session.id, exc_info=done.error)
            session.give_up(InternalError("cannot go on with the exec session: internal error"))
        else:
            done.unwrap()
