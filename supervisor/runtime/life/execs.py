"""Further commands in a running container, each under a conmon of its own.

A session is a task of the engine: it changes nothing of its container. The same rule as everywhere:
recorded before it is begun, so that a supervisor that is killed leaves nothing its successor cannot find;
the successor adopts a session that runs and clears away one that had not begun.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import AmbiguousId, NoSuchExec, PymanError, WrongState
from pyman.names import EventStatus, State
from supervisor.conmon import attach, control, execs, spawn
from supervisor.conmon.spawn import MonitorRequest, Passed, RuntimeRefused
from supervisor.kernel import cgroups, files, marked, null_device, process
from supervisor.kernel.background import background
from supervisor.kernel.readiness import Readiness
from supervisor.logging import log
from supervisor.oci import build, errors
from supervisor.runtime.answers import Answer, with_beside
from supervisor.runtime.container import ExecSession
from supervisor.runtime.creation.defining import check_texts, new_id
from supervisor.runtime.life.ending import MONITOR_GRACE, MONITOR_LAST_GRACE, MONITOR_PATIENCE
from supervisor.runtime.life.remains import conmon_cgroup
from supervisor.runtime.life.restart import Asked
from supervisor.runtime.records import ExecDefinition, ExecObserved, encode, replaced
from supervisor.runtime.rootfs.looking import look_into
from supervisor.runtime.specs import build_exec, build_request, placement_of, root_of
from supervisor.state.database import DeleteRecord, PutRecord, PutState

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence

    from pyman.api.container import ExecRequest
    from pyman.api.event import Actor
    from supervisor.kernel.process import Pidfd, ProcessRef
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services
    from supervisor.state.database import EventDraft

__all__ = ["Exec", "begin"]


class Exec:
    """One session while it runs. `started`: its command runs; `ended`: the exit code."""

    def __init__(
        self,
        services: Services,
        container: Container,
        session: ExecSession,
        runtime: OciRuntime | None = None,
        preserved: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """`runtime`: for a session that is to be begun. `preserved`: descriptors that become its command's, after their
        numbers there."""
        self._services = services
        self._container = container
        self.session = session
        self._request = _request(services, container, session.definition, runtime)
        self._preserved = preserved
        self._connection: socket.socket | None = None
        self._handle = 0
        self._abandoned = False
        self.started: Answer[None] = Answer()
        self.ended: Answer[int] = Answer()

    @property
    def id(self) -> str:
        return self.session.definition.id

    # ------------------------------------------------------------------ the life of a session

    async def run(self, process_spec: bytes, rows: int = 0, columns: int = 0) -> None:
        """The whole session; its answers are given on the way. Never raises for what the session did."""
        try:
            with trio.CancelScope(shield=True), background.ahead():
                await self._start(process_spec, rows, columns)
        except (PymanError, OSError) as problem:
            error = problem if isinstance(problem, PymanError) else _translated(problem)
            self.abandoned()
            with trio.CancelScope(shield=True):
                await self._undo()
            self._fail(error)
            return
        finally:
            self._part()
        await self.follow()

    def _part(self) -> None:
        """With the caller's descriptors: the command has them, or never will."""
        preserved, self._preserved = self._preserved, ()
        for _, descriptor in preserved:
            os.close(descriptor)

    async def adopt(self) -> None:
        """Go on with a session that an earlier supervisor had recorded. One that had not begun, whose client
        is gone, does not begin any more."""
        observed = self.session.observed
        if observed.pid or await self._begun(observed.monitor):
            await self.follow()
        else:
            with trio.CancelScope(shield=True):
                await self._undo()

    async def follow(self) -> None:
        """Wait for its end, and record it."""
        status = await self._monitored()
        with trio.CancelScope(shield=True):
            found = execs.read_exit(self._request)
            if found is not None:
                code = found.code
            else:
                code = -1 if status is None else process.exit_code_of_status(status)
            died = self._event(EventStatus.EXEC_DIED, containerExitCode=str(code))
            await self._discard([died], code)
        self.ended.give(code)

    async def _monitored(self) -> int | None:
        """Until conmon has ended. If it does not follow its command, because its client does not read or
        because it was stopped, it gets no more time than it may have: the command's wait status then, if that can be learnt.
        """
        observed = self.session.observed
        with ExitStack() as stack:
            monitor, command = _opened(stack, observed.monitor), _opened(stack, observed.command)
            if monitor is None:
                return None
            if command is None:
                await monitor.wait()
                return None
            ready = stack.enter_context(Readiness())
            for pidfd in (monitor, command):
                ready.add(pidfd.fd)
            await ready.wait()
            late = 0.0
            while not await monitor.ends_within(MONITOR_GRACE):
                late += MONITOR_GRACE
                if not self._may_be_late(monitor.ref, late):
                    break
            else:
                return None
            self._cut_off()
            await monitor.ends_within(MONITOR_LAST_GRACE)
            return command.exit_status()

    def _may_be_late(self, monitor: ProcessRef, late: float) -> bool:
        """As that of a container (`ending`). But a container cannot end before every process in it was waited for by its
        parent, so nobody is waited for where it is to end, or its first process is ending by itself."""
        if process.is_stopped(monitor.pid):
            return False
        container = self._container
        observed = container.observed
        init = observed.init
        if observed.asked is not Asked.NOTHING or init is None or not process.words_of(init.pid):
            return False
        behind = container.attachments.behind(self._handle) if self._handle else []
        if not behind:
            return late < MONITOR_PATIENCE
        return not any(map(process.is_stopped, behind))

    def give_up(self, error: PymanError) -> None:
        """After a bug: nobody waits for it any more, and the next supervisor finds its record."""
        self.abandoned()
        self._over(-1)
        self._fail(error)

    def _fail(self, error: PymanError) -> None:
        """Whoever waits is told; what was answered already stays."""
        self.started.fail(error)
        self.ended.fail(error)

    # ------------------------------------------------------------------ its beginning

    async def _start(self, process_spec: bytes, rows: int, columns: int) -> None:
        services, container, request = self._services, self._container, self._request
        record = PutRecord("exec", self.id, "", None, encode(self.session.definition), encode(ExecObserved()))
        await services.database.commit([record], apply=self._recorded)
        # A container that ends waits for the sessions it knows; later ones must leave it alone.
        _require_running(container)
        await trio.to_thread.run_sync(self._prepare, process_spec, limiter=services.disk)
        deadline = services.settings.pyman.call_deadline
        passed = Passed(preserved=self._preserved)
        monitor = await spawn.spawn_monitor(services.conmon, replaced(request, passed=passed))
        self._part()
        await self._note(ExecObserved(monitor=monitor))
        place = partial(self._place, monitor)
        try:
            if request.attach:
                await self._attach(monitor, deadline, rows, columns)
            execs.release(request)
            # As a container's conmon: while the OCI runtime is at work.
            pid = await with_beside(
                partial(execs.read_sync, request, deadline, monitor),
                partial(trio.to_thread.run_sync, place, limiter=services.disk),
            )
        except RuntimeRefused as refusal:
            runtime = services.runtimes.pick(container.definition.runtime)
            raise errors.translate(runtime.name, "exec", container.name, refusal.message) from None
        finally:
            null_device.take_back()
        await self._note_begun(monitor, pid)
        if self._abandoned:
            self.abandoned()
        self.started.give(None)

    def _recorded(self, _events: object) -> None:
        self._container.execs[self.id] = self.session

    def _prepare(self, process_spec: bytes) -> None:
        """The session's directory, in that of the container, which is never made here."""
        request = self._request
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(request.bundle), 0o700)
        os.mkdir(request.bundle, 0o700)
        with open(request.process_spec, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(process_spec)
        execs.make_fifos(request.bundle)

    async def _attach(self, monitor: ProcessRef, deadline: float, rows: int, columns: int) -> None:
        self._connection = await execs.attach_exec(self._request, deadline, monitor)
        actor = self.session.definition.actor
        self._handle = self._container.attachments.add(
            self._connection.fileno(), actor.pid if actor is not None else 0
        )
        if rows and columns:
            control.resize(self._request.bundle, rows, columns)

    async def _begun(self, monitor: ProcessRef | None) -> bool:
        """Whether the command runs, or ran, that an earlier supervisor may have let go."""
        if monitor is None or execs.waits(self._request):
            return False
        pid = 0
        with suppress(PymanError, RuntimeRefused):
            pid = await execs.read_sync(self._request, self._services.settings.pyman.call_deadline, monitor)
        if not pid and execs.read_exit(self._request) is None:
            return False
        await self._note_begun(monitor, pid)
        return True

    async def _note(self, observed: ExecObserved, events: Sequence[EventDraft] = ()) -> None:
        await self._services.database.commit([PutState("exec", self.id, encode(observed))], events)
        self.session.observed = observed

    async def _note_begun(self, monitor: ProcessRef, pid: int) -> None:
        command = process.ref_of(pid) if pid else None
        observed = ExecObserved(monitor=monitor, pid=pid, command=command)
        await self._note(observed, [self._event(EventStatus.EXEC, self.session.definition.actor)])

    def _event(self, status: EventStatus, actor: Actor | None = None, **attributes: str) -> EventDraft:
        return self._container.event(status, actor, execID=self.id, **attributes)

    # ------------------------------------------------------------------ its client

    def take_attachment(self) -> int | None:
        """The attach descriptor, which is the taker's; none if the session is detached."""
        connection, self._connection = self._connection, None
        return None if connection is None else connection.detach()

    def abandoned(self) -> None:
        """The client is gone: its end of the streams is closed, the command goes on."""
        self._abandoned = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._cut_off()

    def _cut_off(self) -> None:
        """Nobody holds up conmon any more. What the client has been sent it can still read."""
        self._container.attachments.drop(self._handle)

    # ------------------------------------------------------------------ its end

    async def _undo(self) -> None:
        """A session that has not come about leaves no command behind, though the OCI runtime may have begun it, nor the
        OCI runtime's own process in the container, which the container can make wait."""
        monitor = self.session.observed.monitor
        begun: list[ProcessRef] = []
        try:
            if monitor is not None:
                begun = await trio.to_thread.run_sync(marked.below, monitor.pid, limiter=self._services.disk)
            await spawn.end_monitor(self._request, monitor)
        except PymanError as error:
            log.warning("cannot undo an exec session", exec=self.id, error=str(error))
        with ExitStack() as stack:
            command = _opened(stack, execs.command_of(self._request))
            if command is not None:
                command.send_signal(signal.SIGKILL)
        if begun:
            await trio.to_thread.run_sync(marked.kill_all, (), begun, limiter=self._services.disk)
        await self._discard()

    async def _discard(self, events: Sequence[EventDraft] = (), code: int = -1) -> None:
        """Forget the session and remove what it had on disk. What cannot be recorded now stays there, for
        the next supervisor to tell."""
        self._cut_off()
        recorded = [DeleteRecord("exec", self.id)] if self.id in self._container.execs else []
        try:
            await spawn.end_monitor(self._request, self.session.observed.monitor)
            if recorded:
                await self._services.database.commit(recorded, events, apply=lambda _events: self._over(code))
            await trio.to_thread.run_sync(self._remove, limiter=self._services.disk)
        except PymanError as error:
            log.warning("cannot forget an exec session", exec=self.id, error=str(error))
            self._over(code)

    def _place(self, monitor: ProcessRef) -> None:
        """As its container's monitor: in a cgroup of its own, or where it was started."""
        if placement_of(self._services, self._container.definition).monitor:
            cgroups.place(monitor.pid, conmon_cgroup(self.id))

    def _remove(self) -> None:
        # Its directory is what still names the cgroup, to a supervisor that comes after a kill in between.
        cgroups.remove(conmon_cgroup(self.id))
        execs.remove_exec(self._request)

    def _over(self, code: int) -> None:
        self.session.observed = ExecObserved(exit_code=code)
        self._container.remember_exec(self.session)
        self.session.over.set()


def _opened(stack: ExitStack, ref: ProcessRef | None) -> Pidfd | None:
    pidfd = process.open_pidfd(ref) if ref is not None else None
    return None if pidfd is None else stack.enter_context(pidfd)


def _request(
    services: Services, container: Container, definition: ExecDefinition, runtime: OciRuntime | None
) -> MonitorRequest:
    folder = services.layout.exec_run(container.id, definition.id)
    return MonitorRequest(
        id=container.id,
        exec_id=definition.id,
        name=container.name,
        bundle=folder,
        pid_file=f"{folder}/pidfile",
        conmon_pid_file=f"{folder}/conmon.pid",
        persist_dir=folder,
        runtime_path="" if runtime is None else runtime.path,
        runtime_args=() if runtime is None else runtime.arguments,
        environment={} if runtime is None else runtime.environment,
        log_driver="none",
        log_path="",
        terminal=definition.terminal,
        stdin=definition.stdin,
        attach=not definition.detach,
        process_spec=f"{folder}/process.json",
    )


def _require_running(container: Container) -> None:
    if container.state is not State.RUNNING:
        raise WrongState(
            f"cannot exec in container '{container.name}': it is {container.state}, not running",
            subject=container.name,
        )


def _translated(error: OSError) -> PymanError:
    return files.storage_error(error, "begin an exec session with", error.filename or "its files")


async def begin(
    services: Services,
    container: Container,
    request: ExecRequest,
    actor: Actor | None,
    descriptors: Sequence[int] = (),
) -> tuple[Exec, bytes]:
    """A session that can be run, and its process spec. Refuses what cannot work. `descriptors`: for the numbers that are
    to be preserved; they are the session's then, and are closed if there is none."""
    with ExitStack() as refused:
        for descriptor in descriptors:
            refused.callback(os.close, descriptor)
        definition, spec = await _defined(services, container, request, actor)
        runtime = services.runtimes.pick(container.definition.runtime)
        refused.pop_all()
    preserved = tuple(zip(request.preserve_fd, descriptors, strict=True))
    return Exec(services, container, ExecSession(definition), runtime, preserved), spec


async def _defined(
    services: Services, container: Container, request: ExecRequest, actor: Actor | None
) -> tuple[ExecDefinition, bytes]:
    _require_running(container)
    check_texts(request)
    root = root_of(services, container.definition)
    wish = build.ExecBuildRequest(
        container=build_request(services, container.definition, root),
        command=request.command,
        env=request.env,
        user=request.user,
        work_dir=request.work_dir,
        terminal=request.terminal,
        privileged=request.privileged,
        rows=request.rows,
        columns=request.columns,
    )
    spec = await look_into(root, partial(build_exec, wish), services.settings.pyman.call_deadline)
    definition = ExecDefinition(
        id=new_id(),
        container=container.id,
        command=request.command,
        user=request.user,
        terminal=request.terminal,
        stdin=request.stdin,
        privileged=request.privileged,
        detach=request.detach,
        detach_keys=services.settings.engine.detach_keys
        if request.detach_keys is None
        else request.detach_keys,
        created=time.time_ns(),
        actor=actor,
    )
    return definition, spec


def find(containers: Iterable[Container], exec_id: str) -> tuple[Container, ExecSession]:
    """A session by id or the beginning of one. Raises NoSuchExec or AmbiguousId."""
    found = [
        (container, session)
        for container in containers
        for key, session in (*container.execs.items(), *container.ended_execs.items())
        if exec_id and key.startswith(exec_id)
    ]
    if not found:
        raise NoSuchExec(f"cannot find exec session '{exec_id}'", subject=exec_id)
    if len(found) > 1:
        raise AmbiguousId(
            f"cannot tell which exec session '{exec_id}' is: {len(found)} begin with it", subject=exec_id
        )
    return found[0]


async def connect(services: Services, container: Container) -> int:
    """A further connection to a container's attach socket; the caller owns the descriptor."""
    connection = await attach.connect("", container.id, services.layout.container_bundle(container.id))
    return connection.detach()
