"""Restart policies on real containers."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.runtimes import BY_USER
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)


def run(engine: Engine, rootfs: Path, name: str, script: str, *options: str) -> None:
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def told(engine: Engine, name: str, status: str) -> list[dict[str, Any]]:
    return [event["Attributes"] for event in engine.events(container=[name], event=[status])]


def await_status(engine: Engine, name: str, status: str, times: int = 1) -> None:
    events = engine.follow(0, 20, container=[name], event=[status])
    for _ in range(times):
        assert next(events)["Status"] == status


def test_on_failure_restarts_so_often_and_then_tells_why_not(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "thrice", "exit 4", "--restart", "on-failure:2")
    await_status(shared_engine, "thrice", "restart-declined")
    assert [a["containerExitCode"] for a in told(shared_engine, "thrice", "died")] == ["4", "4", "4"]
    (declined,) = told(shared_engine, "thrice", "restart-declined")
    assert "2 times" in declined["reason"]
    assert "2 times" in shared_engine.out("why", "thrice")
    assert shared_engine.inspect("thrice")["RestartCount"] == 2


def test_on_failure_leaves_a_success_alone(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "fine", "exit 0", "--restart", "on-failure")
    await_status(shared_engine, "fine", "restart-declined")
    assert len(told(shared_engine, "fine", "start")) == 1


def test_delays_double_and_inspect_shows_the_next_restart(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "loop", "exit 1", "--restart", "always", "--restart-delay", "0.05")
    await_status(shared_engine, "loop", "restart-scheduled", 5)
    delays = [float(a["delay"]) for a in told(shared_engine, "loop", "restart-scheduled")[:5]]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8]
    shown = shared_engine.inspect("loop")
    assert shown["State"]["Restarting"] == bool(shown["Restart"]["Next"])


def test_a_stop_cancels_a_pending_restart(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "later", "exit 1", "--restart", "always", "--restart-delay", "60")
    await_status(shared_engine, "later", "cleanup")
    assert shared_engine.inspect("later")["State"]["Restarting"]
    shared_engine.cli("stop", "later")
    shown = shared_engine.inspect("later")
    assert (shown["State"]["Restarting"], shown["Restart"]["Next"]) == (False, "")
    assert "a user stopped it" in shared_engine.out("why", "later")


def test_a_users_kill_is_a_stop_and_a_hangup_is_a_signal(shared_engine: Engine, rootfs: Path) -> None:
    script = "trap 'exit 1' HUP; while :; do sleep 0.05; done"
    for name, word in (("killed", "KILL"), ("hung", "HUP")):
        run(shared_engine, rootfs, name, script, "--restart", "always")
        shared_engine.await_handler(name, signal.SIGHUP)
        shared_engine.cli("kill", "-s", word, name)
    await_status(shared_engine, "hung", "restart")
    await_status(shared_engine, "killed", "died")
    assert not told(shared_engine, "killed", "restart-scheduled")


def test_give_up_and_stop_codes_end_it(shared_engine: Engine, rootfs: Path) -> None:
    times = ("--restart-delay", "0")
    run(shared_engine, rootfs, "gives-up", "exit 1", "--restart", "always", *times, "--restart-give-up", "3")
    run(shared_engine, rootfs, "code", "exit 9", "--restart", "always", *times, "--restart-stop-codes", "9")
    await_status(shared_engine, "gives-up", "restart-declined")
    await_status(shared_engine, "code", "restart-declined")
    assert len(told(shared_engine, "gives-up", "start")) == 4
    assert len(told(shared_engine, "code", "start")) == 1


def test_a_start_by_a_user_begins_the_count_anew(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "again", "exit 1", "--restart", "on-failure:1", "--restart-delay", "0")
    await_status(shared_engine, "again", "restart-declined")
    shared_engine.cli("start", "again")
    await_status(shared_engine, "again", "restart-declined", 2)
    assert len(told(shared_engine, "again", "start")) == 4


@pytest.mark.engine_config("[pyman]\nrestart_burst = 3\nrestart_budget = 0.02\n")
def test_failing_containers_share_a_budget_and_a_user_never_waits(engine: Engine, rootfs: Path) -> None:
    """Of three at once, and of one each 50 s."""

    def restarts() -> int:
        return len(engine.events(event=["restart"]))

    begun = time.monotonic()
    for number in range(3):
        run(engine, rootfs, f"f{number}", "exit 1", "--restart", "always", "--restart-delay", "0")
    until(lambda: restarts() >= 3, "they are not restarted")
    time.sleep(1)  # the time in which more restarts than the budget would happen
    assert restarts() <= 3 + 0.02 * (time.monotonic() - begun) + 1
    names = [f"f{number}" for number in range(3)]
    until(lambda: all(engine.inspect(name)["Restart"]["Next"] for name in names), "not all of them wait")
    begun = time.monotonic()
    engine.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")
    engine.cli("restart", "f0")
    assert time.monotonic() - begun < 20


def test_a_policy_cannot_be_combined_with_rm(shared_engine: Engine) -> None:
    done = shared_engine.cli("run", "--rm", "--restart", "always", "--rootfs", "/", "true", check=False)
    assert done.returncode == 125
    assert "--restart" in done.stderr
