"""How a container is stopped, killed, restarted and removed on request.

A request that has to wait for the container does not hold the worker: its answer is kept here, and the
end of the process (`after_end`), or a timer, takes it up.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pyman.errors import DeadlineExceeded, NoSuchContainer, PymanError, RuntimeFailed, WrongState
from pyman.names import STATES_WITH_PROCESS, EventStatus, State
from supervisor.logging import log
from supervisor.oci import namespaces
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.requests import NoticeKind
from supervisor.runtime.life.restart import Asked, History
from supervisor.runtime.life.states import Fact
from supervisor.runtime.records import Wanted
from supervisor.state.database import DeleteRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyman.api.event import Actor
    from supervisor.runtime.life.worker import Worker
    from supervisor.runtime.volumes.book import Batch
    from supervisor.state.changes import PutIntent

__all__ = ["KILL_GRACE", "Stopping"]


KILL_GRACE = 10.0
"""Seconds after SIGKILL until a container that is still there is called wedged."""
SIGKILL = 9


class Stopping:
    """The worker's part that ends things on request."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._waiting: list[rq.Stop | rq.Restart | rq.Remove] = []

    # ------------------------------------------------------------------ requests

    async def stop(self, request: rq.Stop) -> None:
        worker = self._worker
        if worker.observed.state in (State.CREATED, State.EXITED, State.STOPPED):
            if request.asked is Asked.SHUTDOWN:
                request.answer.give(False)
                return
            cancelled = await self._cancel_restart(request.actor)
            request.answer.give(cancelled)
            return
        worker.require(STATES_WITH_PROCESS, "stop")
        # A user's stop stays one, and no policy wants to have what was never started.
        own = worker.observed.asked is not Asked.STOP and worker.observed.state is not State.INITIALIZED
        asked = request.asked if own else Asked.STOP
        await self._begin(request, asked, Wanted.STOPPED, request.timeout, request.signal)

    async def restart(self, request: rq.Restart) -> None:
        worker = self._worker
        await worker.ending.settle()
        state = worker.observed.state
        wish: dict[str, Any] = {
            "next_trigger": "user",
            "again": True,
            "asked_by": request.actor,
            "history": History(),
        }
        if state is State.INITIALIZED:
            await worker.note(wanted=Wanted.RUNNING, asked=Asked.NOTHING, **wish)
            await worker.starting.go()
        elif state in STATES_WITH_PROCESS:
            await self._begin(request, Asked.RESTART, Wanted.RUNNING, request.timeout)
            return
        else:
            worker.require((State.CREATED, State.EXITED), "restart")
            await worker.starting.start_alone(restart_reason="", **wish)
        request.answer.give(True)

    def _check_dependents(self) -> None:
        worker = self._worker
        others = worker.services.dependents(worker.container.id)
        if others:
            name = worker.container.name
            raise WrongState(
                f"cannot remove container '{name}': container '{others[0]}' depends on it",
                subject=name,
                hint="remove that one first, or use --depend",
            )

    async def kill(self, request: rq.Kill) -> None:
        """SIGKILL and the container's own stop signal count as a user's stop: no policy brings it back."""
        worker = self._worker
        worker.require(STATES_WITH_PROCESS, "kill")
        stops = request.signal in (SIGKILL, worker.container.definition.stop_signal)
        changes: dict[str, Any] = {}
        if stops:
            wanted = worker.observed.wanted
            changes = {
                "asked": Asked.STOP,
                "asked_by": request.actor,
                "wanted": wanted if wanted is Wanted.REMOVED else Wanted.STOPPED,
                "forced": worker.observed.forced or request.signal == SIGKILL,
            }
        event = worker.event(EventStatus.KILL, request.actor, signal=str(request.signal))
        await worker.note(events=[event], **changes)
        await self.signal(request.signal)
        if request.signal == SIGKILL and worker.observed.state is State.PAUSED:
            await self._thaw()
        request.answer.give(True)

    async def for_health(self, action: str) -> None:
        """The container is unhealthy. `action`: kill, stop or restart; nobody waits for it. Only the last one has it
        brought back, whatever its policy says."""
        worker = self._worker
        if worker.observed.state is not State.RUNNING:
            return
        if action == "restart":
            await self._begin(rq.Stop(), Asked.HEALTH_RESTART, Wanted.RUNNING, None)
            return
        if action == "stop":
            await self._begin(rq.Stop(), Asked.HEALTH_STOP, Wanted.STOPPED, None)
            return
        wanted = Wanted.REMOVED if worker.observed.wanted is Wanted.REMOVED else Wanted.STOPPED
        event = worker.event(EventStatus.KILL, signal=str(SIGKILL))
        await worker.note(events=[event], asked=Asked.HEALTH_STOP, asked_by=None, wanted=wanted, forced=True)
        await self.signal(SIGKILL)

    async def remove(self, request: rq.Remove) -> None:
        worker = self._worker
        self._check_dependents()
        state = worker.observed.state
        if state is State.INITIALIZED:
            # Its command never ran: nothing is lost by ending it.
            await self._begin(request, Asked.STOP, Wanted.REMOVED, 0)
        elif state in STATES_WITH_PROCESS:
            if not request.force:
                name = worker.container.name
                raise WrongState(
                    f"cannot remove container '{name}': it is {state}",
                    subject=name,
                    hint="stop it first, or use --force",
                )
            await self._begin(request, Asked.STOP, Wanted.REMOVED, request.timeout)
        else:
            try:
                if worker.container.held:
                    await self._let_go(request)
                if state is State.STOPPED or worker.observed.attachments or worker.body.remains():
                    await worker.body.clean(made=True)
            except PymanError as error:
                if not request.force:
                    raise
                log.warning("removed uncleaned", container=worker.container.id, error=str(error))
            await self.remove_now(request.actor, volumes=request.volumes)
            request.answer.give(True)

    async def _let_go(self, request: rq.Remove) -> None:
        """What people have mounted goes with the container; what is being read does not, unless by force."""
        worker = self._worker
        if worker.container.holds and not request.force:
            name = worker.container.name
            raise WrongState(
                f"cannot remove container '{name}': its root filesystem is being read",
                subject=name,
                hint="wait for the export or commit, or use --force",
            )
        await worker.note(wanted=Wanted.REMOVED, asked_by=request.actor, mounts=0)

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
            asked_by=actor,
            restart_at=0,
            restart_reason="a user stopped it" if pending else observed.restart_reason,
            events=[worker.event(EventStatus.STOP, actor)] if pending else [],
        )
        return pending

    async def _begin(
        self,
        request: rq.Stop | rq.Restart | rq.Remove,
        asked: Asked,
        wanted: Wanted,
        timeout: float | None,
        signal: int | None = None,
    ) -> None:
        """Record the wish, set the clock, send the signal. Of two stops the one that ends sooner counts."""
        worker, definition, observed = self._worker, self._worker.container.definition, self._worker.observed
        seconds = definition.stop_timeout if timeout is None else timeout
        # Before the command runs nothing can handle a stop signal.
        at_once = seconds <= 0 or observed.state is State.INITIALIZED or observed.forced
        frozen = observed.state is State.PAUSED or (observed.state is State.STOPPING and observed.freezing)
        number = SIGKILL if at_once else (signal or definition.stop_signal)
        deadline = time.time_ns() + int(seconds * 1e9)
        if observed.state is State.STOPPING and observed.stop_deadline:
            deadline = min(deadline, observed.stop_deadline)
        actor = request.actor
        if observed.wanted is Wanted.REMOVED:
            wanted, asked, actor = Wanted.REMOVED, Asked.STOP, observed.asked_by
        await worker.note(
            Fact.STOP_SENT,
            asked=asked,
            asked_by=actor,
            wanted=wanted,
            stop_deadline=deadline,
            stop_signal=signal or definition.stop_signal,
            forced=number == SIGKILL,
            freezing=frozen,
            volumes=observed.volumes or (isinstance(request, rq.Remove) and request.volumes),
        )
        worker.disarm(NoticeKind.STOP_LATE)
        if number == SIGKILL:
            worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)
        else:
            worker.arm(NoticeKind.STOP_LATE, (deadline - time.time_ns()) / 1e9)
        await self.signal(number)
        if frozen:
            await self._thaw()
        self._waiting.append(request)

    async def signal(self, number: int) -> None:
        """A signal to the first process; SIGKILL reaches every process where they have no pid namespace to themselves,
        and a cgroup by which they are known."""
        worker = self._worker
        if number == SIGKILL and self._shares_pids():
            try:
                await worker.body.runtime.kill(worker.container.id, number, all=True)
            except RuntimeFailed:
                if worker.body.placement.path:
                    raise
        if worker.init_fd is not None:
            worker.init_fd.send_signal(number)

    def _shares_pids(self) -> bool:
        spec, settings = self._worker.container.definition.spec, self._worker.services.settings
        return namespaces.is_shared(namespaces.mode("pid", spec, settings.containers))

    async def _thaw(self) -> None:
        """What is frozen takes no signal. What ends of it at once cannot be thawed, and need not be."""
        worker = self._worker
        try:
            await worker.body.runtime.resume(worker.container.id)
        except PymanError as error:
            log.info("cannot thaw", container=worker.container.id, error=str(error))

    async def go_on(self) -> None:
        """An earlier supervisor had begun to stop it. Whether the signal was sent is not known: again."""
        worker, observed = self._worker, self._worker.observed
        if observed.forced:
            worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)
            await self.signal(SIGKILL)
        else:
            worker.arm(NoticeKind.STOP_LATE, (observed.stop_deadline - time.time_ns()) / 1e9)
            await self.signal(observed.stop_signal or worker.container.definition.stop_signal)
        if observed.freezing:
            await self._thaw()

    async def kill_again(self) -> None:
        """An earlier supervisor had recorded a SIGKILL; what has got one does not live."""
        await self.signal(SIGKILL)
        if self._worker.observed.state is State.PAUSED:
            await self._thaw()

    async def stop_late(self) -> None:
        """The stop signal did not help in time."""
        worker = self._worker
        if worker.observed.state is not State.STOPPING:
            return
        log.info("stop signal ignored, killing", container=worker.container.id)
        await worker.note(forced=True)
        worker.arm(NoticeKind.KILL_LATE, KILL_GRACE)
        await self.signal(SIGKILL)

    async def kill_late(self) -> None:
        """Not even SIGKILL helped: the container hangs in the kernel, and only it."""
        worker, name = self._worker, self._worker.container.name
        if worker.observed.state is not State.STOPPING:
            return
        error = DeadlineExceeded(
            f"cannot stop container '{name}': its process did not end within {KILL_GRACE:g} s of SIGKILL",
            subject=name,
            hint="it hangs in the kernel and is stopped as soon as the kernel lets it go",
        )
        if worker.observed.monitor_state != "wedged":
            event = worker.event(EventStatus.WEDGED, error=error.message)
            await worker.note(monitor_state="wedged", error=error.message, events=[event])
        self.fail_waiting(error)

    # ------------------------------------------------------------------ after the end

    def fail_waiting(self, error: PymanError) -> None:
        for request in self._waiting:
            request.answer.fail(error)
        self._waiting.clear()

    async def after_end(self, problem: PymanError | None = None) -> None:
        """The container has ended: carry out what was asked, answer those who waited. `problem`: it could not
        be cleaned up, which nothing but a forced removal passes over."""
        worker = self._worker
        restarts = worker.observed.asked is Asked.RESTART
        removed = worker.observed.leaving or worker.observed.wanted is Wanted.REMOVED
        forced = any(isinstance(request, rq.Remove) and request.force for request in self._waiting)
        try:
            if problem is not None and (restarts or removed) and not forced:
                raise problem
            if restarts:
                await worker.starting.start_alone(history=History(), restart_reason="")
            elif removed:
                await self.remove_now(worker.observed.asked_by)
            elif problem is not None:
                worker.take_up_later()
        except PymanError as error:
            self.fail_waiting(error)
            raise
        for request in self._waiting:
            if isinstance(request, rq.Restart) and not restarts:
                request.answer.fail(self._not_restarted())
            request.answer.give(True)
        self._waiting.clear()

    def _not_restarted(self) -> PymanError:
        """Of two wishes the later one counts."""
        name, removed = self._worker.container.name, self._worker.container.removed
        kind = NoSuchContainer if removed else WrongState
        how = "removed" if removed else "stopped"
        return kind(f"cannot restart container '{name}': it was {how} meanwhile", subject=name)

    async def remove_now(self, actor: Actor | None, *, volumes: bool = False) -> None:
        """Remove a container that has no process. Its name is free once this is committed. `volumes`: its anonymous
        volumes go with it, as those of one do that is removed by itself."""
        worker, container = self._worker, self._worker.container
        volumes = volumes or container.observed.volumes
        # Where the end of the run is the end of the container, the record of the one has said the other.
        if container.observed.state is not State.REMOVING and not container.observed.leaving:
            await worker.note(
                Fact.REMOVAL_BEGUN, wanted=Wanted.REMOVED, restart_at=0, asked_by=actor, volumes=volumes
            )
        worker.unwatch()
        worker.services.logs.remove(container.id)
        await worker.body.erase()
        events = [] if container.observed.leaving else [worker.event(EventStatus.REMOVE, actor)]
        volumes = volumes or container.takes_volumes
        image = self._image_wish(actor)
        async with worker.services.volumes.left(container, actor, wanted=volumes) as gone:
            await worker.services.database.commit(
                [DeleteRecord("container", container.id), *gone.changes, *image],
                [*events, *gone.events],
                durable=True,
                apply=partial(self._vanish, gone, image),
            )
        container.end_of_run.give(container.exit_code)

    def _image_wish(self, actor: Actor | None) -> list[PutIntent]:
        """That its image goes with a container that has run."""
        container = self._worker.container
        if not (container.definition.spec.remove_image and container.observed.started_at):
            return []
        from supervisor.runtime import image_removal

        return [image_removal.intent(container, actor)]

    def _vanish(self, gone: Batch, image: Sequence[PutIntent], _events: object) -> None:
        gone.apply()
        for wish in image:
            from supervisor.runtime import image_removal

            self._worker.container.image_removal = image_removal.begin(self._worker.services, wish)
        self._worker.container.gone()
        self._worker.on_removed(self._worker.container)

    async def finish_removal(self) -> None:
        """A removal that an earlier supervisor had begun."""
        await self._worker.body.clean(made=True)
        await self.remove_now(self._worker.observed.asked_by)
