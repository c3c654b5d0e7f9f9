"""How a container is started: everything around its command first, then the command.

Two steps, as the OCI runtime has them. Between them a client is attached, so that it misses nothing. A
start that fails is undone as a whole, and what went wrong is kept in the record.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyman.api.spec import Caller
from pyman.errors import PymanError, RuntimeFailed, WrongState
from pyman.names import EventStatus, State
from supervisor.logging import log
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.body import NOTHING_PASSED
from supervisor.runtime.life.reporting import asked_by, lines
from supervisor.runtime.life.requests import NoticeKind
from supervisor.runtime.life.restart import Asked, History
from supervisor.runtime.life.states import Fact
from supervisor.runtime.networks.wiring import NOT_WIRED
from supervisor.runtime.records import Wanted, replaced

if TYPE_CHECKING:
    from supervisor.conmon.spawn import MonitorRequest, Passed
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.life.reporting import Reporting
    from supervisor.runtime.life.worker import Worker
    from supervisor.state.database import EventDraft

__all__ = ["Starting"]


STARTABLE = (State.CREATED, State.EXITED, State.INITIALIZED)
NOBODY = Caller()


class Starting:
    """The worker's part that starts."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def init(self, request: rq.Init) -> None:
        worker = self._worker
        await worker.ending.settle()
        if worker.observed.state is State.INITIALIZED:
            request.answer.give(False)
            return
        worker.require((State.CREATED, State.EXITED), "initialize")
        await self.initialize(Wanted.INITIALIZED, asked_by=request.actor, reporting=self._reporting(NOBODY))
        request.answer.give(True)

    async def start(self, request: rq.Start) -> None:
        worker = self._worker
        await worker.ending.settle()
        state = worker.observed.state
        if state in (State.RUNNING, State.PAUSED):
            request.answer.give(rq.Started(False, worker.observed.run))
            return
        worker.require(STARTABLE, "start")
        # A user's start begins the policy's history anew.
        wish: dict[str, Any] = {
            "next_trigger": request.trigger,
            "again": False,
            "asked_by": request.actor,
            "history": History(),
        }
        if state is State.INITIALIZED:
            # Its conmon passes on what it was begun for; there is a main process in any case.
            wish["reporting"] = worker.observed.reporting or self._reporting(request.caller)
            await worker.note(wanted=Wanted.RUNNING, asked=Asked.NOTHING, **wish)
            if wish["reporting"] is not None and worker.observed.monitor is not None:
                await worker.body.place(worker.observed.monitor)
        else:
            wish["reporting"] = self._reporting(request.caller)
            await self.initialize(Wanted.RUNNING, request.passed, restart_reason="", **wish)
        observed, spec = worker.observed, worker.container.definition.spec
        pid = observed.monitor.pid if observed.monitor is not None else 0
        started = rq.Started(True, observed.run, lines(spec, observed.reporting, pid, stays=request.stays))
        try:
            if request.attach:
                await self._attach(started, request)
            await self.go(attached=request.attach)
        except PymanError:
            worker.container.attachments.drop(started.attach_handle)
            started.close()
            raise
        request.answer.give(started)

    def _reporting(self, caller: Caller) -> Reporting | None:
        """To whom the coming run tells that it is ready. NotSupported, InvalidArgument."""
        definition = self._worker.container.definition
        found = asked_by(definition.spec, caller) or asked_by(definition.spec, definition.caller)
        if found is not None and not caller.notify_socket:
            return replaced(found, cgroup="")  # whoever starts it now is no part of that service
        return found

    async def _attach(self, started: rq.Started, request: rq.Start) -> None:
        worker = self._worker
        try:
            connection = await worker.body.connect()
            if request.rows and request.columns and worker.container.definition.spec.terminal:
                worker.body.resize(request.rows, request.columns)
        except PymanError as error:
            await self.undo(error, made=True)
            raise
        started.attach_handle = worker.container.attachments.add(
            connection.fileno(), request.actor.pid if request.actor is not None else 0
        )
        started.attach = connection.detach()

    async def restart_due(self) -> None:
        """The policy's time has come. What the container depends on is started first, and waited for."""
        worker = self._worker
        if not self._is_due():
            return
        if worker.services.dependencies.unmet(worker.container) is not None:
            worker.await_needs()
            return
        await self.start_alone()

    async def needs_ready(self) -> None:
        """What a start by policy has waited for is there, or will not be."""
        worker = self._worker
        error, worker.unmet = worker.unmet, None
        if not self._is_due():
            return
        if error is not None:
            await worker.note(error=error.message)
            await worker.ending.start_failed(error)
            raise error
        await self.start_alone()

    def _is_due(self) -> bool:
        observed = self._worker.observed
        due = observed.restart_at != 0 and observed.state in (State.CREATED, State.EXITED)
        return due and not self._worker.services.ending

    async def start_alone(self, **changes: Any) -> None:
        """Start without a client: after a policy's delay, after boot, or in the course of a restart. Whose
        wish it is, the record says already."""
        try:
            await self.initialize(Wanted.RUNNING, **changes)
            await self.go()
        except PymanError as error:
            await self._worker.ending.start_failed(error)
            raise

    async def initialize(self, wanted: Wanted, passed: Passed = NOTHING_PASSED, **changes: Any) -> None:
        """Everything up to a container whose command is about to run. Undone as a whole if it fails."""
        worker = self._worker
        definition = worker.container.definition
        if definition.spec.preserve_fd and not passed.preserved:
            raise WrongState(
                f"cannot start container '{definition.name}' again: the descriptors that it was given (--preserve-fd,"
                " --preserve-fds) were there for one run",
                subject=definition.name,
            )
        worker.expect_move()
        await self._begin_wired(wanted, **changes)
        made = False
        try:
            await worker.body.preparing.prepare()
            async with worker.services.starts:
                request = worker.body.monitor_request(passed)
                monitor = await worker.body.spawn(request)
                await worker.note(monitor=monitor, monitor_state="ok")
                made = True
                init = await self._create(request, monitor)
            await self._connect(init)
        except PymanError as error:
            await self.undo(error, made=made)
            raise

    async def start_over(
        self, request: MonitorRequest, monitor: ProcessRef | None, cleaned: EventDraft
    ) -> None:
        """The policy's restart of a container that is clean. `monitor`: its conmon, if that waits already."""
        worker = self._worker
        if monitor is None:
            await worker.body.wiring.take_down()
            await worker.note(Fact.CLEANED, monitor=None, init=None, monitor_state="", events=[cleaned])
            worker.ending.arm_restart()
            return
        observed = worker.observed
        kept = {name: getattr(observed, name) for name in NOT_WIRED}
        begun = {"monitor": monitor, "monitor_state": "ok", "events": [cleaned], **kept}
        try:
            await self._begin(Wanted.RUNNING, Fact.CLEANED, **begun)
        except PymanError:
            await worker.body.end_monitor(monitor)
            raise
        try:
            try:
                async with worker.services.starts:
                    init = await self._create(request, monitor, place=False)
                await self._connect(init)
            except PymanError as error:
                await self.undo(error, made=True)
                raise
            await self.go(unplaced=monitor)
        except PymanError as error:
            await worker.ending.start_failed(error)
            raise

    async def _begin_wired(self, wanted: Wanted, **changes: Any) -> None:
        """`_begin`, with what the run has on networks."""
        worker = self._worker
        wiring = worker.body.wiring
        try:
            if worker.observed.holds and not wiring.stays():  # of a start that could not be undone
                await wiring.take_down()
                await worker.note(**NOT_WIRED)
            changes |= await wiring.plan()
            await self._begin(wanted, **changes)
        except PymanError as error:
            wiring.drop()
            await worker.note(error=error.message)
            raise

    async def _begin(self, wanted: Wanted, fact: Fact | None = None, **changes: Any) -> None:
        """A new run, in the record before it is there."""
        worker = self._worker
        worker.disarm(NoticeKind.RESTART_DUE)
        run: dict[str, Any] = {"monitor": None, "init": None, "monitor_state": "", "error": ""}
        await worker.note(
            fact,
            wanted=wanted,
            run=worker.observed.run + 1,
            asked=Asked.NOTHING,
            restart_at=0,
            stop_deadline=0,
            forced=False,
            new_limits=None,
            **{**run, **changes},
        )

    async def _create(
        self, request: MonitorRequest, monitor: ProcessRef, *, place: bool = True
    ) -> ProcessRef:
        """From a conmon that waits for its start byte to a first process that waits for its start."""
        then_start = self._worker.observed.wanted is Wanted.RUNNING
        return await self._worker.body.create(request, monitor, then_start=then_start, place=place)

    async def _connect(self, init: ProcessRef) -> None:
        """It is on its networks, and the container is there. Others need not wait for those who give addresses."""
        worker = self._worker
        found, observed = await worker.body.wiring.connect(init), worker.observed
        await worker.note(
            Fact.INITIALIZED,
            init=init,
            asked_by=observed.asked_by if observed.wanted is Wanted.RUNNING else None,
            events=[worker.event(EventStatus.INIT, observed.asked_by)],
            **found,
        )
        worker.watch()
        self.keep_log()

    def keep_log(self) -> None:
        """Rotate the log where that was asked for, and tell followers of every new file."""
        worker, definition = self._worker, self._worker.container.definition
        if definition.log_path:
            bundle = worker.services.layout.container_bundle(definition.id)
            worker.services.logs.add(
                definition.id, definition.log_path, definition.log_size, definition.log_files, bundle
            )

    async def undo(self, error: PymanError, *, made: bool) -> None:
        """Take back a start that failed; the first error is the one that counts."""
        worker = self._worker
        monitor = worker.observed.monitor
        left: dict[str, Any] = {}
        try:
            await worker.body.end_monitor(monitor)
            worker.unwatch()
            worker.services.logs.finished(worker.container.id)
            await worker.body.clean(made=made)
        except PymanError as later:
            log.warning("undoing a failed start", container=worker.container.id, error=str(later))
            observed = worker.observed
            left = {name: getattr(observed, name) for name in NOT_WIRED}
        finally:
            await worker.note(
                Fact.UNDONE,
                wanted=Wanted.STOPPED,
                error=error.message,
                monitor=None,
                init=None,
                monitor_state="",
                **left,
            )

    async def go(self, *, attached: bool = False, unplaced: ProcessRef | None = None) -> None:
        """Run the command of an initialized container. `unplaced`: its conmon, if that has no cgroup yet: nobody
        waits for it then."""
        worker = self._worker
        try:
            await worker.body.start()
        except PymanError as error:
            if not isinstance(error, RuntimeFailed) or not await self._runs():
                await self.undo(error, made=True)
                raise
        when = time.time_ns()
        if unplaced is not None:
            await worker.body.place(unplaced)
        await self.note_started(when, attached=attached)

    async def _runs(self) -> bool:
        """Whether it was started all the same: an OCI runtime that an earlier supervisor had called outlives
        it, and may be the faster one."""
        worker = self._worker
        try:
            found = await worker.body.runtime.state(worker.container.id)
        except PymanError:
            return False
        return found is not None and found.status in ("running", "paused")

    async def note_started(self, when: int, *, attached: bool = False) -> None:
        """The command runs, since the time `when`."""
        worker, observed = self._worker, self._worker.observed
        actor, trigger = observed.asked_by, observed.next_trigger or "user"
        events = [worker.event(EventStatus.START, actor, trigger=trigger)]
        if attached:
            events.append(worker.event(EventStatus.ATTACH, actor))
        if observed.again:
            events.append(worker.event(EventStatus.RESTART, actor, trigger=trigger))
        fresh = worker.checking.fresh()
        await worker.note(Fact.STARTED, started_at=when, asked_by=None, events=events, **fresh)
