"""The daemon killed exactly between two steps: whatever was begun comes to what was wanted, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import leaks, processes
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty

START_STEPS = ["before-create", "after-create", "before-start", "after-start"]
LET_GO = ["while no daemon runs", "after the next has begun"]


def state(engine: Faulty, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def statuses(engine: Faulty, id: str) -> list[str]:
    return [event["Status"] for event in engine.events(container=[id])]


def kill_daemon(engine: Faulty) -> None:
    """SIGKILL; the next one is not waited for: it may have to pass the gate."""
    engine.drain_notices()
    os.kill(engine.daemon, signal.SIGKILL)


def runs_once(engine: Faulty, id: str) -> None:
    """Exactly one conmon, one first process, one mount, and the record agrees with them."""
    observed = state(engine, id)
    assert observed["Status"] == "running"

    def monitors() -> list[int]:
        # What is described may be gone by then: an OCI runtime that has done its work.
        described = {pid: processes.describe(pid) for pid in processes.mentions([id])}
        return [pid for pid, words in described.items() if "--api-version" in words and "alive" in words]

    # One that was ended may be about to go.
    until(lambda: monitors() == [observed["ConmonPid"]], "there is not its conmon alone")
    assert Path(f"/proc/{observed['Pid']}").exists()
    mounts = Path("/proc/self/mountinfo").read_text().count(f"/{id}/rootfs")
    assert mounts == 1


def nothing_left(engine: Faulty, id: str) -> None:
    """What was told is so already, and what goes with it goes at once."""
    until(lambda: remains(engine, id) == [], lambda: f"there is still {remains(engine, id)}")


def remains(engine: Faulty, id: str) -> list[str]:
    found = [processes.describe(pid) for pid in processes.mentions([id])]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if id in line]
    found += [path for path in leaks.cgroup_directories() if id in path]
    places = (Path("/run/runc", id), engine.tmpdir / "containers" / id)
    return found + [str(path) for path in places if path.exists()]


def start_over_a_kill(engine: Faulty, id: str, step: str, let_go: str) -> None:
    """The container c starts, the daemon is killed while the OCI runtime is held at a step of that, and it runs.
    `let_go`: one of LET_GO."""
    engine.runtime.hold(step)
    with engine.spawn("start", "c") as client:
        held = engine.runtime.reached(step)
        if let_go == LET_GO[0]:
            with engine.stopped_daemon():
                engine.runtime.let_go(step)
                # conmon, or nobody, waits for it: it does what it has to do and ends.
                assert step == "before-start" or not processes.wait_gone([held], 10)
            # That one has come up ahead of its time: the next daemon tells it to go on.
            assert not processes.wait_gone([held], 10)
        else:
            kill_daemon(engine)
            engine.wait_ready()
            engine.runtime.let_go(step)
        client.wait(20)
    engine.cli("wait", "--condition", "running", "c")
    runs_once(engine, id)


@pytest.mark.parametrize("let_go", LET_GO)
@pytest.mark.parametrize("step", START_STEPS)
def test_a_start_comes_to_a_running_container(faulty: Faulty, rootfs: Path, step: str, let_go: str) -> None:
    id = faulty.out("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    start_over_a_kill(faulty, id, step, let_go)
    faulty.cli("stop", "-t", "0", "c")
    events = statuses(faulty, id)
    assert events.count("start") == 1
    assert events.count("died") == 1
    faulty.cli("rm", "c")
    nothing_left(faulty, id)


def test_a_start_that_an_earlier_daemon_had_asked_for_does_not_undo_the_same_start(
    faulty: Faulty, rootfs: Path
) -> None:
    """The earlier one's OCI runtime outlives it, and may start the container in front of its successor."""
    id = faulty.out("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold("before-start")
    with faulty.spawn("start", "c") as client:
        first = faulty.runtime.reached("before-start")
        detained = faulty.runtime.detain("before-start")
        faulty.runtime.hold("before-start")
        kill_daemon(faulty)
        faulty.runtime.reached("before-start")
        os.close(detained)
        assert not processes.wait_gone([first], 10)
        faulty.runtime.let_go("before-start")
        client.wait(20)
    faulty.wait_ready()
    faulty.cli("wait", "--condition", "running", "c")
    runs_once(faulty, id)
    assert statuses(faulty, id).count("start") == 1


@pytest.mark.parametrize("step", ["before-create", "after-create"])
def test_an_init_comes_to_an_initialized_container(faulty: Faulty, rootfs: Path, step: str) -> None:
    id = faulty.out("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("init", "c") as client:
        faulty.runtime.reached(step)
        kill_daemon(faulty)
        faulty.wait_ready()
        faulty.runtime.let_go(step)
        client.wait(20)
    assert state(faulty, "c")["Status"] == "initialized"
    faulty.cli("rm", "c")
    nothing_left(faulty, id)


@pytest.mark.parametrize("step", START_STEPS)
def test_a_removal_asked_for_at_once_wins_over_a_start_that_was_interrupted(
    faulty: Faulty, rootfs: Path, step: str
) -> None:
    id = faulty.out("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("start", "c") as client:
        faulty.runtime.reached(step)
        kill_daemon(faulty)
        with faulty.spawn("rm", "-f", "-t", "0", "c") as removal:
            faulty.wait_ready()
            faulty.runtime.let_go(step)
            assert removal.wait(20) == 0
        client.wait(20)
    assert faulty.out("ps", "-aq") == ""
    nothing_left(faulty, id)


@pytest.mark.parametrize("step", ["before-delete", "after-delete"])
def test_an_end_is_told_once_and_cleaned_up(faulty: Faulty, rootfs: Path, step: str) -> None:
    id = faulty.out("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("stop", "-t", "0", "c") as client:
        faulty.runtime.reached(step)
        kill_daemon(faulty)
        faulty.wait_ready()
        faulty.runtime.let_go(step)
        client.wait(20)
    faulty.cli("wait", "--condition", "exited", "c")
    events = statuses(faulty, id)
    assert [events.count(word) for word in ("start", "died", "cleanup")] == [1, 1, 1]
    assert state(faulty, "c")["ExitCode"] == 137
    nothing_left(faulty, id)


@pytest.mark.parametrize("step", ["before-delete", "after-delete"])
def test_a_removal_is_finished_and_told_once(faulty: Faulty, rootfs: Path, step: str) -> None:
    id = faulty.out("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("rm", "-f", "-t", "0", "c") as client:
        faulty.runtime.reached(step)
        kill_daemon(faulty)
        faulty.wait_ready()
        faulty.runtime.let_go(step)
        client.wait(20)
    faulty.cli("wait", "--condition", "removed", "c")
    assert faulty.out("ps", "-aq") == ""
    events = statuses(faulty, id)
    assert (events.count("died"), events.count("remove")) == (1, 1)
    nothing_left(faulty, id)


@pytest.mark.parametrize("step", ["before-pause", "after-pause", "before-resume", "after-resume"])
def test_what_is_frozen_is_recorded_as_it_is(faulty: Faulty, rootfs: Path, step: str) -> None:
    faulty.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    thaw = step.endswith("resume")
    if thaw:
        faulty.cli("pause", "c")
    faulty.runtime.hold(step)
    with faulty.spawn("unpause" if thaw else "pause", "c") as client:
        held = faulty.runtime.reached(step)
        with faulty.stopped_daemon():
            faulty.runtime.let_go(step)
            assert not processes.wait_gone([held], 10)
        client.wait(20)
    assert state(faulty, "c")["Status"] == ("running" if thaw else "paused")
    if not thaw:
        faulty.cli("unpause", "c")
    assert faulty.out("exec", "c", "echo", "works") == "works"


@pytest.mark.parametrize("step", ["before-exec", "after-exec"])
@pytest.mark.parametrize("options", [(), ("-d",)])
def test_an_exec_session_that_had_begun_is_seen_and_ends_with_its_container(
    faulty: Faulty, rootfs: Path, step: str, options: tuple[str, ...]
) -> None:
    id = faulty.out("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("exec", *options, "c", "sleep", "1001") as client:
        faulty.runtime.reached(step)
        kill_daemon(faulty)
        faulty.wait_ready()
        faulty.runtime.let_go(step)
        sessions = faulty.inspect("c")["ExecIDs"]
        processes.end([client.pid])
    commands = faulty.out("exec", "c", "ps", "-o", "args")
    assert commands.count("sleep 1001") <= len(sessions), "a command runs that no session names"
    faulty.cli("rm", "-f", "-t", "0", "c")
    nothing_left(faulty, id)
    if sessions:
        assert statuses(faulty, id).count("exec_died") >= 1


@pytest.mark.parametrize("step", ["before-monitor", "after-create"])
def test_a_policys_restart_goes_on(faulty: Faulty, rootfs: Path, step: str) -> None:
    options = ("--restart", "on-failure:1")
    program = faulty.conmon if step.endswith("monitor") else faulty.runtime
    script = "while [ ! -e /go ]; do sleep 0.02; done; exit 5"
    command = ("--rootfs", f"{rootfs}:O", "sh", "-c", script)
    id = faulty.out("run", "-d", "--name", "c", *options, *command)
    program.hold(step)
    # It may be ended together with the container that it ends.
    faulty.cli("exec", "c", "touch", "/go", check=False)
    program.reached(step)
    kill_daemon(faulty)
    faulty.wait_ready()
    program.let_go(step)
    faulty.cli("wait", "--condition", "running", "c")
    runs_once(faulty, id)
    faulty.cli("exec", "c", "touch", "/go", check=False)
    faulty.cli("wait", "c")
    events = statuses(faulty, id)
    assert events.count("start") == events.count("died") == 2
    assert state(faulty, "c")["ExitCode"] == 5


def test_clients_in_the_middle_of_a_call_are_told_that_the_daemon_ended(faulty: Faulty, rootfs: Path) -> None:
    faulty.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold("before-create")
    with faulty.wire() as wire:
        wire.send("io.pyman.Container.Start", {"selection": {"names": ["c"]}})
        faulty.runtime.reached("before-create")
        kill_daemon(faulty)
        with pytest.raises((EOFError, ConnectionResetError, VarlinkError)):
            wire.receive()
    faulty.wait_ready()
