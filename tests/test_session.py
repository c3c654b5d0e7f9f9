"""The main path, typed as a user would: command line, supervisor, conmon, OCI runtime, all of them real."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

one = pytest.mark.oci_runtime("crun")  # the lifecycle has both where it makes a difference


def test_run_prints_what_the_command_prints_and_exits_with_its_code(
    shared_engine: Engine, rootfs: Path
) -> None:
    done = shared_engine.cli(
        "run", "--rm", "--rootfs", f"{rootfs}:O", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert shared_engine.out("ps", "-aq") == ""


def test_every_step_of_a_life_is_an_event_in_order(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("run", "--name", "steps", "--rootfs", f"{rootfs}:O", "true")
    shared_engine.cli("rm", "steps")
    events = shared_engine.events(container=["steps"])
    assert [event["Status"] for event in events] == [
        "create",
        "init",
        "start",
        "attach",
        "died",
        "cleanup",
        "remove",
    ]


@one
def test_a_container_does_not_notice_that_the_supervisor_is_killed(engine: Engine, rootfs: Path) -> None:
    engine.cli("run", "-d", "--name", "steady", "--rootfs", f"{rootfs}:O", "sleep", "60")
    before = engine.inspect("steady")["State"]
    daemon, keeper = engine.pid, engine.keeper_pid
    engine.kill()
    assert engine.pid != daemon
    assert engine.keeper_pid == keeper
    after = engine.inspect("steady")["State"]
    assert (after["Pid"], after["StartedAt"], after["Status"]) == (
        before["Pid"],
        before["StartedAt"],
        "running",
    )


@one
def test_the_exit_code_is_kept_when_the_container_ends_while_there_is_no_supervisor(
    engine: Engine, rootfs: Path
) -> None:
    engine.cli(
        "run",
        "-d",
        "--name",
        "quick",
        "--rootfs",
        f"{rootfs}:O",
        "sh",
        "-c",
        "trap 'exit 42' TERM; sleep 60 & wait",
    )
    init = engine.inspect("quick")["State"]["Pid"]
    engine.await_handler("quick", signal.SIGTERM)
    engine.kill_keeper()
    os.kill(init, signal.SIGTERM)
    assert not processes.wait_gone([init], 10)
    engine.start()
    assert engine.out("wait", "quick") == "42"
    died = engine.events(container=["quick"], event=["died"])
    assert [event["Attributes"]["containerExitCode"] for event in died] == ["42"]


@one
@pytest.mark.engine_options("--on-stop=stop")
def test_a_supervisor_told_so_stops_its_containers_when_it_ends(engine: Engine, rootfs: Path) -> None:
    engine.cli("run", "-d", "--name", "ends", "--stop-timeout", "1", "--rootfs", f"{rootfs}:O", "sleep", "60")
    init = engine.inspect("ends")["State"]["Pid"]
    assert engine.stop() == 0
    assert not os.path.exists(f"/proc/{init}")
    engine.start()
    assert engine.inspect("ends")["State"]["Status"] == "exited"


@one
@pytest.mark.engine_options("--on-stop=stop")
def test_what_the_supervisor_stopped_itself_comes_back_where_its_policy_says_so(
    engine: Engine, rootfs: Path
) -> None:
    policies = ("no", "on-failure", "always", "unless-stopped")
    for policy in policies:
        engine.cli(
            *("run", "-d", "--name", policy, "--restart", policy, "--stop-timeout", "0"),
            *("--rootfs", f"{rootfs}:O", "sleep", "60"),
        )
    engine.cli("run", "-d", "--name", "user", "--restart", "always", "--rootfs", f"{rootfs}:O", "sleep", "60")
    engine.cli("stop", "--time", "0", "user")
    assert engine.stop() == 0
    engine.start()
    for name in ("always", "unless-stopped"):
        engine.cli("wait", "--condition", "running", name)
        assert "the supervisor stopped it as it ended itself" in engine.out("why", name)
    assert sorted(engine.out("ps", "--format", "{{.Names}}").split()) == ["always", "unless-stopped"]
    assert [engine.inspect(name)["State"]["Status"] for name in ("no", "on-failure", "user")] == [
        "exited"
    ] * 3


@one
def test_a_wait_goes_on_with_the_next_supervisor(engine: Engine, rootfs: Path) -> None:
    script = "while [ ! -e /go ]; do sleep 0.02; done; exit 7"
    engine.cli("run", "-d", "--name", "slow", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    with engine.spawn("wait", "slow") as client:
        time.sleep(0.5)  # it waits by then; if not, it asks the next one from the beginning
        engine.kill()
        engine.cli("exec", "slow", "touch", "/go")
        out, error = client.communicate(timeout=20)
    assert (client.returncode, out, error) == (0, b"7\n", b"")
