"""Health checks of real containers."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

FAST = ("--health-interval", "200ms", "--health-retries", "2")
LOOP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


def run(engine: Engine, rootfs: Path, name: str, *options: str, command: tuple[str, ...] = LOOP) -> None:
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)


def told(engine: Engine, name: str) -> list[str]:
    events = engine.events(container=[name], event=["health_status"])
    return [event["Attributes"]["health_status"] for event in events]


def await_event(engine: Engine, name: str, status: str, times: int = 1) -> dict[str, Any]:
    events = engine.follow(0, 20, container=[name], event=[status])
    return [next(events) for _ in range(times)][-1]


def health(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]["Health"]
    return found


def test_a_check_turns_with_what_it_finds(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "h1", "--health-cmd", "test ! -e /sick || { echo no; exit 7; }", *FAST)
    assert engine.out("wait", "--condition", "healthy", "h1") == "-1"
    assert "(healthy)" in engine.out("ps", "--filter", "health=healthy", "--format", "{{.Status}}")
    assert engine.cli("healthcheck", "run", "h1").stdout == ""

    engine.cli("exec", "h1", "touch", "/sick")
    assert engine.out("wait", "--condition", "unhealthy", "h1") == "-1"
    shown = health(engine, "h1")
    assert shown["Status"] == "unhealthy"
    assert shown["FailingStreak"] >= 2
    assert len(shown["Log"]) <= 5
    assert (shown["Log"][-1]["ExitCode"], shown["Log"][-1]["Output"]) == (1, "no\n")
    done = engine.cli("healthcheck", "run", "h1", check=False)
    assert (done.returncode, done.stdout) == (1, "unhealthy\n")
    assert engine.cli("healthcheck", "run", "--ignore-result", "h1").returncode == 0
    assert engine.out("ps", "-q", "--filter", "health=healthy") == ""

    engine.cli("exec", "h1", "rm", "/sick")
    engine.cli("wait", "--condition", "healthy", "h1")
    assert told(engine, "h1") == ["healthy", "unhealthy", "healthy"], "one event a change"
    line = engine.out("events", "--stream=false", "--filter", "event=health_status", "--format", "json")
    assert json.loads(line.splitlines()[-1])["HealthStatus"] == "healthy"

    engine.cli("stop", "h1")
    done = engine.cli("healthcheck", "run", "h1", check=False)
    assert done.returncode == 125
    assert "not running" in done.stderr
    done = engine.cli("wait", "--condition", "unhealthy", "h1", check=False)
    assert "it has ended" in done.stderr


def test_a_check_that_takes_too_long_leaves_nothing(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    script = "sleep 777 & (setsid sleep 778 &) ; setsid sh -c 'sleep 779 & wait' & sleep 780"
    run(engine, rootfs, "slow", "--health-cmd", script, "--health-timeout", "500ms", "--health-retries", "1")
    await_event(engine, "slow", "health_status")
    shown = health(engine, "slow")
    assert shown["Status"] == "unhealthy"
    assert shown["Log"][-1]["ExitCode"] == -1
    assert "longer than 0.5 s" in shown["Log"][-1]["Output"]
    until(lambda: "sleep 7" not in engine.out("exec", "slow", "ps"), "something of it stays")
    assert "while" in engine.out("exec", "slow", "ps"), "the container itself goes on"


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory in which an ordinary user's engine can write as well."""
    with tempfile.TemporaryDirectory(prefix="pm-health-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o777)
        yield path


def test_output_is_bounded_and_kept_as_asked_for(
    shared_engine: Engine, rootfs: Path, open_to_all: Path
) -> None:
    engine = shared_engine
    log = ("--health-max-log-count", "2", "--health-max-log-size", "10")
    where = ("--health-log-destination", str(open_to_all))
    run(engine, rootfs, "loud", "--health-cmd", "yes loud | head -c 3000000", *FAST, *log, *where)
    id = engine.inspect("loud")["Id"]
    for _ in range(3):
        engine.cli("healthcheck", "run", "loud")
    shown = health(engine, "loud")
    assert [entry["Output"] for entry in shown["Log"]] == ["loud\nloud\n"] * 2
    engine.cli("pause", "loud", check=False)
    written = json.loads((open_to_all / f"{id}-healthcheck.log").read_text())
    assert written["Status"] == "healthy"
    assert len(written["Log"]) == 2
    engine.cli("rm", "--force", "--time", "0", "loud")  # which writes in a directory that goes


def test_what_an_unhealthy_container_comes_to(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    sick = ("--health-cmd", "false", "--health-interval", "300ms", "--health-retries", "2")
    run(engine, rootfs, "killed", *sick, "--health-on-failure", "kill", "--restart", "always")
    run(engine, rootfs, "stopped", *sick, "--health-on-failure", "stop")
    run(engine, rootfs, "again", *sick, "--health-on-failure", "restart")
    run(engine, rootfs, "left", *sick, "--health-on-failure", "none")
    await_event(engine, "again", "restart", 2)
    for name, code in (("killed", 137), ("stopped", 0)):
        await_event(engine, name, "cleanup")
        shown = engine.inspect(name)
        assert (shown["State"]["Status"], shown["State"]["ExitCode"]) == ("exited", code)
        assert "its health check failed" in shown["Restart"]["Reason"]
    order = [event["Status"] for event in engine.events(container=["again"])]
    begin = order.index("health_status")
    whole = ["health_status", "died", "stop", "restart-scheduled", "cleanup", "init", "start", "restart"]
    assert order[begin : begin + 8] == whole
    seen = [event["Status"] for event in engine.events(container=["killed"])]
    assert seen[seen.index("health_status") :] == [
        "health_status",
        "kill",
        "died",
        "restart-declined",
        "cleanup",
    ]
    seen = [event["Status"] for event in engine.events(container=["stopped"])]
    assert seen[seen.index("health_status") :] == ["health_status", "died", "stop", "cleanup"]
    assert engine.inspect("again")["RestartCount"] >= 2
    assert "its health check" in engine.out("why", "again")
    assert engine.inspect("left")["State"]["Running"]
    engine.cli("rm", "-ft", "0", "again")


def test_a_start_up_check_comes_first(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(
        engine,
        rootfs,
        "boots",
        *(
            "--health-cmd",
            "true",
            *FAST,
            "--health-startup-cmd",
            "test -e /up",
            "--health-startup-success",
            "2",
        ),
        *("--health-startup-interval", "100ms"),
    )
    done = engine.cli("healthcheck", "run", "boots", check=False)
    assert (done.returncode, done.stdout) == (1, "starting\n")
    assert health(engine, "boots")["Status"] == "starting"
    engine.cli("exec", "boots", "touch", "/up")
    engine.cli("wait", "--condition", "healthy", "boots")
    assert told(engine, "boots") == ["healthy"]

    run(
        engine,
        rootfs,
        "never",
        *("--health-cmd", "true", "--health-startup-cmd", "false", "--health-startup-retries", "2"),
        *("--health-startup-interval", "100ms"),
    )
    await_event(engine, "never", "restart")
    engine.cli("rm", "-ft", "0", "never")


def test_failures_of_the_start_period_do_not_count(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "slowly", "--health-cmd", "false", *FAST, "--health-start-period", "1h")
    for _ in range(3):
        assert engine.cli("healthcheck", "run", "slowly", check=False).stdout == "unhealthy\n"
    shown = health(engine, "slowly")
    assert (shown["Status"], shown["FailingStreak"]) == ("starting", 0)


def test_what_is_down_or_paused_is_not_asked(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "paused", "--health-cmd", "true", "--health-interval", "100ms")
    engine.cli("wait", "--condition", "healthy", "paused")
    done = engine.cli("pause", "paused", check=False)
    if done.returncode:
        assert "no cgroup" in done.stderr
        engine.cli("stop", "paused")
    assert engine.call("io.pyman.System.Info")["supervisor"]["healthChecks"]["armed"] == 0
    before = health(engine, "paused")["Log"]
    time.sleep(0.4)  # the time in which there would be checks
    assert health(engine, "paused")["Log"] == before
    if not done.returncode:
        engine.cli("unpause", "paused")
        until(lambda: health(engine, "paused")["Log"] != before, "it is not asked again")


def test_a_check_may_be_run_by_hand_alone(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "by-hand", "--health-cmd", '["true", "x"]', "--health-interval", "disable")
    assert engine.call("io.pyman.System.Info")["supervisor"]["healthChecks"]["armed"] == 0
    assert engine.inspect("by-hand")["Config"]["Healthcheck"]["Test"] == ["CMD", "true", "x"]
    assert health(engine, "by-hand")["Status"] == "starting"
    engine.cli("healthcheck", "run", "by-hand")
    assert health(engine, "by-hand")["Status"] == "healthy"


def test_a_command_that_cannot_be_run_is_a_failure(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "no-command", "--health-cmd", '["/no/such", "x"]', *FAST)
    await_event(engine, "no-command", "health_status")
    assert "no such file" in health(engine, "no-command")["Log"][-1]["Output"].lower()
    run(engine, rootfs, "no-user", "--health-cmd", "true", *FAST, "--user", "worker")
    engine.cli("wait", "--condition", "healthy", "no-user")
    engine.cli("exec", "--user", "0", "no-user", "rm", "/etc/passwd")
    engine.cli("wait", "--condition", "unhealthy", "no-user")
    assert "worker" in health(engine, "no-user")["Log"][-1]["Output"]


def test_a_container_waits_for_what_has_to_be_healthy(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    check = ("--health-cmd", "test -e /up", "--health-interval", "100ms", "--health-retries", "100")
    root = ("--rootfs", f"{rootfs}:O")
    engine.cli("create", "--name", "db", *check, *root, "sh", "-c", "sleep 0.4; touch /up; exec sleep 1000")
    engine.cli("create", "--name", "app", "--after", "db:healthy", *root, *LOOP)
    engine.cli("start", "app")
    order = [
        (event["Name"], event["Status"])
        for event in engine.events(event=["start", "health_status"])
        if event["Name"] in ("db", "app")
    ]
    assert order == [("db", "start"), ("db", "health_status"), ("app", "start")]

    engine.cli("create", "--name", "ill", "--health-cmd", "false", *FAST, *root, *LOOP)
    engine.cli("create", "--name", "app2", "--after", "ill:healthy", *root, *LOOP)
    done = engine.cli("start", "app2", check=False)
    assert done.returncode == 125
    assert "container 'ill', which it depends on, is unhealthy" in done.stderr


def test_health_survives_the_supervisor(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "keeps", "--health-cmd", "true", "--health-interval", "1h")
    mark = str(79_200_000 + os.getpid())  # of this test alone, while others run beside it
    script = f"echo $$ >>/pids; test -e /hang || exit 0; sleep 791 & sleep {mark}"
    run(engine, rootfs, "hangs", "--health-cmd", script, "--health-interval", "100ms")
    for name in ("keeps", "hangs"):
        engine.cli("wait", "--condition", "healthy", name)
    engine.cli("exec", "hangs", "touch", "/hang")
    until(lambda: f"sleep {mark}" in engine.out("exec", "hangs", "ps"), "it does not hang")
    log = health(engine, "keeps")["Log"]
    engine.kill()
    shown = health(engine, "keeps")
    assert (shown["Status"], shown["Log"]) == ("healthy", log), "it is not due yet"
    # What was under way is ended, once: the next check is another one.
    until(
        lambda: engine.out("exec", "hangs", "ps").count(f"sleep {mark}") == 1, "there is not one check alone"
    )
    assert told(engine, "keeps") == ["healthy"]
    engine.cli("rm", "-fat", "0")
    assert not [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if _says(pid, f"sleep\0{mark}")]


def _says(pid: str, text: str) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.oci_runtime("runc")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--health-interval", "5s"), "--health-interval"),
        (("--health-on-failure", "kill"), "--health-on-failure"),
        (("--health-cmd", "true", "--health-on-failure", "explode"), "'explode'"),
        (("--health-cmd", "true", "--health-timeout", "1ms"), "--health-timeout"),
        (("--health-cmd", "true", "--health-retries", "0"), "--health-retries"),
        (("--health-cmd", "true", "--health-interval", "often"), "--health-interval"),
        (("--health-cmd", "true", "--no-healthcheck"), "--no-healthcheck"),
        (("--health-cmd", "none", "--health-startup-cmd", "true"), "--health-cmd is none"),
        (("--health-cmd", "true", "--health-log-destination", "/etc/passwd"), "--health-log-destination"),
        (("--health-cmd", "true", "--health-startup-retries", "1"), "--health-startup"),
        (("--health-cmd", "[]"), "--health-cmd"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = shared_engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert complaint in done.stderr
    assert shared_engine.out("ps", "-aq") == ""
