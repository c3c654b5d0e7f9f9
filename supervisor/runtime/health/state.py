"""How healthy a container is, and what an answer to its check makes of that: pure functions of frozen records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from supervisor.runtime.health.plan import LOG_SIZE_MOST

if TYPE_CHECKING:
    from supervisor.runtime.health.plan import Plan

__all__ = ["HEALTHY", "STARTING", "UNHEALTHY", "Answered", "Health", "judged"]

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of running a check once. Times in nanoseconds since the epoch."""

    start: int
    end: int
    exit_code: int
    """0; 1 for any other exit code of the command, or where it cannot be run; -1: it took too long."""
    output: str = ""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of the present run, or the last one."""

    status: str = ""
    """starting, healthy, unhealthy; empty: it has not run with a check."""
    streak: int = 0
    """Failures in a row."""
    log: list[Answered] = []
    """The last ones, the newest last."""
    last: int = 0
    """When the last check began; 0: none has."""
    passed: bool = False
    """The check for the start-up has."""
    successes: int = 0
    """Of that, as the next one."""
    failures: int = 0
    skipped: int = 0
    """Checks that were due while the one before was still under way, or the supervisor could not."""


def judged(plan: Plan, health: Health, answer: Answered, started_at: int, skipped: int) -> tuple[Health, str]:
    """The new state, and what is to be done with the container: none, kill, restart or stop.

    `started_at`: when the container's command began, nanoseconds since the epoch. `skipped`: checks since the last
    answer.
    """
    health = msgspec.structs.replace(
        health, log=_kept(plan, [*health.log, answer]), last=answer.start, skipped=health.skipped + skipped
    )
    if plan.startup is not None and not health.passed:
        return _startup(plan, health, answer)
    if answer.exit_code == 0:
        return msgspec.structs.replace(health, status=HEALTHY, streak=0), "none"
    if answer.start < started_at + plan.start_period:
        return health, "none"
    streak = health.streak + 1
    status = UNHEALTHY if streak >= plan.retries else health.status
    action = plan.on_failure if status == UNHEALTHY else "none"
    return msgspec.structs.replace(health, status=status, streak=streak), action


def _startup(plan: Plan, health: Health, answer: Answered) -> tuple[Health, str]:
    assert plan.startup is not None  # noqa: S101 - the caller has looked
    if answer.exit_code == 0:
        successes = health.successes + 1
        if successes >= plan.startup.successes:
            return msgspec.structs.replace(
                health, status=HEALTHY, streak=0, passed=True, successes=0, failures=0
            ), "none"
        return msgspec.structs.replace(health, successes=successes), "none"
    failures = health.failures + 1
    action = "restart" if plan.startup.retries and failures >= plan.startup.retries else "none"
    return msgspec.structs.replace(health, failures=failures), action


def _kept(plan: Plan, log: list[Answered]) -> list[Answered]:
    """The newest entries, as many as were asked for and have room."""
    kept: list[Answered] = []
    room = LOG_SIZE_MOST
    for entry in reversed(log[-plan.log_count :]):
        room -= len(entry.output)
        if room < 0 and kept:
            break
        kept.append(entry)
    return kept[::-1]
