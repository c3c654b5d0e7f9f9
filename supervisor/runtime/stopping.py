"""How a container is stopped, killed, restarted and removed on request.

A request that has to wait for the container does not hold the worker: its answer is kept here, and the
end of the process (`after_end`), or a timer, takes it up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from pyman.errors import DeadlineExceeded, PymanError, WrongState
from pyman.names import STATES_WITH_PROCESS, EventStatus, State
from supervisor.runtime.records import Wanted
from supervisor.runtime.requests import NoticeKind
from supervisor.runtime.restart import Asked, History
from supervisor.runtime.states import Fact
from supervisor.state.database import DeleteRecord

if TYPE_CHECKING:
    from pyman.api.event import Actor
    from supervisor.runtime import requests as rq
    from supervisor.runtime.answers import Answer
    from supervisor.runtime.worker import Worker

__all__ = ["KILL_GRACE", "Stopping"]

log = structlog.get_logger(__name__)

KILL_GRACE = 10.0
"""Seconds after SIGKILL until a container that is still there is called wedged."""
SIGKILL = 9


class Stopping:
    """The worker's part that ends things on request."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._stops: list[Answer[bool]] = []
        self._removals: list[rq.Remove] = []

    # ------------------------------------------------------------------ requests

    async def stop(self, request: rq.Stop) -> None:
        worker = self._worker
        if worker.observed.state in (State.CREATED, State.EXITED, State.STOPPED):
            cancelled = await self._cancel_restart(request.actor)
            request.answer.give(cancelled)
            return
        worker.require(STATES_WITH_PROCESS, "stop")
        await self._begin(Asked.STOP, Wanted.STOPPED, request.timeout, request.signal)
        self._stops.append(request.answer)

    async def restart(self, request: rq.Restart) -> None:
        worker = self._worker
        await worker.ending.settle()
        state = worker.observed.state
        if state is State.INITIALIZED:
            await worker.note(wanted=Wanted.RUNNING, asked=Asked.NOTHING)
            await worker.starting.go("user", request.actor)
        elif state in STATES_WITH_PROCESS:
            await self._begin(Asked.RESTART, Wanted.RUNNING, request.timeout, None)
            self._stops.append(request.answer)
            return
        else:
            worker.require((State.CREATED, State.EXITED), "restart")
            await worker.starting.start_again("user", request.actor, history=History(), restart_reason="")
        request.answer.give(True)

    async def kill(self, request: rq.Kill) -> None:
        """SIGKILL and the container's own stop signal count as a user's stop: no policy brings it back."""
        worker = self._worker
        worker.require(STATES_WITH_PROCESS, "kill")
        stops = request.signal in (SIGKILL, worker.container.definition.stop_signal)
        changes: dict[str, Any] = {"asked": Asked.STOP, "wanted": Wanted.STOPPED} if stops else {}
        event = worker.event(EventStatus.KILL, request.actor, signal=str(request.signal))
        await worker.note(events=[event], **changes)
        await self.signal(request.signal)
        if request.signal == SIGKILL and worker.observed.state is State.PAUSED:
            await worker.body.runtime.resume(worker.container.id)
        request.answer.give(True)

    async def remove(self, request: rq.Remove) -> None:
        worker = self._worker
        state = worker.observed.state
        if state is State.INITIALIZED:
            # Its command never ran: nothing is lost by ending it.
            await self._begin(Asked.STOP, Wanted.REMOVED, 0, None)
            self._removals.append(request)
        elif state in STATES_WITH_PROCESS:
            if not request.force:
                name = worker.container.name
                raise WrongState(
                    f'cannot remove container "{name}": it is {state}',
                    subject=name,
                    hint="stop it first, or use --force",
                )
            await self._begin(Asked.STOP, Wanted.REMOVED, request.timeout, None)
            self._removals.append(request)
        else:
            if state is State.STOPPED:
                await worker.body.clean(made=True)
            await self.remove_now(request.actor)
            request.answer.give(True)

    # ------------------------------------------------------------------ stopping

    async def _cancel_restart(self, actor: Actor | None) -> bool:
        """A user's stop of a container that is down: its policy shall not bring it back."""
        worker, observed = self._worker, self._worker.observed
        pending = observed.restart_at != 0
        if not pending and (observed.asked is Asked.STOP or observed.state is State.CREATED):
            return False
        worker.disarm(NoticeKind.RESTART_DUE)
        await worker.note(
            wanted=Wanted.STOPPED,
            asked=Asked.STOP,
            restart_at=0,
            restart_reason="a user stopped it" if pending else observed.restart_reason,
            events=[worker.event(EventStatus.STOP, actor)] if pending else [],
        )
        return pending

    async def _begin(self, asked: Asked, wanted: Wanted, timeout: float | None, signal: int | None) -> None:
        """Record the wish, send the signal, set the clock. Of two stops the one that ends sooner counts."""
        worker, definition, observed = self._worker, self._worker.container.definition, self._worker.observed
        seconds = definition.stop_timeout if timeout is None else timeout
        # Before the command runs nothing can handle a stop signal.
        at_once = seconds <= 0 or observed.state is State.INITIALIZED or observed.forced
        frozen = observed.state is State.PAUSED
        number = SIGKILL if at_once else (signal or definition.stop_signal)
        deadline = time.time_ns() + int(seconds * 1e9)
        if observed.state is State.STOPPING and observed.stop_deadline:
            deadline = min(deadline, observed.stop_deadline)
        if observed.wanted is Wanted.REMOVED:
            wanted, asked = Wanted.REMOVED, Asked.STOP
        await worker.note(
            Fact.STOP_SENT, asked=asked, wanted=wanted, stop_deadline=deadline, forced=number == SIGKILL
        )
        await self.signal(number)
        if frozen:
            await worker.body.runtime.resume(worker.container.id)
        worker.disarm(NoticeKind.STOP_LATE)
        if number == SIGKILL:
            worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)
        else:
            worker.arm(NoticeKind.STOP_LATE, (deadline - time.time_ns()) / 1e9)

    async def signal(self, number: int) -> None:
        """A signal to the first process; SIGKILL reaches every process where they share no pid namespace."""
        worker = self._worker
        if number == SIGKILL and worker.container.definition.spec.pidns.nsmode == "host":
            await worker.body.runtime.kill(worker.container.id, number, all=True)
        elif worker.init_fd is not None:
            worker.init_fd.send_signal(number)

    async def go_on(self) -> None:
        """An earlier supervisor had begun to stop it. Whether the signal was sent is not known: again."""
        worker, observed = self._worker, self._worker.observed
        if observed.forced:
            await self.signal(SIGKILL)
            worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)
            return
        await self.signal(worker.container.definition.stop_signal)
        worker.arm(NoticeKind.STOP_LATE, (observed.stop_deadline - time.time_ns()) / 1e9)

    async def stop_late(self) -> None:
        """The stop signal did not help in time."""
        worker = self._worker
        if worker.observed.state is not State.STOPPING:
            return
        log.info("stop signal ignored, killing", container=worker.container.id)
        await worker.note(forced=True)
        await self.signal(SIGKILL)
        worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)

    async def kill_late(self) -> None:
        """Not even SIGKILL helped: the container hangs in the kernel, and only it."""
        worker, name = self._worker, self._worker.container.name
        error = DeadlineExceeded(
            f'cannot stop container "{name}": its process did not end within {KILL_GRACE:g} s of SIGKILL',
            subject=name,
            hint="it hangs in the kernel and is stopped as soon as the kernel lets it go",
        )
        if worker.observed.monitor_state != "wedged":
            event = worker.event(EventStatus.WEDGED, error=error.message)
            await worker.note(monitor_state="wedged", error=error.message, events=[event])
        self.fail_waiting(error)

    # ------------------------------------------------------------------ after the end

    def _take_waiting(self) -> list[Answer[bool]]:
        waiting = [*self._stops, *(request.answer for request in self._removals)]
        self._stops.clear()
        self._removals.clear()
        return waiting

    def fail_waiting(self, error: PymanError) -> None:
        for answer in self._take_waiting():
            answer.fail(error)

    @property
    def goes_away(self) -> bool:
        """Whether the end of the run is also the end of the container."""
        observed = self._worker.observed
        removal = observed.wanted is Wanted.REMOVED or self._worker.container.definition.spec.remove
        return removal and observed.restart_at == 0 and observed.asked is not Asked.RESTART

    async def after_end(self) -> None:
        """The container has ended and is cleaned up: carry out what was asked, answer those who waited."""
        worker, container = self._worker, self._worker.container
        actor = self._removals[0].actor if self._removals else None
        waiting = self._take_waiting()
        try:
            if worker.observed.asked is Asked.RESTART:
                await worker.starting.start_again("user", history=History(), restart_reason="")
            elif self.goes_away:
                await self.remove_now(actor)
        except PymanError as error:
            for answer in waiting:
                answer.fail(error)
            container.end_of_run.give(container.exit_code)
            raise
        for answer in waiting:
            answer.give(True)

    async def remove_now(self, actor: Actor | None) -> None:
        """Remove a container that has no process. Its name is free once this is committed."""
        worker, container = self._worker, self._worker.container
        # Where the end of the run is the end of the container, the record of the one has said the other.
        noted = container.observed.state is State.STOPPED and self.goes_away
        if container.observed.state is not State.REMOVING and not noted:
            await worker.note(Fact.REMOVAL_BEGUN, wanted=Wanted.REMOVED, restart_at=0)
        worker.unwatch()
        worker.services.logs.remove(container.id)
        await worker.body.erase()
        event = worker.event(EventStatus.REMOVE, actor)
        await worker.services.database.commit(
            [DeleteRecord("container", container.id)], [event], durable=True, apply=self._vanish
        )
        container.end_of_run.give(container.exit_code)

    def _vanish(self, _events: object) -> None:
        self._worker.container.gone()
        self._worker.on_removed(self._worker.container)

    async def finish_removal(self) -> None:
        """A removal that an earlier supervisor had begun."""
        await self._worker.body.clean(made=True)
        await self.remove_now(None)
