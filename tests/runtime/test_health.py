"""Health checks without containers: what an answer makes of a state, and when checks are due, by Trio's mock clock."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock  # noqa: TC002 - a fixture's

from pyman.api.spec import ContainerSpec, HealthConfig, StartupHealthConfig
from pyman.errors import InvalidArgument
from supervisor.oci.imaged import Healthcheck
from supervisor.runtime.health.plan import check_plan, command_of, plan_of
from supervisor.runtime.health.schedule import Check, Schedule
from supervisor.runtime.health.state import Answered, Health, judged

NANO = 1_000_000_000
OF_IMAGE = Healthcheck(test=["CMD", "true"], interval=7 * NANO, timeout=8 * NANO, retries=9)


def answer(code: int, start: int = 100 * NANO, output: str = "") -> Answered:
    return Answered(start, start + 1, code, output)


def after(health: Health, *codes: int, start: int = 100 * NANO, **wish: object) -> tuple[Health, str]:
    """`codes`: of answers that come one by one. The container was started at 0."""
    spec = ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"], retries=2), **wish)  # type: ignore[arg-type]
    plan = plan_of(spec, None)
    assert plan is not None
    action = ""
    for code in codes:
        health, action = judged(plan, health, answer(code, start), 0, 0)
    return health, action


# What is to be done


def test_an_image_has_a_check_and_a_spec_changes_it() -> None:
    plan = plan_of(ContainerSpec(healthconfig=HealthConfig(interval=0, retries=1)), OF_IMAGE)
    assert plan is not None
    assert (plan.test, plan.interval, plan.timeout, plan.retries) == (["CMD", "true"], 0, 8 * NANO, 1)
    for spec in (
        ContainerSpec(no_healthcheck=True),
        ContainerSpec(healthconfig=HealthConfig(test=["NONE"])),
    ):
        assert plan_of(spec, OF_IMAGE) is None
    assert plan_of(ContainerSpec(), None) is None


def test_a_command_is_words_or_a_line_for_the_shell() -> None:
    assert command_of(["CMD", "a", "b c"]) == ["a", "b c"]
    assert command_of(["CMD-SHELL", "a || b"]) == ["/bin/sh", "-c", "a || b"]
    assert command_of(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    "spec",
    [
        ContainerSpec(healthconfig=HealthConfig(test=["CMD"])),
        ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"], interval=-1)),
        ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"], interval=1 << 62)),
        ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"], retries=-1)),
        ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"]), health_max_log_count=-1),
        ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"]), health_max_log_size=1 << 40),
        ContainerSpec(health_max_log_count=3),
        ContainerSpec(startup_health_config=StartupHealthConfig(test=["CMD", "x"])),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: ContainerSpec) -> None:
    with pytest.raises(InvalidArgument, match="--health"):
        check_plan(spec, None)


# What an answer makes of a state


def test_failures_in_a_row_make_it_unhealthy_and_one_success_healthy() -> None:
    starting = Health(status="starting")
    assert after(starting, 1)[0].status == "starting"
    assert after(starting, 1, 0, 1)[0].streak == 1
    health, action = after(starting, 1, -1, health_check_on_failure_action="kill")
    assert (health.status, health.streak, action) == ("unhealthy", 2, "kill")
    assert after(health, 1, health_check_on_failure_action="kill")[1] == "kill", "and as long as it is"
    health, action = after(health, 0, health_check_on_failure_action="kill")
    assert (health.status, health.streak, action) == ("healthy", 0, "none")


def test_failures_in_the_start_period_do_not_count_but_successes_do() -> None:
    spec = ContainerSpec(healthconfig=HealthConfig(test=["CMD", "x"], start_period=10 * NANO, retries=1))
    plan = plan_of(spec, None)
    assert plan is not None
    starting = Health(status="starting")
    assert judged(plan, starting, answer(1, 9 * NANO), 0, 0)[0].status == "starting"
    assert judged(plan, starting, answer(0, 9 * NANO), 0, 0)[0].status == "healthy"
    assert judged(plan, starting, answer(1, 10 * NANO), 0, 0)[0].status == "unhealthy"


def test_the_start_up_check_passes_or_restarts_the_container() -> None:
    startup = StartupHealthConfig(test=["CMD", "x"], successes=2, retries=3)
    health, _ = after(Health(status="starting"), 0, 1, startup_health_config=startup)
    assert (health.status, health.passed) == ("starting", False)
    health, _ = after(health, 0, startup_health_config=startup)
    assert (health.status, health.passed) == ("healthy", True)
    _, action = after(Health(status="starting"), 1, 1, 1, startup_health_config=startup)
    assert action == "restart"


def test_the_log_is_bounded_by_number_and_by_size() -> None:
    health, _ = after(Health(), *[0] * 9)
    assert len(health.log) == 5
    spec = ContainerSpec(
        healthconfig=HealthConfig(test=["CMD", "x"]), health_max_log_count=0, health_max_log_size=0
    )
    plan = plan_of(spec, None)
    assert plan is not None
    health = Health()
    for _ in range(9):
        health, _ = judged(plan, health, answer(0, output="x" * 30_000), 0, 1)
    assert len(health.log) == 2
    assert health.skipped == 9


# When checks are due


class Clocked:
    """Checks that tell when they began."""

    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        self.schedule = schedule
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self.begun: dict[str, list[float]] = {}

    def add(self, name: str, interval: float, *, lasts: float = 0.0, seconds: float = 0.0) -> Check:
        check = Check(name, interval, partial(self._work, name, lasts))
        self.begun[name] = []
        self._checks[name] = check
        self.schedule.add(check, seconds, spread=not seconds)
        return check

    async def _work(self, name: str, lasts: float) -> None:
        self.begun[name].append(self._clock.current_time())
        self.schedule.started(self._checks[name])
        await trio.sleep(lasts)


async def test_a_hundred_checks_are_spread_over_their_interval(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(4), autojump_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        for number in range(100):
            clocked.add(f"c{number}", 30.0, lasts=0.02)
        await trio.sleep(300)
        begin = trio.current_time()
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    turn = sorted(time for times in clocked.begun.values() for time in times if time > begin)
    assert len(turn) in (99, 100, 101)
    gaps = [b - a for a, b in pairwise(turn)]
    assert max(gaps) < 0.6
    assert min(gaps) > 0.1
    assert all(len(times) in (10, 11, 12) for times in clocked.begun.values())
    late = [delay for delay in list(schedule.delays)[100:] if delay > 0.001]
    assert not late, "only the first ones, all at once, have to wait"


async def test_one_is_due_every_interval_and_never_beside_itself(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(4), autojump_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        slow = clocked.add("slow", 1.0, lasts=2.5)
        await trio.sleep(20.4)
        nursery.cancel_scope.cancel()
    distances = {round(b - a, 6) for a, b in pairwise(clocked.begun["slow"])}
    assert distances == {3.0}
    assert slow.take_skipped() == schedule.skipped == 14
    assert slow.take_skipped() == 0


async def test_no_more_than_a_number_run_at_once(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(3), autojump_clock)
    most = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        for number in range(20):
            clocked.add(f"c{number}", 100.0, lasts=1.0)
        for _ in range(10):
            await trio.sleep(0.5)
            most = max(most, schedule.under_way)
        nursery.cancel_scope.cancel()
    assert most == 3


async def test_what_is_removed_is_cancelled_and_not_due_any_more(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(3), autojump_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        check = clocked.add("gone", 10.0, lasts=1000.0)
        await trio.sleep(1)
        schedule.remove(check)
        await trio.sleep(0.1)
        assert schedule.under_way == schedule.armed == 0
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert len(clocked.begun["gone"]) == 1


async def test_one_that_was_taken_over_is_due_when_it_would_have_been(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(3), autojump_clock)
    begin = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        clocked.add("kept", 30.0, seconds=12.0)
        await trio.sleep(80)
        nursery.cancel_scope.cancel()
    assert [time - begin for time in clocked.begun["kept"]] == [12.0, 42.0, 72.0]


async def test_a_check_that_fails_does_not_end_the_others(autojump_clock: MockClock) -> None:
    clocked = Clocked(schedule := Schedule(3), autojump_clock)

    async def broken() -> None:
        raise ValueError("a bug")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        schedule.add(Check("broken", 1.0, broken), 0, spread=True)
        clocked.add("fine", 1.0)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert len(clocked.begun["fine"]) >= 9


async def test_without_checks_nobody_wakes_up(autojump_clock: MockClock) -> None:
    """The clock jumps only where somebody waits for a time; then it would show how often."""
    schedule = Clocked(Schedule(3), autojump_clock).schedule
    async with trio.open_nursery() as nursery:
        nursery.start_soon(schedule.run)
        await trio.sleep(1)
        before = trio.lowlevel.current_statistics().seconds_to_next_deadline
        nursery.cancel_scope.cancel()
    assert before == float("inf")
