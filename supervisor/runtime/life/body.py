"""The outside of one container: directories, root filesystem, spec, conmon and the OCI runtime.

The worker decides, the body acts. Every method can be repeated, also by a supervisor that found the
work half done; none changes the recorded state.
"""

from __future__ import annotations

import os
import uuid
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import DeadlineExceeded, PymanError, RuntimeFailed, StorageFailed
from supervisor.conmon import attach, control, exit, logs, spawn
from supervisor.conmon.spawn import MonitorRequest, Passed, RuntimeRefused
from supervisor.kernel import cgroups, files, process
from supervisor.kernel.userns import with_maps
from supervisor.logging import log
from supervisor.oci import ahead, build, errors
from supervisor.oci.placement import mode_of
from supervisor.runtime.answers import with_beside
from supervisor.runtime.creation import userns
from supervisor.runtime.creation.userns import Owned
from supervisor.runtime.life.remains import remove_run
from supervisor.runtime.life.reporting import listened_to, passes_on, place_of_monitor
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_request, placement_of, root_of
from supervisor.runtime.volumes.filling import fill
from supervisor.storage import reach, rootfs
from supervisor.storage.rootfs import Shift

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from supervisor.conmon.exit import Exit
    from supervisor.kernel.idmaps import IdMaps
    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.placement import Placement
    from supervisor.oci.request import UserNamespace
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.runtime.container import Container
    from supervisor.runtime.life.joining import Joined
    from supervisor.runtime.records import Definition
    from supervisor.runtime.services import Services
    from supervisor.storage.rootfs import Layers

__all__ = ["Body"]


NOTHING_PASSED = Passed()
SESSIONS_GRACE = 4.0
"""Seconds until the exec sessions of a container that has ended are over; after that their monitors are ended."""


COUNT_PATIENCE = 1.0
"""Seconds that a start waits for the store's locks to say that a layer is mounted."""


class Preparation(msgspec.Struct):
    """Shared with the thread that does it."""

    under_way: bool = False
    given_up: bool = False


class Body:
    """Acts for one container; holds nothing that could not be made again from its definition."""

    def __init__(self, services: Services, container: Container) -> None:
        self._services = services
        self._container = container
        self._layout = services.layout
        self.id = container.id
        self._preparation = Preparation()
        self._start: ahead.StartAhead | None = None
        self._joined: Joined | None = None
        """The namespaces that the coming run joins, until it is made."""
        self._placed: Layers | None = None
        """The directories of its layer, where that has just been made."""
        self._unregistered = not container.definition.image.id
        """The image store has nothing of it, or nothing any more."""

    @property
    def runtime(self) -> OciRuntime:
        return self._services.runtimes.pick(self._container.definition.runtime)

    @property
    def deadline(self) -> float:
        """Seconds for one call of the OCI runtime or of conmon."""
        return self._services.settings.pyman.call_deadline

    @property
    def placement(self) -> Placement:
        """Of its cgroup."""
        return placement_of(self._services, self._container.definition)

    def monitor_request(self, passed: Passed = NOTHING_PASSED) -> MonitorRequest:
        definition, layout = self._container.definition, self._layout
        runtime = self.runtime
        return MonitorRequest(
            id=self.id,
            name=definition.name,
            bundle=layout.container_bundle(self.id),
            pid_file=definition.spec.pid_file or layout.container_pidfile(self.id),
            conmon_pid_file=definition.spec.conmon_pid_file or layout.container_conmon_pidfile(self.id),
            exit_dir=layout.exits,
            persist_dir=layout.container_persist(self.id),
            socket_dir=layout.socket_dir,
            runtime_path=runtime.path,
            runtime_args=(*runtime.arguments, *self._cgroup_arguments()),
            environment=runtime.environment,
            systemd_cgroup=self.placement.systemd,
            log_driver=definition.log_driver,
            log_path=definition.log_path,
            log_tag=definition.spec.log_configuration.tag,
            terminal=definition.spec.terminal,
            stdin=definition.spec.stdin,
            timeout=definition.spec.timeout,
            notify_socket=passes_on(definition.spec, self._container.observed.reporting),
            passed=passed,
        )

    def _cgroup_arguments(self) -> tuple[str, ...]:
        """crun makes a cgroup where none is named, unless it is told not to."""
        name, able = self.runtime.name, self._services.settings.engine.runtime_supports_nocgroups
        return () if self.placement.path or name not in able else ("--cgroup-manager=disabled",)

    async def prepare(self) -> None:
        """Directories, root filesystem, config.json, FIFOs. Undone by `clean`; what is made after the deadline,
        by the thread that makes it."""
        definition = self._container.definition
        spec = definition.spec
        secrets = await self._services.secret_values(spec) if spec.secret_env else {}
        if definition.joins:
            from supervisor.runtime.life import joining

            self._part()
            self._joined = await joining.join(self._services, definition)
        await self._services.volumes.mount_all(spec, self.id)
        await self._in_time(partial(self._prepare, secrets))

    def _part(self) -> None:
        """What is joined needs to be held no more: the container has it, or never will."""
        joined, self._joined = self._joined, None
        if joined is not None:
            joined.close()

    async def mount(self) -> str:
        """The root filesystem alone, and where it is. Undone by `clean`."""
        await self._in_time(self._mount)
        await self._registered()
        return self.root()

    def root(self) -> str:
        """Where the root filesystem is that is mounted."""
        return root_of(self._services, self._container.definition)

    async def _in_time(self, step: Callable[[UserNamespace | None, Shift | None], object]) -> None:
        if self._preparation.under_way:
            name = self._container.name
            raise DeadlineExceeded(
                f"cannot start container '{name}': an earlier start still waits for its root filesystem",
                subject=name,
            )
        self._preparation = Preparation()
        definition = self._container.definition
        await self._layered()
        path = "" if self._joined is None else self._joined.paths.get("user", "")
        space = await userns.joined(definition, path)
        async with AsyncExitStack() as stack:
            shift = None if space is None else Shift(space.maps)
            if shift is not None and self._maps_files(shift):
                shift = shift._replace(namespace=await self._seen_from(stack, shift.maps))
            work = partial(self._done_in_time, self._preparation, partial(step, space, shift))
            try:
                await look_into(definition.spec.rootfs or definition.image.id, work, self.deadline)
            except DeadlineExceeded:
                self._preparation.given_up = True
                raise

    async def _seen_from(self, stack: AsyncExitStack, maps: IdMaps) -> int:
        """A descriptor of a user namespace with these maps, for mounts. StorageFailed."""
        try:
            return await stack.enter_async_context(with_maps(maps))
        except OSError as error:
            root = self._container.definition.spec.rootfs or self._container.definition.image_name
            raise files.storage_error(error, "map the ids of the root filesystem", root) from error

    def _maps_files(self, shift: Shift) -> bool:
        """A mount is made that shows files with the container's ids. It takes root's rights on the host."""
        spec = self._container.definition.spec
        wanted = spec.rootfs_overlay or spec.rootfs_idmap or bool(spec.image)
        return wanted and not self._services.settings.rootless and rootfs.is_mapped(shift.maps)

    async def _registered(self) -> None:
        """Other engines know of its layer, and that it is mounted. One that holds the store's locks for long is not
        waited for."""
        container = self._container
        if not container.definition.image.id:
            return
        if container.layer is not None:
            await container.layer.recorded.get()
            container.layer = None
        count = partial(self._services.layers.mounting, self.id, self._layout.container_rootfs(self.id))
        with trio.move_on_after(COUNT_PATIENCE):
            await trio.to_thread.run_sync(count, limiter=self._services.disk, abandon_on_cancel=True)

    async def _layered(self) -> None:
        """Its layer can be mounted. One that never ran may have been created by a supervisor that was killed at it."""
        container, services = self._container, self._services
        self._placed = None
        if container.layer is not None:
            self._placed = await container.layer.placed.get()
        elif container.definition.image.id and not container.observed.started_at:
            there = partial(services.layers.known, self.id)
            if not await trio.to_thread.run_sync(there, limiter=services.disk):
                mend = partial(services.layers.mend, container.definition)
                await trio.to_thread.run_sync(mend, limiter=services.patient)

    def _done_in_time(self, preparation: Preparation, step: Callable[[], object]) -> None:
        preparation.under_way = True
        try:
            step()
        finally:
            try:
                if preparation.given_up:
                    self._give_back()
                    self._discard(erase=self._container.removed)
            except (PymanError, OSError) as error:
                log.warning("not cleaned up after a late start", container=self.id, error=str(error))
            finally:
                preparation.under_way = False

    def _prepare(self, secrets: dict[str, str], space: UserNamespace | None, shift: Shift | None) -> None:
        layout, container, joined = self._layout, self._container, self._joined
        bundle = layout.container_bundle(self.id)
        try:
            for path in (bundle, layout.container_static(self.id), layout.container_persist(self.id)):
                os.makedirs(path, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(container.definition.log_path) or "/", mode=0o700, exist_ok=True)
            check_files(container.definition)
            exit.clear_exit(layout.exits, layout.container_persist(self.id), self.id)
            root = self._mount(space, shift)
            request = build_request(self._services, container.definition, root, space, joined, secrets)
            if joined is not None:
                joined.stage(request)
            request = listened_to(request, container.observed.reporting, bundle)
            fill(self._services.volumes, request, self.deadline)
            if request.mounted:
                from supervisor.runtime.mounts import staging

                staging.prepare(self._services, request, self.deadline)
            if container.definition.is_given:
                from supervisor.runtime.secrets import giving

                giving.prepare(layout, request)
            build.write_files(request)
            spec = build.build(request)
            descriptor = os.open(
                f"{bundle}/config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "wb") as file:
                file.write(spec)
            spawn.make_fifos(bundle)
            ahead.make_gate(bundle)
        except OSError as error:
            raise files.storage_error(error, "prepare", error.filename or bundle) from error

    def _mount(self, _space: UserNamespace | None, shift: Shift | None) -> str:
        """The root filesystem, where the OCI runtime finds it."""
        services, spec = self._services, self._container.definition.spec
        root = rootfs.mount_rootfs(self._layout, self.id, spec, services.overlays, shift, self._layers())
        server = services.overlays.server_of(self._layout.container_rootfs(self.id))
        if server is not None and (cgroup := self.placement.monitor):
            # Like conmon: whatever ends the supervisor's service must not take it along.
            cgroups.place(server.pid, cgroup)
        return root

    def _layers(self) -> Layers | None:
        definition = self._container.definition
        if not definition.image.id:
            return None
        return self._placed or self._services.layers.of(definition)

    async def spawn(self, request: MonitorRequest) -> ProcessRef:
        """conmon, waiting for its start byte."""
        return await spawn.spawn_monitor(self._services.conmon, request)

    async def create(
        self, request: MonitorRequest, monitor: ProcessRef, *, then_start: bool = False, place: bool = True
    ) -> ProcessRef:
        """Let conmon call the OCI runtime; the container's first process, not yet running its command.

        `then_start`: the call that runs it comes up meanwhile. `place`: conmon is moved meanwhile.
        """

        async def beside() -> None:
            if then_start:
                bundle = self._layout.container_bundle(self.id)
                self._start = await ahead.StartAhead.begin(self.runtime, self.id, bundle)
            if place:
                await self.place(monitor)
            await self._registered()

        spawn.release(request)
        created = partial(spawn.read_sync, request, self.deadline, monitor)
        try:
            pid = await with_beside(created, beside)
        except RuntimeRefused as refusal:
            name = self._container.name
            raise errors.translate(self.runtime.name, "create", name, refusal.message) from None
        finally:
            self._part()
        found = process.ref_of(pid)
        if found is None:
            raise RuntimeFailed(
                f"cannot start container '{self._container.name}': its first process ended at once",
                subject=self._container.name,
            )
        return found

    async def place(self, monitor: ProcessRef) -> None:
        """Move conmon to a cgroup of its own. The kernel may take 15 ms for it, and a tenth of a millisecond just
        after the OCI runtime has moved the container; before that, they wait for one another."""
        spec, reporting = self._container.definition.spec, self._container.observed.reporting
        mode = mode_of(self._services.settings, spec)
        if move := place_of_monitor(monitor.pid, mode, self.placement, reporting):
            await trio.to_thread.run_sync(move, limiter=self._services.disk)

    async def start(self) -> None:
        if self._container.definition.spec.domainname:
            await trio.to_thread.run_sync(self._name_domain, limiter=self._services.disk)
        if self._container.definition.userns != Owned():
            from supervisor.runtime.life.delegating import give_cgroup

            await give_cgroup(self._services, self._container)
        call, self._start = self._start, None
        if call is None or not await call.go():
            await self.runtime.start(self.id)

    def _name_domain(self) -> None:
        """Not every OCI runtime can do it, and by the sysctl an ordinary user may not."""
        from supervisor.kernel import inside

        definition, init = self._container.definition, self._container.observed.init
        try:
            if init is not None:
                uts = inside.of_process(init, "uts")
                try:
                    inside.set_domain_name(uts, definition.spec.domainname)
                finally:
                    os.close(uts)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RuntimeFailed(
                f"cannot start container '{definition.name}': cannot set its domain name (--domainname): {reason}",
                subject=definition.name,
            ) from error

    async def let_start(self) -> None:
        """Have a start act, and end, that an earlier supervisor had called."""
        bundle = self._layout.container_bundle(self.id)
        await trio.to_thread.run_sync(ahead.let_go, bundle, limiter=self._services.disk)

    async def connect(self) -> socket.socket:
        """conmon's attach socket."""
        return await attach.connect("", self.id, self._layout.container_bundle(self.id))

    def resize(self, rows: int, columns: int) -> None:
        control.resize(self._layout.container_bundle(self.id), rows, columns)

    def read_exit(self) -> Exit | None:
        return exit.read_exit(self._layout.exits, self._layout.container_persist(self.id), self.id)

    async def clean(self, *, made: bool, last: bool = False) -> None:
        """Give back everything a run used. `made`: the OCI runtime knows the container. `last`: no other run
        follows, and what `erase` removes goes too.

        Goes on past a step that fails and raises the first failure at the end.
        """
        failures = _Failures()
        self._part()
        await self._drop_start()
        async with trio.open_nursery() as steps:
            if made:
                steps.start_soon(failures.attempt, self._delete)
            steps.start_soon(failures.attempt, partial(self._in_thread, self._give_back))
        # The OCI runtime has been told: it needs the bundle no more.
        await self._sessions_over()
        volumes = self._services.volumes
        await failures.attempt(partial(volumes.unmount_all, self._container.definition.spec, self.id))
        if last and not failures.found:
            await failures.attempt(self._unregister)
        erase = last and not failures.found
        await failures.attempt(partial(self._in_thread, partial(self._discard, erase=erase)))
        failures.tell(self.id)

    async def renew(self, request: MonitorRequest, forgotten: Callable[[], None]) -> ProcessRef | None:
        """`clean` after a run that another one follows at once: while the OCI runtime forgets the one, the other
        is prepared. Returns its conmon, which waits for its start byte; the next supervisor ends it unless it was
        noted. None: it is clean, and nothing is prepared.

        `forgotten` is called as soon as the OCI runtime has removed its cgroups. Raises as `clean` does, and has
        taken back then what it had prepared.
        """
        failures = _Failures()

        async def forget() -> None:
            await failures.attempt(self._delete)
            forgotten()

        async with trio.open_nursery() as beside:
            beside.start_soon(forget)
            await self._sessions_over()
            await failures.attempt(partial(self._in_thread, self._turn_over))
            monitor = None if failures.found else await self._prepared(request, failures)
        if failures.found and monitor is not None:
            await self._take_back(failures, monitor)
        failures.tell(self.id)
        return monitor

    async def _prepared(self, request: MonitorRequest, failures: _Failures) -> ProcessRef | None:
        """Everything before the start byte, or nothing of it: why it failed is found out by the ordinary start."""
        try:
            await self.prepare()
            monitor = await self.spawn(request)
        except PymanError as error:
            log.debug("not prepared", container=self.id, error=str(error))
            await self._take_back(failures)
            return None
        return monitor

    async def _take_back(self, failures: _Failures, monitor: ProcessRef | None = None) -> None:
        """What was prepared for a run that does not come about."""
        self._part()
        await failures.attempt(partial(self.end_monitor, monitor))
        await failures.attempt(partial(self._in_thread, self._give_back))
        await failures.attempt(partial(self._in_thread, partial(self._discard, erase=False)))

    async def _drop_start(self) -> None:
        """Of a run whose command was not begun."""
        call, self._start = self._start, None
        if call is not None:
            await call.drop()

    def remains(self) -> bool:
        """Something is left of a run, as of a start that could not be undone."""
        return os.path.lexists(self._layout.container_run(self.id))

    async def _delete(self) -> None:
        await self.runtime.delete(self.id, force=True)

    async def _sessions_over(self) -> None:
        """Exec sessions end by themselves with the container's processes; their directories lie in its own."""
        container = self._container
        with trio.move_on_after(SESSIONS_GRACE) as scope:
            await container.execs_over()
        if scope.cancelled_caught:
            log.warning(
                "ending the monitors of exec sessions", container=self.id, number=len(container.execs)
            )
            for session in container.execs.values():
                if session.observed.monitor is not None:
                    process.kill(session.observed.monitor)
            with trio.move_on_after(SESSIONS_GRACE):
                await container.execs_over()

    async def _in_thread(self, step: Callable[[], list[str]]) -> None:
        """A step that blocks. What it has moved into the trash is deleted later: that may take long."""
        for path in await trio.to_thread.run_sync(step, limiter=self._services.disk):
            self._services.discard(path)

    def _give_back(self, *, again: bool = False) -> list[str]:
        """`again`: there will be another conmon, for the same cgroup."""
        definition = self._container.definition
        shown = definition.userns != Owned()
        if definition.has_mounts or definition.joins:
            from supervisor.runtime.mounts import staging

            staging.undo(self._layout, self.id, self._services.overlays)
        if not self._container.held:
            rootfs.unmount_rootfs(
                self._layout, self.id, definition.spec, self._services.overlays, shown=shown
            )
            if definition.image.id:
                self._services.layers.unmounted(self.id)
        elif shown:
            reach.hide(self._layout, self.id)
        if not again:
            self._remove_cgroup()
        exit.clear_exit(self._layout.exits, None, self.id)
        return []

    def _remove_cgroup(self) -> None:
        if cgroup := self.placement.monitor:
            cgroups.remove(cgroup)

    def _turn_over(self) -> list[str]:
        """Between two runs."""
        self._give_back(again=True)
        return self._discard(erase=False)

    def _discard(self, *, erase: bool) -> list[str]:
        layout = self._layout
        run = layout.container_run(self.id)
        try:
            remove_run(layout, self.id, held=self._container.held)
            with suppress(FileNotFoundError):
                os.unlink(f"{layout.socket_dir}/{self.id}")
        except OSError as error:
            raise files.storage_error(error, "remove", run) from error
        if erase:
            return self._erase()
        ended = [layout.container_overlays(self.id)] if self._container.definition.has_mounts else []
        if not self._container.held:
            ended += rootfs.ended_with_run(layout, self.id)
        return [moved for path in ended if (moved := self._bury(path))]

    def _erase(self) -> list[str]:
        moved = self._bury(self._layout.container_static(self.id))
        return [moved] if moved else []

    async def _unregister(self) -> None:
        """Have the image store forget the container, and what it has written."""
        if not self._unregistered:
            forget = partial(self._services.layers.remove, self.id)
            await trio.to_thread.run_sync(forget, limiter=self._services.patient)
            self._unregistered = True
            self._services.discard(self._layout.store_own)

    def _bury(self, path: str) -> str:
        """Rename a directory into the trash; its new path, or an empty string if it was not there."""
        target = f"{self._layout.trash}/{uuid.uuid4().hex}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise files.storage_error(error, "remove", path) from error
        return target

    async def erase(self) -> None:
        """The container's static directory: logs, exit file, volumes; and what it has written. Gone already: nothing is
        done."""
        if (layer := self._container.layer) is not None:
            with suppress(PymanError):
                await layer.recorded.get()
        await self._unregister()
        if os.path.lexists(self._layout.container_static(self.id)):
            await self._in_thread(self._erase)

    async def end_monitor(self, monitor: ProcessRef | None = None) -> None:
        """Kill a conmon that is of no use any more, also one that nobody noted, and wait until it is gone."""
        await spawn.end_monitor(self.monitor_request(), monitor)


class _Failures:
    """Of steps that all have to be tried."""

    def __init__(self) -> None:
        self.found: list[PymanError] = []

    async def attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except PymanError as error:
            self.found.append(error)

    def tell(self, id: str) -> None:
        """Raises the first."""
        for later in self.found[1:]:
            log.warning("clean-up failed", container=id, error=str(later))
        if self.found:
            raise self.found[0]


def check_files(definition: Definition) -> None:
    """Files that a user has named and others will write: what is wrong with them is said better here."""
    if problem := logs.unfit(definition.log_path):
        message = f"cannot log to '{definition.log_path}': {problem}"
        raise StorageFailed(message, subject=definition.log_path)
    path = definition.spec.pid_file
    if path and not os.path.isdir(os.path.dirname(path)):
        raise StorageFailed(f"cannot write the pid to '{path}': its directory does not exist", subject=path)
