"""The worker's part for health: the check is in the schedule while the container runs, and every answer is recorded.

A check changes nothing: it runs in a task of the schedule's, or of whoever asks for it, and gives its answer to the
worker, who alone changes the container.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from pyman.errors import InvalidArgument, PymanError, WrongState
from pyman.names import EventStatus, State
from supervisor.kernel import files
from supervisor.logging import log
from supervisor.runtime.health import probe
from supervisor.runtime.health.plan import command_of
from supervisor.runtime.health.schedule import Check
from supervisor.runtime.health.state import HEALTHY, STARTING, UNHEALTHY, Answered, Health, judged
from supervisor.runtime.life import reporting
from supervisor.runtime.life import requests as rq
from supervisor.runtime.views.times import rfc3339

if TYPE_CHECKING:
    from supervisor.runtime.health.plan import Plan
    from supervisor.runtime.life.worker import Worker

__all__ = ["Checking", "shown_log"]

NANO = 1_000_000_000
OVER = 2.0
"""Seconds that the end of a container waits for the end of its check."""


class Checking:
    """The worker's part that looks after the container's health."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._check: Check | None = None
        self._one_at_a_time = trio.Lock()

    @property
    def _plan(self) -> Plan | None:
        return self._worker.container.health_plan

    def fresh(self) -> dict[str, Any]:
        """What a start changes in the record."""
        return {} if self._plan is None else {"health": Health(status=STARTING)}

    # ------------------------------------------------------------------ the schedule

    def follow(self) -> None:
        """After every change of the record: only what runs is asked."""
        worker = self._worker
        runs = worker.observed.state is State.RUNNING
        if self._check is None:
            if runs and self._plan is not None and not worker.services.ending:
                self._arm(self._plan)
        elif not runs:
            self.stop()

    def stop(self) -> None:
        if self._check is not None:
            self._worker.services.health.remove(self._check)
            self._check = None

    def _arm(self, plan: Plan, *, at_once: bool = False) -> None:
        interval = self._interval(plan)
        if not interval:
            return
        worker = self._worker
        check = self._check = Check(worker.container.id, interval / NANO, partial(self.run, scheduled=True))
        last = worker.observed.health.last
        wait = (last + interval - time.time_ns()) / NANO if last and not at_once else 0.0
        # A clock that was set back must not put it off for longer.
        worker.services.health.add(check, min(wait, interval / NANO), spread=wait <= 0)

    def _interval(self, plan: Plan) -> int:
        """Nanoseconds."""
        startup = plan.startup
        return plan.interval if startup is None or self._worker.observed.health.passed else startup.interval

    async def adopt(self) -> None:
        """Go on with a container that an earlier supervisor has left."""
        worker = self._worker
        if self._plan is not None and worker.observed.state is State.RUNNING:
            await probe.clear(worker.services, worker.container.id)
            if worker.observed.health.status == HEALTHY:
                self._tell_ready()  # the earlier one may have been killed before it did; twice is no harm
        self.follow()

    def _tell_ready(self) -> None:
        """To whom the container reports, if it is ready once it is healthy."""
        worker = self._worker
        if (
            worker.observed.reporting is None
            or worker.container.definition.spec.sdnotify_mode != reporting.HEALTHY
        ):
            return
        if not reporting.tell_ready(worker.services.layout.container_bundle(worker.container.id)):
            log.warning("cannot tell that it is healthy", container=worker.container.id)

    # ------------------------------------------------------------------ one check

    async def run(self, *, scheduled: bool = False) -> str:
        """Run the check once: healthy, starting (in the start-up check), unhealthy, or stopped. InvalidArgument: there
        is none. WrongState: the container does not run."""
        worker = self._worker
        async with self._one_at_a_time:
            plan, observed = self._plan, worker.observed
            name = worker.container.name
            if observed.state is not State.RUNNING:
                raise WrongState(
                    f"cannot check the health of container '{name}': it is {observed.state}, not running",
                    subject=name,
                )
            if plan is None:
                raise InvalidArgument(
                    f"cannot check the health of container '{name}': it has no health check", subject=name
                )
            startup = plan.startup if not observed.health.passed else None
            test, timeout = (plan.test, plan.timeout) if startup is None else (startup.test, startup.timeout)
            begun = time.time_ns()
            try:
                answer = await probe.probe(
                    worker.services,
                    worker.container,
                    command_of(test),
                    timeout / NANO,
                    plan.log_size,
                    partial(self._started, scheduled=scheduled),
                )
            except PymanError as error:
                # As a command that cannot be run: nobody may take such a container for healthy.
                answer = Answered(begun, time.time_ns(), 1, error.message[: plan.log_size])
        skipped = self._check.take_skipped() if scheduled and self._check is not None else 0
        status: str = await worker.ask(rq.Checked(run=observed.run, answered=answer, skipped=skipped))
        return status

    def _started(self, *, scheduled: bool) -> None:
        if scheduled and self._check is not None:
            self._worker.services.health.started(self._check)

    async def over(self) -> None:
        """The container has ended: a check that was under way has as well, and its file is gone."""
        if self._plan is not None:
            with trio.move_on_after(OVER):
                async with self._one_at_a_time:
                    return

    async def checked(self, request: rq.Checked) -> None:
        """An answer has come: record it, tell a change, act upon it."""
        worker, plan = self._worker, self._plan
        observed = worker.observed
        if plan is None or observed.state is not State.RUNNING or observed.run != request.run:
            request.answer.give("stopped")
            return
        before, answered = observed.health, request.answered
        health, action = judged(plan, before, answered, observed.started_at, request.skipped)
        events = []
        if health.status != before.status:
            attributes: dict[str, Any] = {
                "health_status": health.status,
                "health_failing_streak": str(health.streak),
            }
            if plan.log_destination == "events_logger":
                attributes["health_log"] = msgspec.json.encode(_shown(answered)).decode()
            events.append(worker.event(EventStatus.HEALTH_STATUS, **attributes))
        await worker.note(health=health, events=events)
        if health.status == HEALTHY != before.status:
            self._tell_ready()
        if health.passed and not before.passed:
            self.stop()
            self._arm(plan, at_once=True)
        in_startup = plan.startup is not None and not before.passed
        failed = STARTING if in_startup else UNHEALTHY
        request.answer.give("healthy" if answered.exit_code == 0 else failed)
        if plan.log_destination not in ("local", "events_logger"):
            await self._write(plan.log_destination, health)
        if action != "none":
            log.info("unhealthy", container=worker.container.id, action=action)
            await worker.stopping.for_health(action)

    async def _write(self, directory: str, health: Health) -> None:
        """The log as a file, too. Where that fails the check goes on."""
        path = os.path.join(directory, f"{self._worker.container.id}-healthcheck.log")
        content = {"Status": health.status, "FailingStreak": health.streak, "Log": shown_log(health)}
        write = partial(files.write_atomic, path, msgspec.json.encode(content), 0o600)
        try:
            await trio.to_thread.run_sync(write, limiter=self._worker.services.disk)
        except (PymanError, OSError) as error:
            log.warning("cannot write the log of a health check", path=path, error=str(error))


def shown_log(health: Health) -> list[dict[str, Any]]:
    """In Podman's form."""
    return [_shown(entry) for entry in health.log]


def _shown(entry: Answered) -> dict[str, Any]:
    return {
        "Start": rfc3339(entry.start),
        "End": rfc3339(entry.end),
        "ExitCode": entry.exit_code,
        "Output": entry.output,
    }
