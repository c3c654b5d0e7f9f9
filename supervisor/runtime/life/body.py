"""The outside of one container: directories, root filesystem, spec, conmon and the OCI runtime.

The worker decides, the body acts. Every method can be repeated, also by a supervisor that found the
work half done; none changes the recorded state.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from pyman.errors import PymanError, RuntimeFailed
from supervisor.conmon import attach, control, exit, spawn
from supervisor.conmon.spawn import MonitorRequest, Passed, RuntimeRefused
from supervisor.kernel import cgroups, files, null_device, process
from supervisor.logging import log
from supervisor.oci import ahead, errors
from supervisor.oci.placement import mode_of
from supervisor.runtime.answers import with_beside
from supervisor.runtime.creation.userns import Owned
from supervisor.runtime.life.preparing import Preparing
from supervisor.runtime.life.remains import remove_run
from supervisor.runtime.life.reporting import passes_on, place_of_monitor
from supervisor.runtime.networks.wiring import wiring_of
from supervisor.runtime.specs import placement_of
from supervisor.storage import reach, rootfs

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from supervisor.conmon.exit import Exit
    from supervisor.kernel.process import ProcessRef
    from supervisor.oci.placement import Placement
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

__all__ = ["Body"]


NOTHING_PASSED = Passed()
SESSIONS_GRACE = 4.0
"""Seconds until the exec sessions of a container that has ended are over; after that their monitors are ended."""


class Body:
    """Acts for one container; holds nothing that could not be made again from its definition."""

    def __init__(self, services: Services, container: Container) -> None:
        self._services = services
        self._container = container
        self._layout = services.layout
        self.id = container.id
        self.wiring = wiring_of(services, container)
        self.preparing = Preparing(services, container, self.wiring, self._late)
        self._start: ahead.StartAhead | None = None
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

    def _late(self) -> None:
        """What a start was not waited for any more had prepared."""
        self._give_back()
        self._discard(erase=self._container.removed)

    async def spawn(self, request: MonitorRequest) -> ProcessRef:
        """conmon, waiting for its start byte."""
        if held := self.wiring.held():
            request = msgspec.structs.replace(request, held=tuple(held))
        try:
            return await spawn.spawn_monitor(self._services.conmon, request)
        finally:
            self.wiring.drop()

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
            await self.preparing.registered()

        spawn.release(request)
        created = partial(spawn.read_sync, request, self.deadline, monitor)
        try:
            pid = await with_beside(created, beside)
        except RuntimeRefused as refusal:
            name = self._container.name
            raise errors.translate(self.runtime.name, "create", name, refusal.message) from None
        finally:
            self.preparing.part()
            null_device.take_back()  # no command runs yet
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
        null_device.take_back()  # where an earlier supervisor has had it made
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
        self.preparing.part()
        self.wiring.drop()
        await self._drop_start()
        async with trio.open_nursery() as steps:
            if made:
                steps.start_soon(failures.attempt, self._delete)
            steps.start_soon(failures.attempt, partial(self._in_thread, self._give_back))
        # The OCI runtime has been told: it needs the bundle no more.
        await self._sessions_over()
        await failures.attempt(self.wiring.take_down)
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
            await failures.attempt(self.wiring.turn_over)
            await failures.attempt(partial(self._in_thread, self._turn_over))
            monitor = None if failures.found else await self._prepared(request, failures)
        if failures.found and monitor is not None:
            await self._take_back(failures, monitor)
        failures.tell(self.id)
        return monitor

    async def _prepared(self, request: MonitorRequest, failures: _Failures) -> ProcessRef | None:
        """Everything before the start byte, or nothing of it: why it failed is found out by the ordinary start."""
        try:
            await self.wiring.plan()  # which keeps what it has
            await self.preparing.prepare()
            monitor = await self.spawn(request)
        except PymanError as error:
            log.debug("not prepared", container=self.id, error=str(error))
            await self._take_back(failures)
            return None
        return monitor

    async def _take_back(self, failures: _Failures, monitor: ProcessRef | None = None) -> None:
        """What was prepared for a run that does not come about."""
        self.preparing.part()
        self.wiring.drop()
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
