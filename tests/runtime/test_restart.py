"""The restart decision: its truth table in the documentation, its delays, its limits, the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.names import RestartPolicy
from supervisor.runtime.life.restart import Asked, Budget, End, History, Policy, decide

DOCUMENT = Path(__file__).parents[2] / "docs" / "restart.md"

POLICIES = {
    "no": (Policy(RestartPolicy.NO), History()),
    "on-failure": (Policy(RestartPolicy.ON_FAILURE, tries=3), History(count=2)),
    "on-failure, its restarts used up": (Policy(RestartPolicy.ON_FAILURE, tries=3), History(count=3)),
    "always": (Policy(RestartPolicy.ALWAYS), History()),
    "unless-stopped": (Policy(RestartPolicy.UNLESS_STOPPED), History()),
}
ENDS = {
    "exit 0": End(0),
    "exit 1": End(1),
    "out of memory": End(137, oom=True),
    "ended by a signal": End(143),
    "unknown exit code": End(None),
    "user stop": End(143, asked=Asked.STOP),
    "user kill -KILL": End(137, asked=Asked.STOP),
    "user kill -HUP": End(129),
    "user restart": End(143, asked=Asked.RESTART),
    "supervisor ended with `--on-stop stop`": End(143, asked=Asked.SHUTDOWN),
    "monitor lost, then exit 0": End(0),
    "monitor lost, then exit 1": End(1),
    "supervisor killed, meanwhile exit 1": End(1),
    "unhealthy, with `--health-on-failure restart`": End(143, asked=Asked.HEALTH_RESTART),
    "unhealthy, with `--health-on-failure stop` or `kill`": End(137, asked=Asked.HEALTH_STOP),
    "reboot while it ran": End(None, rebooted=True),
    "reboot after a user stop": End(143, asked=Asked.STOP, rebooted=True),
}


def documented() -> list[tuple[str, str, bool]]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    heads = [cell.strip() for cell in lines[0].strip("|").split("|")][1:]
    cells: list[tuple[str, str, bool]] = []
    for line in lines[2:]:
        end, *answers = [cell.strip() for cell in line.strip("|").split("|")]
        assert set(answers) <= {"restart", "stays down"}
        cells.extend((end, head, answer == "restart") for head, answer in zip(heads, answers, strict=True))
    return cells


def test_documentation_covers_every_policy_and_every_end() -> None:
    cells = documented()
    assert {(end, policy) for end, policy, _ in cells} == {(e, p) for e in ENDS for p in POLICIES}


@pytest.mark.parametrize("end, policy, restart", documented())
def test_decision_is_as_documented(end: str, policy: str, restart: bool) -> None:
    kind, history = POLICIES[policy]
    decision = decide(kind, ENDS[end], history, 0.0)
    assert decision.restart is restart
    assert decision.reason


def delays(policy: Policy, runs: list[float]) -> list[float]:
    history, found = History(), []
    for ran in runs:
        decision = decide(policy, End(1, ran_for=ran), history, 0.0)
        history = decision.history
        found.append(decision.delay)
    return found


def test_delay_doubles_up_to_the_maximum() -> None:
    found = delays(Policy(RestartPolicy.ALWAYS), [0.0] * 12)
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert found[-1] == 60.0


def test_running_for_the_reset_time_starts_over_with_the_first_delay() -> None:
    assert delays(Policy(RestartPolicy.ALWAYS), [0, 0, 10, 0]) == [0.1, 0.2, 0.1, 0.2]


def test_times_can_be_set_for_one_container() -> None:
    policy = Policy(RestartPolicy.ALWAYS, delay=1, factor=3, maximum=5, reset=2)
    assert delays(policy, [0, 0, 0, 2]) == [1, 3, 5, 1]


@given(st.floats(0, 100), st.floats(1, 10), st.floats(0, 1000), st.lists(st.floats(0, 20), max_size=80))
def test_delay_never_exceeds_the_maximum(
    delay: float, factor: float, maximum: float, runs: list[float]
) -> None:
    policy = Policy(RestartPolicy.ALWAYS, delay=delay, factor=factor, maximum=maximum)
    assert all(0 <= found <= maximum for found in delays(policy, runs))


def test_it_gives_up_after_so_many_restarts_within_the_window() -> None:
    policy = Policy(RestartPolicy.ALWAYS, give_up_after=3, window=10)
    history = History()
    for now in (0, 1, 2):
        decision = decide(policy, End(1), history, now)
        assert decision.restart
        history = decision.history
    assert not decide(policy, End(1), history, 3).restart
    assert decide(policy, End(1), history, 10.5).restart


def test_an_exit_code_can_end_it() -> None:
    policy = Policy(RestartPolicy.ALWAYS, stop_codes=(2, 3))
    assert not decide(policy, End(3), History(), 0).restart
    assert decide(policy, End(1), History(), 0).restart


def test_only_a_container_that_ended_soon_is_failing() -> None:
    policy = Policy(RestartPolicy.ALWAYS)
    assert decide(policy, End(0, ran_for=1), History(), 0).failing
    assert not decide(policy, End(0, ran_for=11), History(), 0).failing


def test_a_users_restart_and_the_return_after_boot_wait_for_nothing() -> None:
    policy = Policy(RestartPolicy.ALWAYS)
    for end in (End(1, asked=Asked.RESTART), End(None, rebooted=True)):
        decision = decide(policy, end, History(streak=9), 0)
        assert (decision.restart, decision.delay, decision.failing) == (True, 0.0, False)


def test_the_budget_grants_a_burst_and_then_a_steady_rate() -> None:
    budget = Budget(rate=2, burst=3)
    granted = [budget.reserve(100.0) for _ in range(6)]
    assert granted[:4] == [100.0] * 4
    assert granted[4:] == [100.5, 101.0]


def test_the_budget_grows_back_with_time() -> None:
    budget = Budget(rate=2, burst=3)
    for _ in range(8):
        budget.reserve(100.0)
    assert budget.reserve(200.0) == 200.0


def test_a_rate_of_zero_switches_the_budget_off() -> None:
    budget = Budget(rate=0, burst=0)
    assert [budget.reserve(5.0) for _ in range(100)] == [5.0] * 100


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60).map(sorted))
def test_the_budget_never_grants_before_the_wished_time_nor_above_its_rate(wishes: list[float]) -> None:
    budget = Budget(rate=1, burst=5)
    granted = [budget.reserve(wish) for wish in wishes]
    assert all(at >= wish for at, wish in zip(granted, wishes, strict=True))
    for index, at in enumerate(granted):
        within = sum(1 for other in granted[: index + 1] if at - other < 10)
        assert within <= 10 + 5 + 1
