"""`io.pyman.Container`: from the rows of the contract to the engine."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from pyman.api.container import (
    AttachReply,
    CreateReply,
    ErrorInfo,
    ExecInspectReply,
    ExecReply,
    ExistsReply,
    InspectReply,
    ListReply,
    LogsReply,
    Result,
    ResultsReply,
    RunReply,
)
from pyman.api.method import Nothing
from pyman.errors import (
    AmbiguousId,
    InvalidArgument,
    NoSuchContainer,
    NotFound,
    NotSupported,
    PymanError,
    WrongState,
)
from pyman.names import EventStatus, State, WaitCondition
from supervisor.conmon import control as monitor_control
from supervisor.rpc import passing
from supervisor.rpc.rootfs import actor_of
from supervisor.rpc.starting import RUNNING, StartHandlers, refuse_passthrough, timeout_of
from supervisor.runtime.creation import pulling
from supervisor.runtime.creation.defining import signal_number
from supervisor.runtime.launch import Launch, StartAttached
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.execs import connect
from supervisor.runtime.life.execs import find as find_exec
from supervisor.runtime.many import Order, info_of
from supervisor.runtime.records import replaced
from supervisor.runtime.views import why
from supervisor.runtime.views.containers import exec_view, inspect_view, list_view
from supervisor.runtime.views.filters import IMPLIES_ALL, compile_filters
from supervisor.runtime.views.networks import by_names
from supervisor.runtime.views.sizes import sizes_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pyman.api import container as api
    from pyman.api.pull import Progress, PullWish
    from pyman.api.spec import ContainerSpec
    from pyman.api.update import UpdateRequest
    from supervisor.rpc.dispatch import Call
    from supervisor.runtime.container import Container
    from supervisor.runtime.creation.imaged import Chosen
    from supervisor.runtime.life.execs import Exec
    from supervisor.runtime.registry import Entry

__all__ = ["ContainerHandlers"]

LISTED = (State.RUNNING, State.STOPPING)
"""What `ps` shows unless it is asked for more; as Podman's, not what is paused."""
ENDED = frozenset({"stopped", "exited"})


class ContainerHandlers(StartHandlers):
    """Handlers wait; the changes they wait for are made by workers and finished without them."""

    def _keys(self, wish: str | None) -> str:
        """The detach keys that hold: those of the container or session, else the configured ones."""
        return self._engine.settings.engine.detach_keys if wish is None else wish

    def _placed(self, spec: ContainerSpec, call: Call) -> ContainerSpec:
        """A client that sees one namespace makes its containers there, and nowhere else."""
        namespace = call.session.get("namespace", "")
        if namespace and spec.namespace not in ("", namespace):
            raise InvalidArgument(
                f"cannot make a container in namespace '{spec.namespace}' from '{namespace}'"
            )
        return replaced(spec, namespace=namespace) if namespace else spec

    # ------------------------------------------------------------------ making

    async def create(self, request: api.CreateRequest, call: Call) -> CreateReply:
        passing.check_create(request)
        spec = self._placed(request.spec, call)

        async def tell(what: Progress | str) -> None:
            if call.more:
                await call.send(CreateReply(id="", name="", **_told(what)))

        image = await self._chosen(spec, request.pull, call, tell)
        make = partial(
            self._engine.create, spec, request.caller, actor_of(call), replace=request.replace, image=image
        )
        entry = await self._engine.background(make).get()
        await self._engine.background(partial(self._engine.complete, entry, actor_of(call))).get()
        return CreateReply(id=entry.container.id, name=entry.container.name)

    async def _chosen(
        self,
        spec: ContainerSpec,
        wish: PullWish,
        call: Call,
        tell: Callable[[Progress | str], Awaitable[None]],
    ) -> Chosen | None:
        """The image, pulled first if need be. Until it is there a caller who leaves gives it up."""
        if not spec.image or spec.rootfs:
            return None
        return await pulling.chosen(self._engine.services, spec.image, wish, actor_of(call), tell)

    async def run(self, request: api.RunRequest, call: Call) -> RunReply:
        """Create and start belong together: once begun, both are done, whether the client waits or not."""
        descriptors = call.take_descriptors()
        try:
            passing.check_run(request, len(descriptors))
            placed = replaced(request, spec=self._placed(request.spec, call))

            async def tell(what: Progress | str) -> None:
                await call.send(RunReply(phase="pulling", id="", **_told(what)))

            image = await self._chosen(placed.spec, request.pull, call, tell)
            launch = Launch(self._engine, placed, actor_of(call), descriptors, image)
            answer = self._engine.background(launch.run)
        except BaseException:
            _close(descriptors)
            raise
        with launch.abandoned_if_cancelled():
            entry: Entry = await launch.created.get()
            container = entry.container
            await call.send(RunReply(phase="created", id=container.id, name=container.name))
            started: rq.Started = await answer.get()
        first = RunReply(
            phase="started",
            id=container.id,
            name=container.name,
            detach_keys=self._keys(request.spec.detach_keys),
            notify=started.notify,
        )
        with _attached(call, container, started):
            if started.attach is None and request.detach:
                return first
            await call.send(first, [] if started.attach is None else [started.attach])
            started.close()
            code = await container.end_of(started.run)
        last = RunReply(phase="exited", id=container.id, name=container.name, exit_code=code)
        return await self._with_image(container, last) if request.spec.remove_image else last

    async def _with_image(self, container: Container, last: RunReply) -> RunReply:
        """Its image goes with it."""
        from supervisor.runtime import image_removal

        stays = await image_removal.why_it_stays(self._engine.services, container)
        return replaced(last, warnings=[stays]) if stays else last

    # ------------------------------------------------------------------ changing

    async def stop(self, request: api.StopRequest, call: Call) -> ResultsReply:
        signal = signal_number(request.signal) if request.signal else None
        timeout = timeout_of(request.timeout)
        return await self._change(
            call,
            request.selection,
            lambda: rq.Stop(actor=actor_of(call), timeout=timeout, signal=signal),
            ignore=request.ignore,
            keep=lambda c: c.state in RUNNING or c.observed.restart_at != 0,
            order=Order.NEEDED_LAST,
        )

    async def kill(self, request: api.KillRequest, call: Call) -> ResultsReply:
        signal = signal_number(request.signal)
        return await self._change(
            call,
            request.selection,
            lambda: rq.Kill(actor=actor_of(call), signal=signal),
            keep=lambda c: c.state in RUNNING,
        )

    async def pause(self, request: api.SelectionRequest, call: Call) -> ResultsReply:
        return await self._change(
            call,
            request.selection,
            lambda: rq.Pause(actor=actor_of(call)),
            keep=lambda c: c.state is State.RUNNING,
        )

    async def unpause(self, request: api.SelectionRequest, call: Call) -> ResultsReply:
        return await self._change(
            call,
            request.selection,
            lambda: rq.Unpause(actor=actor_of(call)),
            keep=lambda c: c.state is State.PAUSED,
        )

    async def remove(self, request: api.RemoveRequest, call: Call) -> ResultsReply:
        timeout = timeout_of(request.timeout)

        def wish() -> rq.Remove:
            return rq.Remove(
                actor=actor_of(call), force=request.force, timeout=timeout, volumes=request.volumes
            )

        selected = {
            found.container.id
            for _, found in self._view(call).select(request.selection)
            if not isinstance(found, PymanError)
        }

        async def first(entry: Entry) -> None:
            """What depends on a container goes before it, if it is to go as well."""
            for other in self._engine.services.dependencies.dependents(entry.container.id):
                if request.depend or other.container.id in selected:
                    await first(other)
                    with suppress(NoSuchContainer):
                        await other.worker.ask(wish())

        return await self._change(call, request.selection, wish, ignore=request.ignore, first=first)

    async def rename(self, request: api.RenameRequest, call: Call) -> Nothing:
        entry = self._view(call).find(request.name)
        await self._engine.background(
            partial(self._engine.rename, entry, request.new_name, actor_of(call))
        ).get()
        return Nothing()

    async def update(self, request: UpdateRequest, call: Call) -> CreateReply:
        entry = self._view(call).find(request.name)
        await entry.worker.ask(rq.Update(actor=actor_of(call), change=request))
        return CreateReply(id=entry.container.id, name=entry.container.name)

    # ------------------------------------------------------------------ waiting

    async def wait(self, request: api.WaitRequest, call: Call) -> ResultsReply:
        known = {str(condition) for condition in WaitCondition}
        for condition in request.conditions:
            if condition not in known:
                raise InvalidArgument(
                    f"cannot wait for '{condition}'", hint=f"known are {', '.join(sorted(known))}"
                )
        conditions = frozenset(request.conditions) or ENDED

        async def work(entry: Entry) -> Result:
            code = await entry.container.wait(conditions)
            return Result(name="", id=entry.container.id, exit_code=code)

        def missing(name: str) -> Result:
            return Result(name=name, exit_code=-1, changed=False)

        gone = request.ignore or "removed" in conditions
        for name in () if gone else request.selection.names:
            self._view(call).find(name)  # a mistake is told at once, not after a wait for the others
        return ResultsReply(
            await self._engine.each(
                self._view(call),
                request.selection,
                work,
                missing=missing if gone else None,
                at_once=math.inf,
            )
        )

    async def exists(self, request: api.ExistsRequest, call: Call) -> ExistsReply:
        try:
            self._view(call).find(request.name)
        except NotFound:
            images = self._engine.services.images
            external = request.external and await images.has_container(request.name)
            return ExistsReply(exists=external)
        except AmbiguousId:
            return ExistsReply(exists=True)
        return ExistsReply(exists=True)

    # ------------------------------------------------------------------ streams

    async def attach(self, request: api.AttachRequest, call: Call) -> AttachReply:
        entry = self._view(call).find(request.name)
        container = entry.container
        refuse_passthrough(container)
        started = await self._started(entry, request, call) if request.start else None
        if started is None or started.attach is None:
            started = await self._join(container, request, call.caller.pid)
        terminal = container.definition.spec.terminal
        descriptors = [] if started.attach is None else [started.attach]
        with _attached(call, container, started):
            keys = self._keys(container.definition.spec.detach_keys)
            reply = AttachReply(
                phase="attached",
                id=container.id,
                terminal=terminal,
                detach_keys=keys,
                notify=started.notify,
            )
            await call.send(reply, descriptors)
            started.close()
            if not started.changed:
                event = container.event(EventStatus.ATTACH, actor_of(call))
                await self._engine.services.database.commit([], [event])
            code = await container.end_of(started.run)
        return AttachReply(phase="exited", id=container.id, terminal=terminal, exit_code=code)

    async def _started(self, entry: Entry, request: api.AttachRequest, call: Call) -> rq.Started:
        wish = rq.Start(
            actor=actor_of(call),
            caller=request.caller,
            stays=True,
            attach=True,
            rows=request.rows,
            columns=request.columns,
        )
        if entry.container.state not in RUNNING:
            await self._needs(entry, call)
        start = StartAttached(entry, wish)
        answer = self._engine.background(start.run)
        with start.abandoned_if_cancelled():
            started: rq.Started = await answer.get()
        return started

    async def _join(self, container: Container, request: api.AttachRequest, client: int) -> rq.Started:
        if container.state is not State.RUNNING:
            raise WrongState(
                f"cannot attach to container '{container.name}': it is {container.state}, not running",
                subject=container.name,
            )
        if container.observed.monitor_state == "lost":
            raise WrongState(
                f"cannot attach to container '{container.name}': its conmon has ended", subject=container.name
            )
        run = container.observed.run
        if request.rows and request.columns and container.definition.spec.terminal:
            self._resize(container, request.rows, request.columns)
        descriptor = await connect(self._engine.services, container)
        try:
            return rq.Started(
                False, run, attach=descriptor, attach_handle=container.attachments.add(descriptor, client)
            )
        except OSError:
            os.close(descriptor)
            raise

    async def resize(self, request: api.ResizeRequest, call: Call) -> Nothing:
        if not (0 < request.rows < 1 << 16 and 0 < request.columns < 1 << 16):
            raise InvalidArgument(f"cannot set a terminal to {request.rows} by {request.columns} characters")
        layout = self._engine.layout
        if request.exec_id:
            container, session = find_exec(self._view(call).containers, request.exec_id)
            bundle = layout.exec_run(container.id, session.definition.id)
            monitor_control.resize(bundle, request.rows, request.columns)
        else:
            self._resize(self._view(call).find(request.name).container, request.rows, request.columns)
        return Nothing()

    def _resize(self, container: Container, rows: int, columns: int) -> None:
        if not container.definition.spec.terminal:
            raise InvalidArgument(f"cannot resize container '{container.name}': it has no terminal")
        monitor_control.resize(self._engine.layout.container_bundle(container.id), rows, columns)

    async def exec(self, request: api.ExecRequest, call: Call) -> ExecReply:
        if not request.command:
            raise InvalidArgument("cannot exec: no command is given")
        passing.check_exec(request, len(call.descriptors))
        session = await self._engine.begin_exec(
            self._view(call).find(request.name).container, request, actor_of(call), call.take_descriptors()
        )
        with _left_alone(call, session):
            return await self._in_session(request, call, session)

    async def _in_session(self, request: api.ExecRequest, call: Call, session: Exec) -> ExecReply:
        await session.started.get()
        descriptor = session.take_attachment()
        keys = self._keys(request.detach_keys)
        reply = ExecReply(phase="started", exec_id=session.id, detach_keys=keys)
        if descriptor is None:
            return reply
        try:
            await call.send(reply, [descriptor])
        finally:
            os.close(descriptor)
        code = await session.ended.get()
        return ExecReply(phase="exited", exec_id=session.id, exit_code=code)

    async def exec_inspect(self, request: api.ExecInspectRequest, call: Call) -> ExecInspectReply:
        _, session = find_exec(self._view(call).containers, request.exec_id)
        return ExecInspectReply(session=exec_view(session))

    async def logs(self, request: api.LogsRequest, call: Call) -> LogsReply:
        if request.latest:
            chosen = [self._view(call).latest().container]
        else:
            chosen = [self._view(call).find(name).container for name in request.names]
        if not chosen:
            raise InvalidArgument("cannot tell whose logs are meant", hint="give a name or an id")
        for container in chosen:
            if container.definition.log_driver != "k8s-file":
                raise NotSupported(
                    f"cannot read the logs of container '{container.name}': "
                    f"its log driver is {container.definition.log_driver}",
                    subject=container.name,
                )
        # Every container's files first, each marked, so that a client can sort them by time; then what follows.
        sending = trio.Lock()
        async with trio.open_nursery() as nursery:
            for container in chosen:
                nursery.start_soon(self._log_of, container, request.follow, call, sending)
        return LogsReply(phase="ended")

    async def _log_of(self, container: Container, follow: bool, call: Call, sending: trio.Lock) -> None:
        terminal = container.definition.spec.terminal

        async def tell(phase: str, descriptors: list[int]) -> None:
            reply = LogsReply(
                phase=phase, id=container.id, name=container.name, format="k8s-file", terminal=terminal
            )
            async with sending:
                await call.send(reply, descriptors)

        logs, definition = self._engine.services.logs, container.definition
        running = container.state in RUNNING or container.state is State.INITIALIZED
        stream = logs.follow(container.id) if follow and running else None
        if stream is None:
            for descriptor in logs.open_files(definition.log_path, definition.log_files):
                try:
                    await tell("file", [descriptor])
                finally:
                    os.close(descriptor)
            await tell("backlog-end", [])
        else:
            async for found in stream:
                if found is None:
                    await tell("backlog-end", [])
                    continue
                try:
                    await tell("file", [found])
                finally:
                    os.close(found)
        await tell("ended", [])

    # ------------------------------------------------------------------ looking

    async def inspect(self, request: api.InspectRequest, call: Call) -> InspectReply:
        self._engine.check_valid()
        found, errors = [], list[ErrorInfo]()
        names = [self._view(call).latest().container.id] if request.latest else request.names
        for name in names:
            try:
                container = self._view(call).find(name).container
            except PymanError as error:
                errors.append(info_of(error))
                continue
            size = await sizes_of(self._engine.services, container) if request.size else None
            found.append(await inspect_view(self._engine.services, container, size))
        return InspectReply(containers=found, errors=errors)

    async def list(self, request: api.ListRequest, call: Call) -> ListReply:
        view, services = self._view(call), self._engine.services
        keep = compile_filters(await by_names(services, request.filters), view.find)
        everything = request.all or request.last > 0 or bool(IMPLIES_ALL & set(request.filters))
        chosen = [
            container
            for container in view.containers
            if (everything or container.state in LISTED) and keep(container)
        ]
        chosen.sort(key=lambda container: container.definition.created, reverse=True)
        if request.last > 0:
            chosen = chosen[: request.last]
        lines = []
        known: dict[str, int] = {}
        for container in chosen:
            size = await sizes_of(services, container, known) if request.size else None
            lines.append(list_view(container, services.find, namespaces=request.namespaces, size=size))
        return ListReply(containers=lines)

    async def why(self, request: api.NameRequest, call: Call) -> api.WhyReply:
        container = self._view(call).find(request.name).container
        return await why.explain(self._engine.services, container)


@contextmanager
def _attached(call: Call, container: Container, started: rq.Started) -> Iterator[None]:
    """Around what a client is attached for. Its connection to conmon is ended with its call, but not with
    the supervisor: the client goes on reading then."""
    ended = True
    try:
        yield
    except trio.Cancelled:
        ended = call.gone
        raise
    finally:
        started.close()
        if ended:
            container.attachments.drop(started.attach_handle)


@contextmanager
def _left_alone(call: Call, session: Exec) -> Iterator[None]:
    """Around a client's wait for its session: without the client it goes on unattached."""
    try:
        yield
    except trio.Cancelled:
        if call.gone:
            session.abandoned()
        raise


def _told(what: Progress | str) -> dict[str, Any]:
    return {"text": what} if isinstance(what, str) else {"progress": what}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
