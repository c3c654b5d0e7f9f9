"""How a container ends: who noticed, with which exit code, and what follows.

Two descriptors are watched, conmon's and the container's first process's; either may fire first, late,
or (a conmon that was killed or stopped) never. The order of what happens is fixed: `died` and the
policy's decision in one transaction, then the clean-up, then whatever a user had asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyman.errors import PymanError
from pyman.names import STATES_WITH_PROCESS, EventStatus, RestartPolicy, State
from supervisor.kernel import process
from supervisor.logging import log
from supervisor.runtime.life.policy import policy_of
from supervisor.runtime.life.requests import NoticeKind
from supervisor.runtime.life.restart import Asked, Decision, End, decide
from supervisor.runtime.life.states import Fact
from supervisor.runtime.records import Wanted
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.life.worker import Worker
    from supervisor.state.database import EventDraft

__all__ = ["MONITOR_GRACE", "MONITOR_LAST_GRACE", "MONITOR_PATIENCE", "Ending"]


MONITOR_GRACE = 2.0
"""Seconds between the end of a container and the end of its conmon; then somebody looks what holds it up."""
MONITOR_PATIENCE = 20.0
"""Seconds that conmon gets where nobody holds it up: the disk of the log may be slow, or the machine."""
MONITOR_LAST_GRACE = 0.5
"""Seconds that conmon gets once nobody it writes to can hold it up any more."""


AT_ONCE = 20_000_000
"""Nanoseconds within which a restart follows its clean-up, which takes about as long."""


class Ending:
    """The worker's part that deals with ends."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._learnt: tuple[int, tuple[int | None, bool, int]] | None = None
        """Which run, and how it ended: what a descriptor has told is asked for but once, also where it could
        not be recorded at once."""
        self._late = 0.0
        """Seconds that conmon has had since the container ended."""

    async def monitor_gone(self) -> None:
        worker = self._worker
        if worker.observed.state not in STATES_WITH_PROCESS:
            return
        if worker.init_fd is None or worker.init_fd.exited():
            await self.ended()
            return
        await worker.body.wiring.hold(alone=True)
        if worker.observed.monitor_state != "lost":
            worker.container.attachments.shut_all()
            log.warning("conmon has ended before its container", container=worker.container.id)
            event = worker.event(EventStatus.MONITOR_LOST, reason="conmon has ended")
            await worker.note(monitor_state="lost", events=[event])

    async def init_gone(self) -> None:
        worker = self._worker
        if worker.observed.state not in STATES_WITH_PROCESS:
            return
        if worker.monitor_fd is None or worker.monitor_fd.exited():
            await self.ended()
        else:
            self._late = 0.0
            worker.arm(NoticeKind.MONITOR_LATE, MONITOR_GRACE)

    async def monitor_late(self) -> None:
        """conmon may wait for a client that does not read; if it is not that, it is of no use any more."""
        worker = self._worker
        monitor = worker.observed.monitor
        if worker.observed.state not in STATES_WITH_PROCESS or monitor is None:
            return
        self._late += MONITOR_GRACE
        if self._may_be_late(monitor):
            worker.arm(NoticeKind.MONITOR_LATE, MONITOR_GRACE)
            return
        worker.container.attachments.shut_all()
        # By a descriptor of its own: the other one is waited on already.
        pidfd = process.open_pidfd(monitor)
        if pidfd is None:
            await self.ended()
            return
        with pidfd:
            if await pidfd.ends_within(MONITOR_LAST_GRACE):
                await self.ended()
                return
        status = self._status()
        try:
            await worker.body.end_monitor(monitor)
        except PymanError as error:  # the kernel holds conmon; the container has ended all the same
            log.warning("cannot end conmon", container=worker.container.id, error=str(error))
        event = worker.event(EventStatus.MONITOR_LOST, reason="conmon did not answer and was ended")
        await worker.note(monitor_state="lost", events=[event])
        await self.ended(status)

    def _may_be_late(self, monitor: ProcessRef) -> bool:
        """It has output that a client is going to read, as who looks at it page by page, and that would be lost; and nobody
        waits for the end."""
        worker = self._worker
        if process.is_stopped(monitor.pid):
            return False
        behind = worker.container.attachments.behind()
        if not behind:
            return self._late < MONITOR_PATIENCE
        policy = policy_of(worker.container.definition.spec, worker.services.settings)
        awaited = worker.observed.asked is not Asked.NOTHING or policy.kind is not RestartPolicy.NO
        return not awaited and not any(map(process.is_stopped, behind))

    async def ended(self, status: int | None = None) -> None:
        """The container has ended. `status`: its wait status, where it is known already."""
        worker = self._worker
        if self._learnt is None or self._learnt[0] != worker.observed.run or self._learnt[1][0] is None:
            self._learnt = worker.observed.run, await self._how(status)
        code, oom, finished = self._learnt[1]
        container = worker.container
        container.attachments.shut_all()
        try:
            await self._record(code, oom, finished)
        except PymanError as error:
            worker.stopping.fail_waiting(error)
            raise
        worker.unwatch()
        container.end_of_run.give(container.exit_code)
        await self.finish()

    async def finish(self) -> None:
        """The end is recorded: clean up, then do what a user had asked for."""
        problem: PymanError | None = None
        await self._worker.checking.over()
        try:
            if self._restarts_at_once():
                await self._renew()
            else:
                await self.settle()
        except PymanError as error:
            problem = error
        await self._worker.stopping.after_end(problem)

    async def _how(self, status: int | None) -> tuple[int | None, bool, int]:
        """Exit code (none: unknown), whether memory ran out, and when (nanoseconds since the epoch)."""
        worker = self._worker
        if status is None:
            found = worker.body.read_exit()
            if found is not None:
                return found.code, found.oom, found.time_ns
            status = self._status()
        code = process.exit_code_of_status(status) if status is not None else None
        return code, False, time.time_ns()

    def _status(self) -> int | None:
        """The wait status of a first process whose conmon did not live to tell it."""
        worker = self._worker
        status = worker.init_fd.exit_status() if worker.init_fd is not None else None
        if status is None and worker.observed.init is not None:
            status = worker.services.reaped.status_of(worker.observed.init)
        return status

    async def _record(self, code: int | None, oom: bool, finished: int) -> None:
        """`died`, with what the policy makes of it, in one transaction."""
        worker, observed = self._worker, self._worker.observed
        ran = (
            max(0.0, (finished - observed.started_at) / 1e9)
            if observed.state is not State.INITIALIZED
            else 0.0
        )
        decision = self.decision(End(code=code, oom=oom, asked=observed.asked, ran_for=ran))
        if observed.state is State.INITIALIZED and observed.wanted is not Wanted.RUNNING:
            decision = Decision(False, "its command was never started", history=observed.history)
        attributes: dict[str, Any] = {"containerExitCode": str(-1 if code is None else code)}
        if oom:
            attributes["oomKilled"] = "true"
        if observed.monitor_state == "lost":
            attributes["monitor"] = "lost"
        events = [worker.event(EventStatus.DIED, **attributes)]
        if observed.state is State.STOPPING and observed.asked is not Asked.NOTHING:
            events.append(
                worker.event(EventStatus.STOP, observed.asked_by, forced=str(observed.forced).lower())
            )
        changes = self.consequence(decision, events)
        removed = self._leaves(changes)
        # The ends of exec sessions, which follow at once, are told before the removal: that is the last.
        leaving = removed and not worker.container.execs
        if leaving:
            events.append(worker.event(EventStatus.REMOVE, observed.asked_by))
        elif removed:
            changes["wanted"] = Wanted.REMOVED
        await worker.note(
            Fact.ENDED,
            events=events,
            exit_code=code,
            exit_known=code is not None,
            oom_killed=oom,
            finished_at=finished,
            stop_deadline=0,
            freezing=False,
            leaving=leaving,
            **changes,
        )

    def _leaves(self, changes: dict[str, Any]) -> bool:
        """Whether the end of the run is the end of the container."""
        removal = changes["wanted"] is Wanted.REMOVED or self._worker.container.definition.spec.remove
        return removal and changes["wanted"] is not Wanted.RUNNING

    def decision(self, end: End) -> Decision:
        worker = self._worker
        if end.asked is Asked.NOTHING and not end.rebooted and (stopped := self._stopped_around()):
            reason = f"a user stopped container '{stopped}', and with it the PID namespace that it had joined"
            return Decision(False, reason, history=worker.observed.history)
        policy = policy_of(worker.container.definition.spec, worker.services.settings)
        return decide(policy, end, worker.observed.history, time.time())

    def _stopped_around(self) -> str:
        """The name of the container whose PID namespace it had joined, if a user has stopped that one: its restart would
        bring that one back."""
        wish = self._worker.container.definition.spec.pidns
        owner = self._worker.services.find(wish.value) if wish.nsmode == "container" else None
        return owner.name if owner is not None and owner.observed.asked is Asked.STOP else ""

    def consequence(self, decision: Decision, events: list[EventDraft]) -> dict[str, Any]:
        """What a decision changes in the record; its event is added to the others."""
        worker = self._worker
        observed = worker.observed
        user_asked = observed.asked not in (Asked.NOTHING, Asked.HEALTH_STOP)
        if not decision.restart or observed.wanted is Wanted.REMOVED:
            kind = worker.container.definition.spec.restart_policy
            if kind not in ("", RestartPolicy.NO.value) and not user_asked:
                events.append(worker.event(EventStatus.RESTART_DECLINED, reason=decision.reason))
            wanted = Wanted.REMOVED if observed.wanted is Wanted.REMOVED else Wanted.STOPPED
            return {"wanted": wanted, "restart_at": 0, "restart_reason": decision.reason}
        if observed.asked is Asked.RESTART:
            return {
                "wanted": Wanted.RUNNING,
                "restart_at": 0,
                "restart_reason": decision.reason,
                "next_trigger": "user",
                "again": True,
            }
        now = time.time()
        at = now + decision.delay
        if decision.failing:
            at = worker.services.budget.reserve(at)
        events.append(
            worker.event(
                EventStatus.RESTART_SCHEDULED,
                reason=decision.reason,
                delay=f"{at - now:.3f}",
                at=rfc3339(int(at * 1e9)),
                count=str(decision.history.count),
            )
        )
        return {
            "wanted": Wanted.RUNNING,
            "history": decision.history,
            "restart_at": int(at * 1e9),
            "restart_delay": at - now,
            "restart_reason": decision.reason,
            "next_trigger": "health" if observed.asked is Asked.HEALTH_RESTART else "policy",
            "again": True,
            "asked_by": None,
        }

    async def settle(self) -> None:
        """Clean up after the end. A failure leaves the container stopped: the next start or removal tries
        again, and so does the worker after a while."""
        worker = self._worker
        if worker.observed.state is not State.STOPPED:
            return
        worker.services.logs.finished(worker.container.id)
        try:
            await worker.body.clean(made=True, last=worker.observed.leaving)
        except PymanError as error:
            await self._not_clean(error)
            raise
        if worker.observed.leaving:
            return  # straight on to the removal
        await worker.note(
            Fact.CLEANED,
            monitor=None,
            init=None,
            monitor_state="",
            events=[worker.event(EventStatus.CLEANUP)],
        )
        self.arm_restart()

    async def _not_clean(self, error: PymanError) -> None:
        worker = self._worker
        if error.message != worker.observed.error:
            log.warning("clean-up failed", container=worker.container.id, error=str(error))
            await worker.note(error=error.message)

    def _restarts_at_once(self) -> bool:
        """Whether the policy's restart follows the clean-up, which takes about as long."""
        worker, observed = self._worker, self._worker.observed
        due = 0 < observed.restart_at < time.time_ns() + AT_ONCE
        may = observed.state is State.STOPPED and not worker.services.ending
        return (
            due
            and may
            and worker.services.dependencies.unmet(worker.container) is None
            and worker.body.wiring.stays()
        )

    async def _renew(self) -> None:
        """`settle` and the restart as one."""
        worker = self._worker
        worker.services.logs.finished(worker.container.id)
        request = worker.body.monitor_request()
        try:
            monitor = await worker.body.renew(request, worker.expect_move)
        except PymanError as error:
            await self._not_clean(error)
            raise
        if monitor is not None and worker.services.ending:
            await worker.body.end_monitor(monitor)
            monitor = None
        await worker.starting.start_over(request, monitor, worker.event(EventStatus.CLEANUP))

    def arm_restart(self) -> None:
        """Set the clock for a restart that is due by policy. A supervisor that ends leaves it to the next one."""
        worker = self._worker
        if worker.observed.restart_at and not worker.services.ending:
            worker.arm(NoticeKind.RESTART_DUE, (worker.observed.restart_at - time.time_ns()) / 1e9)

    async def start_failed(self, error: PymanError) -> None:
        """A start by policy did not succeed: it counts as an end, so that it is tried again, ever more rarely."""
        worker = self._worker
        decision = self.decision(End(code=error.exit_status))
        events: list[EventDraft] = []
        changes = self.consequence(decision, events)
        await worker.note(events=events, **changes)
        self.arm_restart()
