"""Further commands in a running container, each under a conmon of its own.

A session is a task of the engine: it changes nothing of its container. The same rule as everywhere:
recorded before it is begun, so that a supervisor that is killed leaves nothing its successor cannot find;
the successor adopts a session that runs and clears away one that had not begun.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import structlog
import trio

from pyman.errors import AmbiguousId, NoSuchExec, PymanError, WrongState
from pyman.names import EventStatus, State
from supervisor.conmon import attach, control, execs, spawn
from supervisor.conmon.spawn import MonitorRequest, RuntimeRefused
from supervisor.kernel import cgroups, files, process
from supervisor.oci import build, errors
from supervisor.runtime.answers import Answer
from supervisor.runtime.container import ExecSession
from supervisor.runtime.creation import check_texts, new_id
from supervisor.runtime.records import ExecDefinition, ExecObserved, encode
from supervisor.runtime.specs import build_request, root_of
from supervisor.state.database import DeleteRecord, PutRecord, PutState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyman.api.container import ExecRequest
    from pyman.api.event import Actor
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services
    from supervisor.state.database import Change, EventDraft

__all__ = ["Exec", "begin"]

log = structlog.get_logger(__name__)


def exec_cgroup(id: str) -> str:
    return f"/pyman/conmon-{id}"


class Exec:
    """One session while it runs. `started`: the attach descriptor (none if detached); `ended`: the exit code."""

    def __init__(
        self, services: Services, container: Container, session: ExecSession, actor: Actor | None
    ) -> None:
        self._services = services
        self._container = container
        self.session = session
        self._actor = actor
        self._handle = 0
        self.started: Answer[int | None] = Answer()
        self.ended: Answer[int] = Answer()

    @property
    def id(self) -> str:
        return self.session.definition.id

    def _request(self) -> MonitorRequest:
        container, layout = self._container, self._services.layout
        runtime = self._services.runtimes.pick(container.definition.runtime)
        folder = layout.exec_run(container.id, self.id)
        definition = self.session.definition
        return MonitorRequest(
            id=container.id,
            exec_id=self.id,
            name=container.name,
            bundle=folder,
            pid_file=f"{folder}/pidfile",
            conmon_pid_file=f"{folder}/conmon.pid",
            persist_dir=folder,
            runtime_path=runtime.path,
            runtime_args=runtime.arguments,
            log_driver="none",
            log_path="",
            terminal=definition.terminal,
            stdin=definition.stdin,
            attach=not definition.detach,
            process_spec=f"{folder}/process.json",
        )

    async def run(self, process_spec: bytes, rows: int = 0, columns: int = 0) -> None:
        """The whole session; its answers are given on the way. Never raises for what the session did."""
        request = self._request()
        monitor: ProcessRef | None = None
        try:
            with trio.CancelScope(shield=True):
                monitor = await self._start(request, process_spec, rows, columns)
        except (PymanError, OSError) as problem:
            error = problem if isinstance(problem, PymanError) else _translated(problem)
            with trio.CancelScope(shield=True):
                await self._discard()
            self.started.fail(error)
            self.ended.fail(error)
            return
        await self.follow(monitor)

    async def _start(
        self, request: MonitorRequest, process_spec: bytes, rows: int, columns: int
    ) -> ProcessRef:
        services, definition = self._services, self.session.definition
        record = PutRecord("exec", self.id, "", None, encode(definition), encode(ExecObserved()))
        event = self._container.event(EventStatus.EXEC, self._actor, execID=self.id)
        await services.database.commit([record], [event])
        self._container.execs[self.id] = self.session
        await trio.to_thread.run_sync(self._prepare, request, process_spec, limiter=services.disk)
        deadline = services.settings.pyman.call_deadline
        monitor = await spawn.spawn_monitor(services.conmon, request)
        await self._note(ExecObserved(monitor=monitor))
        await trio.to_thread.run_sync(cgroups.place, monitor.pid, exec_cgroup(self.id), limiter=services.disk)
        try:
            connection = None
            if not definition.detach:
                connection = await execs.attach_exec(request, deadline, monitor)
                self._handle = self._container.attachments.add(connection.fileno())
                if rows and columns:
                    control.resize(request.bundle, rows, columns)
            execs.release(request)
            pid = await execs.read_sync(request, deadline, monitor)
        except RuntimeRefused as refusal:
            runtime = services.runtimes.pick(self._container.definition.runtime)
            raise errors.translate(runtime.name, "exec", self._container.name, refusal.message) from None
        await self._note(ExecObserved(monitor=monitor, pid=pid))
        self.started.give(connection.detach() if connection is not None else None)
        return monitor

    def _prepare(self, request: MonitorRequest, process_spec: bytes) -> None:
        os.makedirs(request.bundle, mode=0o700, exist_ok=True)
        with open(request.process_spec, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(process_spec)
        execs.make_fifos(request.bundle)

    async def _note(self, observed: ExecObserved) -> None:
        await self._services.database.commit([PutState("exec", self.id, encode(observed))])
        self.session.observed = observed

    async def follow(self, monitor: ProcessRef | None) -> None:
        """Wait for the end of conmon, and record the session's."""
        if monitor is not None:
            pidfd = process.open_pidfd(monitor)
            if pidfd is not None:
                with pidfd:
                    await pidfd.wait()
        with trio.CancelScope(shield=True):
            await self._end()

    async def _end(self) -> None:
        found = execs.read_exit(self._request())
        code = -1 if found is None else found.code
        attributes: dict[str, Any] = {"execID": self.id, "containerExitCode": str(code)}
        await self._discard([self._container.event(EventStatus.EXEC_DIED, **attributes)], code)
        self.ended.give(code)

    def abandoned(self) -> None:
        """The client is gone: its end of the streams is closed, the command goes on."""
        if self._handle:
            self._container.attachments.drop(self._handle)
            self._handle = 0

    async def _discard(self, events: Sequence[EventDraft] = (), code: int = -1) -> None:
        """Forget the session and remove what it had on disk."""
        self.abandoned()
        monitor = self.session.observed.monitor
        await spawn.end_monitor(self._request(), monitor)
        change: list[Change] = []
        if not self._container.removed and self.id in self._container.execs:
            change.append(DeleteRecord("exec", self.id))
        try:
            await self._services.database.commit(change, events, apply=lambda _events: self._over(code))
        except PymanError as error:
            log.warning("cannot forget an exec session", exec=self.id, error=str(error))
            self._over(code)
        await trio.to_thread.run_sync(execs.remove_exec, self._request(), limiter=self._services.disk)
        cgroups.remove(exec_cgroup(self.id))

    def _over(self, code: int) -> None:
        self.session.observed = ExecObserved(monitor=None, pid=0, exit_code=code)
        self._container.remember_exec(self.session)


def _translated(error: OSError) -> PymanError:
    return files.storage_error(error, "begin an exec session with", error.filename or "its files")


def begin(
    services: Services, container: Container, request: ExecRequest, actor: Actor | None
) -> tuple[Exec, bytes]:
    """A session that can be run, and its process spec. Refuses what cannot work."""
    if container.state is not State.RUNNING:
        raise WrongState(
            f'cannot exec in container "{container.name}": it is {container.state}, not running',
            subject=container.name,
        )
    check_texts(request)
    spec = build.build_exec(
        build.ExecBuildRequest(
            container=build_request(services, container.definition, root_of(services, container.definition)),
            command=request.command,
            env=request.env,
            user=request.user,
            work_dir=request.work_dir,
            terminal=request.terminal,
            privileged=request.privileged,
            rows=request.rows,
            columns=request.columns,
        )
    )
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
    )
    return Exec(services, container, ExecSession(definition), actor), spec


def find(containers: Iterable[Container], exec_id: str) -> tuple[Container, ExecSession]:
    """A session by id or the beginning of one. Raises NoSuchExec or AmbiguousId."""
    found = [
        (container, session)
        for container in containers
        for key, session in (*container.execs.items(), *container.ended_execs.items())
        if exec_id and key.startswith(exec_id)
    ]
    if not found:
        raise NoSuchExec(f'cannot find exec session "{exec_id}"', subject=exec_id)
    if len(found) > 1:
        raise AmbiguousId(
            f'cannot tell which exec session "{exec_id}" is: {len(found)} begin with it', subject=exec_id
        )
    return found[0]


async def connect(services: Services, container: Container) -> int:
    """A further connection to a container's attach socket; the caller owns the descriptor."""
    connection = await attach.connect("", container.id, services.layout.container_bundle(container.id))
    return connection.detach()
