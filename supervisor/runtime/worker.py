"""The one task that changes a container.

Requests, ended processes and timers reach it through its inbox, one at a time; whatever it does is
short or has a deadline. It follows one rule everywhere: commit what is intended, act, commit what was
seen. A supervisor that is killed in between finds enough to go on (`adopt`).

A request that has to wait for the container — a stop — does not hold the worker: it leaves its answer
in `_stopping` and the end of the process, or a timer, takes it up.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio

from pyman.errors import (
    DeadlineExceeded,
    EngineStopped,
    InternalError,
    NoSuchContainer,
    PymanError,
    WrongState,
)
from pyman.names import STATES_WITH_PROCESS, EventStatus, State
from supervisor.kernel import process
from supervisor.runtime import requests as rq
from supervisor.runtime.body import Body
from supervisor.runtime.ending import Ending
from supervisor.runtime.records import Wanted, encode
from supervisor.runtime.recovery import Recovery
from supervisor.runtime.requests import Notice, NoticeKind
from supervisor.runtime.restart import Asked, History
from supervisor.runtime.states import Fact, after
from supervisor.state.database import DeleteRecord, PutDefinition, PutState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyman.api.event import Actor
    from supervisor.kernel.process import Pidfd, ProcessRef
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.container import Container
    from supervisor.runtime.records import Definition, Observed
    from supervisor.runtime.services import Services
    from supervisor.state.database import Change, EventDraft

__all__ = ["Worker"]

log = structlog.get_logger(__name__)

INBOX = 64
"""Requests that may wait for a container; a further one waits at its sender."""
MONITOR_GRACE = 2.0
"""Seconds between the end of a container and the end of its conmon."""
KILL_GRACE = 10.0
"""Seconds after SIGKILL until a container that is still there is called wedged."""
SIGKILL = 9


class Worker:
    """Owns one container from its definition to its removal."""

    def __init__(
        self, services: Services, container: Container, on_removed: Callable[[Container], None]
    ) -> None:
        self.services = services
        self.container = container
        self.body = Body(services, container)
        self._on_removed = on_removed
        self._send, self._inbox = trio.open_memory_channel[Any](INBOX)
        self._timers: dict[NoticeKind, trio.CancelScope] = {}
        self._watches: list[trio.CancelScope] = []
        self.monitor_fd: Pidfd | None = None
        self.init_fd: Pidfd | None = None
        self._stopping: list[Answer[bool]] = []
        self._removing: list[rq.Remove] = []
        self._nursery: trio.Nursery
        self._closed = False

    # ------------------------------------------------------------------ the loop

    async def run(self, adopted: trio.Event) -> None:
        """Adopt what is there, then serve the inbox until the container is removed."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._guard(Recovery(self).adopt)
                adopted.set()
                while not self.container.removed:
                    message = await self._inbox.receive()
                    # A change once begun is finished: every wait inside it has a deadline of its own.
                    with trio.CancelScope(shield=True):
                        await self._handle(message)
                self._nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def ask(self, request: rq.Request[Any]) -> Any:
        """Put a request and wait for its answer. Cancelling the wait does not withdraw the request."""
        if self._closed:
            raise self._gone()
        try:
            await self._send.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._gone() from None
        return await request.answer.get()

    def _gone(self) -> PymanError:
        name = self.container.name
        if self.container.removed:
            return NoSuchContainer(f'cannot find container "{name}": it was removed', subject=name)
        return EngineStopped("cannot do that: the runtime is stopped", subject=name)

    def _close(self) -> None:
        self._closed = True
        self.unwatch()
        self._inbox.close()
        waiting = [*self._stopping, *(request.answer for request in self._removing)]
        for answer in waiting:
            answer.fail(self._gone())

    async def _handle(self, message: rq.Request[Any] | Notice) -> None:
        if isinstance(message, Notice):
            if message.run == self.container.observed.run:
                await self._guard(partial(self._notice, message.kind))
            return
        try:
            await self._request(message)
        except PymanError as error:
            message.answer.fail(error)
        except Exception:
            # The boundary of one container: a bug met here must not take the others along.
            log.exception("request failed", container=self.container.id, request=type(message).__name__)
            message.answer.fail(InternalError("cannot do that: internal error", subject=self.container.name))

    async def _guard(self, work: Callable[[], Any]) -> None:
        """Work that nobody waits for: its failure is logged and the container goes on."""
        try:
            await work()
        except PymanError as error:
            log.warning("container", container=self.container.id, error=str(error), code=error.code)
        except Exception:
            log.exception("container", container=self.container.id)

    async def _request(self, request: rq.Request[Any]) -> None:
        match request:
            case rq.Init():
                await self._init(request)
            case rq.Start():
                await self._start(request)
            case rq.Stop():
                await self._stop(request)
            case rq.Restart():
                await self._restart(request)
            case rq.Kill():
                await self._kill(request)
            case rq.Pause():
                await self._pause(request)
            case rq.Unpause():
                await self._unpause(request)
            case rq.Remove():
                await self._remove(request)
            case rq.Rename():
                await self._rename(request)
            case rq.Update():
                await self._update(request)
            case _:
                raise InternalError(f"cannot handle {type(request).__name__}")

    async def _notice(self, kind: NoticeKind) -> None:
        self._timers.pop(kind, None)
        ending = Ending(self)
        match kind:
            case NoticeKind.MONITOR_GONE:
                await ending.monitor_gone()
            case NoticeKind.INIT_GONE:
                await ending.init_gone()
            case NoticeKind.MONITOR_LATE:
                await ending.monitor_late()
            case NoticeKind.STOP_LATE:
                await self._stop_late()
            case NoticeKind.KILL_LATE:
                await self._kill_late()
            case NoticeKind.RESTART_DUE:
                await self._restart_due()

    # ------------------------------------------------------------------ the record

    @property
    def observed(self) -> Observed:
        return self.container.observed

    async def note(
        self,
        fact: Fact | None = None,
        *,
        events: Sequence[EventDraft] = (),
        durable: bool = False,
        **changes: Any,
    ) -> None:
        """Commit what was observed or is intended; only then is it so in memory, and told to waiters."""
        observed = self.container.observed
        if fact is not None:
            changes["state"] = after(observed.state, fact, subject=self.container.name)
        new = _replace(observed, changes)
        change: list[Change] = [PutState("container", self.container.id, encode(new))]
        await self.services.database.commit(
            change, events, durable=durable, apply=lambda _events: self.container.observe(new)
        )

    def event(self, status: EventStatus, actor: Actor | None = None, **attributes: str) -> EventDraft:
        return self.container.event(status, actor, **attributes)

    # ------------------------------------------------------------------ watchers and timers

    def watch(self) -> None:
        """Wait for the end of conmon and of the container's first process."""
        self.unwatch()
        observed = self.observed
        self.monitor_fd = _open(observed.monitor)
        self.init_fd = _open(observed.init)
        for pidfd, kind in ((self.monitor_fd, NoticeKind.MONITOR_GONE), (self.init_fd, NoticeKind.INIT_GONE)):
            scope = trio.CancelScope()
            self._watches.append(scope)
            self._nursery.start_soon(self._wait_for, scope, pidfd, Notice(kind, observed.run))

    def unwatch(self) -> None:
        for scope in (*self._watches, *self._timers.values()):
            scope.cancel()
        self._watches.clear()
        self._timers.clear()
        for pidfd in (self.monitor_fd, self.init_fd):
            if pidfd is not None:
                pidfd.close()
        self.monitor_fd = self.init_fd = None

    async def _wait_for(self, scope: trio.CancelScope, pidfd: Pidfd | None, notice: Notice) -> None:
        with scope:
            try:
                if pidfd is not None:
                    await pidfd.wait()
            except trio.ClosedResourceError:
                return
            await self._send.send(notice)

    def arm(self, kind: NoticeKind, seconds: float) -> None:
        """Tell the worker after a time; a second call replaces the first."""
        self.disarm(kind)
        scope = self._timers[kind] = trio.CancelScope()
        self._nursery.start_soon(self._tell_later, scope, Notice(kind, self.observed.run), seconds)

    def disarm(self, kind: NoticeKind) -> None:
        scope = self._timers.pop(kind, None)
        if scope is not None:
            scope.cancel()

    async def _tell_later(self, scope: trio.CancelScope, notice: Notice, seconds: float) -> None:
        with scope:
            await trio.sleep(max(0.0, seconds))
            await self._send.send(notice)

    # ------------------------------------------------------------------ start

    async def initialize(self, wanted: Wanted, stdio: tuple[int, int, int] | None = None) -> None:
        """Everything up to a container whose command is about to run. Undone as a whole if it fails."""
        self.disarm(NoticeKind.RESTART_DUE)
        await self.note(
            wanted=wanted,
            run=self.observed.run + 1,
            asked=Asked.NOTHING,
            restart_at=0,
            stop_deadline=0,
            forced=False,
            error="",
            monitor=None,
            init=None,
            monitor_state="",
        )
        made = False
        try:
            async with self.services.starts:
                await self.body.prepare()
                request = self.body.monitor_request(stdio)
                monitor = await self.body.spawn(request)
                await self.note(monitor=monitor, monitor_state="ok")
                made = True
                init = await self.body.create(request, monitor)
            await self.note(Fact.INITIALIZED, init=init, events=[self.event(EventStatus.INIT)])
        except PymanError as error:
            await self.undo(error, made=made)
            raise
        self.watch()
        self.keep_log()

    def keep_log(self) -> None:
        """Rotate the log where that was asked for, and tell followers of every new file."""
        definition = self.container.definition
        bundle = self.services.layout.container_bundle(self.container.id)
        self.services.logs.add(
            self.container.id, definition.log_path, definition.log_size, definition.log_files, bundle
        )

    async def undo(self, error: PymanError, *, made: bool) -> None:
        """Take back a start that failed; the first error is the one that counts."""
        monitor = self.observed.monitor
        try:
            await self.body.end_monitor(monitor)
            self.unwatch()
            await self.body.clean(made=made)
        except PymanError as later:
            log.warning("undoing a failed start", container=self.container.id, error=str(later))
        finally:
            await self.note(
                Fact.UNDONE,
                wanted=Wanted.STOPPED,
                error=error.message,
                monitor=None,
                init=None,
                monitor_state="",
            )

    async def go(self, trigger: str, actor: Actor | None = None, *, restarted: bool = False) -> None:
        """Run the command of an initialized container."""
        try:
            await self.body.start()
        except PymanError as error:
            await self.undo(error, made=True)
            raise
        events = [self.started_event(trigger, actor)]
        if restarted:
            events.append(self.event(EventStatus.RESTART, actor, trigger=trigger))
        await self.note(Fact.STARTED, started_at=time.time_ns(), events=events)

    def started_event(self, trigger: str, actor: Actor | None = None) -> EventDraft:
        """`trigger`: user, policy or boot."""
        return self.event(EventStatus.START, actor, trigger=trigger)

    async def _init(self, request: rq.Init) -> None:
        if self.observed.state is State.INITIALIZED:
            request.answer.give(False)
            return
        self._require({State.CREATED, State.EXITED}, "initialize")
        await self.initialize(Wanted.INITIALIZED)
        request.answer.give(True)

    async def _start(self, request: rq.Start) -> None:
        state = self.observed.state
        if state is State.RUNNING or state is State.PAUSED:
            request.answer.give(rq.Started(False, self.observed.run))
            return
        await Ending(self).settle()
        self._require({State.CREATED, State.EXITED, State.INITIALIZED}, "start")
        if state is State.INITIALIZED:
            await self.note(wanted=Wanted.RUNNING, asked=Asked.NOTHING)
        else:
            self._forget_end()
            await self.initialize(Wanted.RUNNING, request.stdio)
        started = rq.Started(True, self.observed.run)
        if request.attach:
            await self._attach(started, request)
        try:
            # A user's start begins the policy's history anew.
            await self.note(history=History(), restart_reason="", restart_delay=0.0)
            await self.go("user", request.actor)
        except PymanError:
            if started.attach is not None:
                self.container.attachments.drop(started.attach_handle)
            raise
        request.answer.give(started)

    async def _attach(self, started: rq.Started, request: rq.Start) -> None:
        connection = await self.body.connect()
        if request.rows and request.columns:
            self.body.resize(request.rows, request.columns)
        started.attach_handle = self.container.attachments.add(connection.fileno())
        started.attach = connection.detach()

    def _forget_end(self) -> None:
        """A new run has an end of its own."""
        if self.container.end_of_run.given:
            self.container.end_of_run = type(self.container.end_of_run)()

    async def _restart_due(self) -> None:
        """The policy's time has come."""
        if self.observed.restart_at == 0 or self.observed.state not in (State.CREATED, State.EXITED):
            return
        await self.start_again(self.observed.next_trigger or "policy")

    async def start_again(self, trigger: str, actor: Actor | None = None) -> None:
        """Start without a user who waits: after a policy's delay, after boot, or in the course of a restart."""
        self._forget_end()
        try:
            await self.initialize(Wanted.RUNNING)
            await self.go(trigger, actor, restarted=True)
        except PymanError as error:
            await Ending(self).start_failed(error)
            raise

    # ------------------------------------------------------------------ stop

    async def _stop(self, request: rq.Stop) -> None:
        state = self.observed.state
        if state in (State.CREATED, State.EXITED, State.STOPPED):
            await self._cancel_restart(request.actor)
            request.answer.give(False)
            return
        if state is State.REMOVING:
            raise self._wrong("stop")
        await self.begin_stop(Asked.STOP, Wanted.STOPPED, request.timeout, request.signal, request.actor)
        self._stopping.append(request.answer)

    async def _cancel_restart(self, actor: Actor | None) -> None:
        """A user's stop of a container that is down: its policy shall not bring it back."""
        observed = self.observed
        if observed.restart_at == 0 and observed.asked is Asked.STOP:
            return
        self.disarm(NoticeKind.RESTART_DUE)
        events = [self.event(EventStatus.STOP, actor)] if observed.restart_at else []
        reason = "a user stopped it" if observed.restart_at else observed.restart_reason
        await self.note(
            wanted=Wanted.STOPPED,
            asked=Asked.STOP,
            restart_at=0,
            restart_reason=reason,
            events=events,
        )

    async def begin_stop(
        self,
        asked: Asked,
        wanted: Wanted,
        timeout: float | None,
        signal: int | None,
        actor: Actor | None,
    ) -> None:
        """Record the wish, send the signal, set the clock. A shorter time-out than the present one counts."""
        definition = self.container.definition
        seconds = definition.stop_timeout if timeout is None else timeout
        frozen = self.observed.state is State.PAUSED
        # Before the command runs nothing can handle a stop signal.
        at_once = seconds <= 0 or self.observed.state is State.INITIALIZED
        number = SIGKILL if at_once else (signal or definition.stop_signal)
        deadline = time.time_ns() + int(seconds * 1e9)
        if self.observed.state is State.STOPPING and self.observed.stop_deadline:
            deadline = min(deadline, self.observed.stop_deadline)
        await self.note(
            Fact.STOP_SENT,
            asked=asked,
            wanted=wanted,
            stop_deadline=deadline,
            forced=number == SIGKILL,
        )
        await self.signal(number)
        if frozen:
            await self.body.runtime.resume(self.container.id)
        if number == SIGKILL:
            self.disarm(NoticeKind.STOP_LATE)
            self.arm(NoticeKind.KILL_LATE, KILL_GRACE)
        else:
            self.arm(NoticeKind.STOP_LATE, (deadline - time.time_ns()) / 1e9)

    async def signal(self, number: int) -> None:
        """A signal to the first process; SIGKILL reaches every process where they share no pid namespace."""
        host_pids = self.container.definition.spec.pidns.nsmode == "host"
        if number == SIGKILL and host_pids:
            await self.body.runtime.kill(self.container.id, number, all=True)
        elif self.init_fd is not None:
            self.init_fd.send_signal(number)

    async def _stop_late(self) -> None:
        if self.observed.state is not State.STOPPING:
            return
        log.info("stop signal ignored, killing", container=self.container.id)
        await self.note(forced=True)
        await self.signal(SIGKILL)
        self.arm(NoticeKind.KILL_LATE, KILL_GRACE)

    async def _kill_late(self) -> None:
        """Not even SIGKILL helped: the container hangs in the kernel, and only it."""
        name = self.container.name
        error = DeadlineExceeded(
            f'cannot stop container "{name}": its process did not end within {KILL_GRACE:g} s of SIGKILL',
            subject=name,
            hint="it hangs in the kernel; it is stopped as soon as the kernel lets it go",
        )
        await self.wedged(error)
        self._fail_waiting(error)

    async def wedged(self, error: PymanError) -> None:
        if self.observed.monitor_state != "wedged":
            await self.note(
                monitor_state="wedged",
                error=error.message,
                events=[self.event(EventStatus.WEDGED, error=error.message)],
            )

    def _fail_waiting(self, error: PymanError) -> None:
        for answer in (*self._stopping, *(request.answer for request in self._removing)):
            answer.fail(error)
        self._stopping.clear()
        self._removing.clear()

    async def _restart(self, request: rq.Restart) -> None:
        state = self.observed.state
        if state is State.REMOVING:
            raise self._wrong("restart")
        if state in STATES_WITH_PROCESS and state is not State.INITIALIZED:
            await self.begin_stop(Asked.RESTART, Wanted.RUNNING, request.timeout, None, request.actor)
            self._stopping.append(request.answer)
            return
        if state is State.INITIALIZED:
            await self.note(wanted=Wanted.RUNNING, asked=Asked.NOTHING)
            await self.go("user", request.actor)
        else:
            await self.note(history=History(), restart_reason="")
            await self.start_again("user", request.actor)
        request.answer.give(True)

    async def after_end(self) -> None:
        """The container has ended and is cleaned up: carry out what was asked, answer those who waited."""
        stopped, self._stopping = self._stopping, []
        removals, self._removing = self._removing, []
        answers = [*stopped, *(request.answer for request in removals)]
        try:
            if self.observed.asked is Asked.RESTART:
                await self.note(history=History(), restart_reason="")
                await self.start_again("user")
            elif self.goes_away:
                await self._remove_now(removals[0].actor if removals else None)
        except PymanError as error:
            for answer in answers:
                answer.fail(error)
            self.container.end_of_run.give(self.container.exit_code)
            raise
        for answer in answers:
            answer.give(True)

    @property
    def goes_away(self) -> bool:
        """Whether the end of the run is also the end of the container."""
        observed = self.observed
        removal = observed.wanted is Wanted.REMOVED or self.container.definition.spec.remove
        return removal and observed.restart_at == 0 and observed.asked is not Asked.RESTART

    # ------------------------------------------------------------------ signals, freezer

    async def _kill(self, request: rq.Kill) -> None:
        self._require(STATES_WITH_PROCESS, "kill")
        definition = self.container.definition
        stops = request.signal in (SIGKILL, definition.stop_signal)
        changes: dict[str, Any] = {"asked": Asked.STOP, "wanted": Wanted.STOPPED} if stops else {}
        event = self.event(EventStatus.KILL, request.actor, signal=str(request.signal))
        await self.note(events=[event], **changes)
        await self.signal(request.signal)
        if request.signal == SIGKILL and self.observed.state is State.PAUSED:
            await self.body.runtime.resume(self.container.id)
        request.answer.give(True)

    async def _pause(self, request: rq.Pause) -> None:
        self._require({State.RUNNING}, "pause")
        await self.note(freezing=True)
        await self.body.runtime.pause(self.container.id)
        await self.note_frozen(True, request.actor)
        request.answer.give(True)

    async def _unpause(self, request: rq.Unpause) -> None:
        self._require({State.PAUSED}, "unpause")
        await self.note(freezing=True)
        await self.body.runtime.resume(self.container.id)
        await self.note_frozen(False, request.actor)
        request.answer.give(True)

    async def note_frozen(self, frozen: bool, actor: Actor | None = None) -> None:
        """Record whether the container's processes are frozen, if that is news."""
        if frozen == (self.observed.state is State.PAUSED):
            await self.note(freezing=False)
        elif frozen:
            await self.note(Fact.PAUSED, freezing=False, events=[self.event(EventStatus.PAUSE, actor)])
        else:
            await self.note(Fact.UNPAUSED, freezing=False, events=[self.event(EventStatus.UNPAUSE, actor)])

    # ------------------------------------------------------------------ the end of it

    async def _remove(self, request: rq.Remove) -> None:
        state = self.observed.state
        if state in STATES_WITH_PROCESS and state is not State.INITIALIZED:
            if not request.force:
                name = self.container.name
                raise WrongState(
                    f'cannot remove container "{name}": it is {state}',
                    subject=name,
                    hint="stop it first, or use --force",
                )
            await self.begin_stop(Asked.STOP, Wanted.REMOVED, request.timeout, None, request.actor)
            self._removing.append(request)
            return
        if state is State.INITIALIZED:
            await self.note(wanted=Wanted.REMOVED, asked=Asked.STOP)
            await self.signal(SIGKILL)
            self._removing.append(request)
            return
        if state is State.STOPPED:
            await self.body.clean(made=True)
        await self._remove_now(request.actor)
        request.answer.give(True)

    async def _remove_now(self, actor: Actor | None) -> None:
        """Remove a container that has no process. Its name is free once this is committed."""
        container = self.container
        if container.observed.state is not State.REMOVING:
            await self.note(Fact.REMOVAL_BEGUN, wanted=Wanted.REMOVED, restart_at=0)
        self.unwatch()
        self.services.logs.remove(container.id)
        await self.body.erase()
        event = self.event(EventStatus.REMOVE, actor)
        changes: list[Change] = [DeleteRecord("exec", id) for id in container.execs]
        changes.append(DeleteRecord("container", container.id))
        await self.services.database.commit(changes, [event], durable=True, apply=self._vanish)
        container.end_of_run.give(container.exit_code)

    def _vanish(self, _events: object) -> None:
        self.container.gone()
        self._on_removed(self.container)

    async def finish_removal(self) -> None:
        """A removal that an earlier supervisor had begun."""
        await self.body.clean(made=True)
        await self._remove_now(None)

    # ------------------------------------------------------------------ settings of the container

    async def _rename(self, request: rq.Rename) -> None:
        if self.observed.state is State.REMOVING:
            raise self._wrong("rename")
        old = self.container.definition
        new = _replace(old, {"name": request.name, "spec": _replace(old.spec, {"name": request.name})})
        change = PutDefinition("container", old.id, request.name, encode(new))
        event = self.container.event(
            EventStatus.RENAME, request.actor, oldName=old.name, newName=request.name
        )
        await self.services.database.commit(
            [change], [event], durable=True, apply=partial(self._redefine, new)
        )
        request.answer.give(None)

    def _redefine(self, definition: Definition, _events: object) -> None:
        self.container.definition = definition

    async def _update(self, request: rq.Update) -> None:
        old = self.container.definition
        changes: dict[str, Any] = {}
        if request.restart_policy is not None:
            changes["restart_policy"] = request.restart_policy
            changes["restart_tries"] = request.restart_tries
        new = _replace(old, {"spec": _replace(old.spec, changes)})
        change = PutDefinition("container", old.id, old.name, encode(new))
        await self.services.database.commit([change], (), durable=True, apply=partial(self._redefine, new))
        request.answer.give(None)

    # ------------------------------------------------------------------ refusals

    def _require(self, states: set[State] | frozenset[State], verb: str) -> None:
        if self.observed.state not in states:
            raise self._wrong(verb)

    def _wrong(self, verb: str) -> WrongState:
        name = self.container.name
        return WrongState(f'cannot {verb} container "{name}": it is {self.observed.state}', subject=name)


def _open(ref: ProcessRef | None) -> Pidfd | None:
    return process.open_pidfd(ref) if ref is not None else None


def _replace(struct: Any, changes: dict[str, Any]) -> Any:
    import msgspec

    return msgspec.structs.replace(struct, **changes) if changes else struct
