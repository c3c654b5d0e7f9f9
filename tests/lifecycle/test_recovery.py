"""What is killed loses nothing: the daemon, the keeper, conmon, a client, the host."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import leaks, processes
from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine import Engine


def run(engine: Engine, rootfs: Path, name: str, script: str, *options: str) -> None:
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def touch_go(engine: Engine, pid: int) -> None:
    """Make /go in a container, without any engine's help. The host's root is nobody in a user's container."""
    if isinstance(engine, UserEngine):
        words = ["nsenter", f"--target={pid}", "--user", "--mount", "--root", "touch", "/go"]
        subprocess.run(words, check=True, env={"PATH": "/bin:/usr/bin"})
    else:
        (Path(f"/proc/{pid}/root") / "go").touch()


def died(engine: Engine, name: str) -> list[str]:
    events = engine.events(container=[name], event=["died"])
    return [event["Attributes"]["containerExitCode"] for event in events]


@contextlib.contextmanager
def stopped_daemon(engine: Engine) -> Iterator[None]:
    """What happens inside happens while no daemon acts; afterwards it is killed and the next one is there."""
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        engine.drain_notices()
        os.kill(pid, signal.SIGKILL)
        engine.wait_ready()


def is_(name: str, status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["Name"] == name and event["Status"] == status


def statuses(engine: Engine, name: str) -> list[str]:
    return [event["Status"] for event in engine.events(container=[name])]


def test_a_killed_daemon_harms_no_container_and_the_next_adopts_it(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "adopted", "while :; do sleep 0.1; done")
    before = state(engine, "adopted")
    engine.kill()
    after = state(engine, "adopted")
    assert (after["Pid"], after["ConmonPid"], after["Status"]) == (
        before["Pid"],
        before["ConmonPid"],
        "running",
    )
    engine.cli("stop", "-t", "0", "adopted")
    assert died(engine, "adopted") == ["137"]


def test_an_exit_while_no_daemon_runs_is_told_once_with_its_code(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "job", "while [ ! -e /go ]; do sleep 0.02; done; exit 9")
    init = state(engine, "job")["Pid"]
    with stopped_daemon(engine):
        touch_go(engine, init)
        processes.wait_gone([init], 10)
    engine.cli("wait", "job")
    assert died(engine, "job") == ["9"]
    assert state(engine, "job")["ExitCode"] == 9


@pytest.mark.oci_runtime(*BY_USER)
def test_a_policy_goes_on_after_the_daemon_was_killed(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "loop", "sleep 0.3; exit 2", "--restart", "always")
    for _ in range(3):
        engine.kill()
    seq = engine.last_seq()
    engine.await_event(is_("loop", "start"), seq)
    engine.cli("stop", "-t", "0", "loop")
    events = statuses(engine, "loop")
    assert events.count("start") == events.count("died")
    assert set(died(engine, "loop")) <= {"2", "137"}


@pytest.mark.oci_runtime(*BY_USER)
def test_a_killed_keeper_takes_only_the_daemon_along(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "web", "while :; do sleep 0.1; done")
    before = state(engine, "web")["Pid"]
    engine.kill_keeper()
    engine.start()
    assert state(engine, "web")["Pid"] == before
    engine.cli("exec", "web", "true")


@pytest.mark.oci_runtime(*BY_USER)
def test_sigterm_leaves_containers_running_and_the_next_supervisor_adopts_them(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "web", "while :; do sleep 0.1; done")
    before = state(engine, "web")["Pid"]
    assert engine.stop() == 0
    assert Path(f"/proc/{before}").exists()
    engine.start()
    assert state(engine, "web")["Pid"] == before


@pytest.mark.parametrize("again", [False, True])
def test_a_killed_conmon_is_told_at_once_and_the_exit_code_is_kept(
    shared_engine: Engine, rootfs: Path, again: bool
) -> None:
    engine, name = shared_engine, f"orphan-{again}"
    run(
        engine,
        rootfs,
        name,
        "while [ ! -e /go ]; do sleep 0.02; done; exit 6",
        "--restart",
        "on-failure:1",
    )
    before = state(engine, name)
    seq = engine.last_seq()
    os.kill(before["ConmonPid"], signal.SIGKILL)
    engine.await_event(is_(name, "monitor-lost"), seq)
    assert state(engine, name)["Monitor"] == "lost"
    if again:
        engine.kill()
    touch_go(engine, before["Pid"])
    engine.await_event(is_(name, "restart"), seq)
    assert died(engine, name) == ["6"]


def test_conmon_killed_while_no_daemon_runs_is_noticed_by_the_next(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "unwatched", "while :; do sleep 0.1; done")
    before = state(engine, "unwatched")
    seq = engine.last_seq()
    with stopped_daemon(engine):
        os.kill(before["ConmonPid"], signal.SIGKILL)
    assert state(engine, "unwatched")["Pid"] == before["Pid"]
    engine.await_event(is_("unwatched", "monitor-lost"), seq)
    engine.cli("stop", "-t", "0", "unwatched")
    assert died(engine, "unwatched") == ["137"]


def test_a_stopped_conmon_delays_only_its_own_container(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "stuck", "sleep 1000")
    run(engine, rootfs, "fine", "sleep 1000")
    conmon = state(engine, "stuck")["ConmonPid"]
    os.kill(conmon, signal.SIGSTOP)
    seq = engine.last_seq()
    with engine.wire(timeout=60) as first, engine.wire(timeout=60) as second:
        both = ((first, "stuck"), (second, "fine"))
        for wire, name in both:
            wire.send("io.pyman.Container.Stop", {"selection": {"names": [name]}, "timeout": 0})
        for wire, _ in both:
            (result,) = wire.receive()["parameters"]["results"]
            assert not result.get("error")
    # The one that was asked for last does not have to wait for what conmon is given to answer.
    assert [event["Name"] for event in engine.events(seq, event=["died"])] == ["fine", "stuck"]
    assert died(engine, "stuck") == ["137"]
    assert "monitor-lost" in statuses(engine, "stuck")


@pytest.mark.oci_runtime(*BY_USER)
def test_a_client_that_stops_reading_holds_up_neither_died_nor_the_policy(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    seq = engine.last_seq()
    command = (
        "run",
        "--name",
        "loud",
        "--log-driver",
        "none",
        "--restart",
        "on-failure:1",
        "--rootfs",
        f"{rootfs}:O",
    )
    with engine.spawn(*command, "cat", "/dev/zero") as client:
        engine.await_event(is_("loud", "start"), seq)
        os.kill(client.pid, signal.SIGSTOP)
        pid = state(engine, "loud")["Pid"]
        os.kill(pid, signal.SIGKILL)
        engine.await_event(is_("loud", "died"), seq)
        engine.await_event(is_("loud", "restart"), seq)
        client.kill()
        engine.cli("rm", "-f", "-t", "0", "loud")


@pytest.mark.oci_runtime(*BY_USER)
def test_a_killed_client_leaves_a_container_that_can_be_seen_and_removed(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    with engine.spawn("run", "--name", "left", "--rootfs", f"{rootfs}:O", "sleep", "1000") as client:
        engine.await_event(is_("left", "start"))
        client.kill()
    assert engine.out("ps", "--format", "{{.Names}}") == "left"
    engine.cli("rm", "-f", "-t", "0", "left")


def pretend_reboot(engine: Engine) -> None:
    """What a reboot leaves: another boot id, empty run directories, no process."""
    pids = [container["Pid"] for container in engine.call("io.pyman.Container.List")["containers"]]
    conmons = [
        state(engine, c["Id"])["ConmonPid"] for c in engine.call("io.pyman.Container.List")["containers"]
    ]
    ids = [c["Id"] for c in engine.call("io.pyman.Container.List")["containers"]]
    assert engine.stop() == 0
    for conmon in conmons:
        os.kill(conmon, signal.SIGKILL)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert not processes.wait_gone([*pids, *conmons], 10)
    runtime = engine.place.runtime
    for id in ids:
        prefix = engine.place.prefix("/")
        processes.run([*prefix, runtime, "delete", "--force", id])
        processes.run([*prefix, "umount", str(engine.tmpdir / "containers" / id / "rootfs")])
        leaks.remove_cgroups(leaks.cgroup_directories(re.compile(f"conmon-{id}")))
    shutil.rmtree(engine.tmpdir)
    if isinstance(engine, UserEngine):
        shutil.rmtree(engine.runtime_dir / runtime)
    with sqlite3.connect(engine.root / "pyman/state.db") as database:
        database.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
    database.close()


def test_after_a_reboot_policies_bring_back_what_should_run(engine: Engine, rootfs: Path) -> None:
    forever = "while :; do sleep 0.1; done"
    run(engine, rootfs, "always", forever, "--restart", "always")
    run(engine, rootfs, "unless", forever, "--restart", "unless-stopped")
    run(engine, rootfs, "failure", forever, "--restart", "on-failure")
    run(engine, rootfs, "none", forever)
    for name in ("always-stopped", "unless-stopped"):
        run(engine, rootfs, name, forever, "--restart", "always" if name[0] == "a" else "unless-stopped")
        engine.cli("stop", "-t", "0", name)
    engine.cli("create", "--name", "never", "--restart", "always", "--rootfs", f"{rootfs}:O", "true")
    pretend_reboot(engine)
    engine.start()
    expected = {"always", "unless", "always-stopped"}
    for name in expected:
        engine.await_event(is_(name, "start"), 0)
        engine.cli("wait", "--condition", "running", name)
    lines = engine.out("ps", "--format", "{{.Names}}").split()
    assert set(lines) == expected
    assert state(engine, "never")["Status"] == "created"
    assert state(engine, "none")["Status"] == "exited"
    assert [event["Status"] for event in engine.events(type=["system"])] == ["refresh"]
    assert "reboot" in engine.out("why", "always") or "booted" in engine.out("why", "always")


@pytest.mark.oci_runtime(*BY_USER)
def test_after_a_reboot_what_others_need_comes_first(engine: Engine, rootfs: Path) -> None:
    """Also what has no policy of its own."""
    forever, policy = "while :; do sleep 0.1; done", ("--restart", "always")
    run(engine, rootfs, "db", forever)
    run(engine, rootfs, "cache", forever, *policy)
    run(engine, rootfs, "app", forever, "--requires", "db", "--after", "cache", *policy)
    run(engine, rootfs, "guest", forever, "--pid", "container:app", *policy)
    pretend_reboot(engine)
    engine.start()
    events = engine.follow(0, 20, event=["start"])
    started = [next(events)["Name"] for _ in range(8)][4:]
    assert set(started) == {"db", "cache", "app", "guest"}
    assert started[2:] == ["app", "guest"]


@pytest.mark.oci_runtime(*BY_USER)
def test_a_lost_run_directory_is_made_again_and_nothing_alive_is_forgotten(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "web", "while :; do sleep 0.1; done")
    pid = state(engine, "web")["Pid"]
    (engine.tmpdir / "alive").unlink()
    engine.kill()
    assert state(engine, "web")["Pid"] == pid
    assert (engine.tmpdir / "alive").exists()


@pytest.mark.oci_runtime(*BY_USER)
def test_events_are_numbered_without_gap_across_kills(engine: Engine, rootfs: Path) -> None:
    for _ in range(3):
        engine.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")
        engine.kill()
    numbers = [event["Seq"] for event in engine.events()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.oci_runtime(*BY_USER)
def test_a_follower_resumes_by_itself_when_the_daemon_is_killed(engine: Engine, rootfs: Path) -> None:
    with engine.spawn("events", "--format", "{{.Seq}} {{.Status}}", "--since-seq", "0") as follower:
        engine.cli("create", "--name", "a", "--rootfs", f"{rootfs}:O", "true")
        assert follower.stdout is not None
        assert follower.stdout.readline().split()[1] == b"create"
        engine.kill()
        engine.cli("rm", "a")
        assert follower.stdout.readline().split() == [b"2", b"remove"]
        follower.terminate()


@pytest.mark.oci_runtime(*BY_USER)
def test_what_is_left_of_a_removed_container_is_taken_away_by_the_next_daemon(
    engine: Engine, rootfs: Path
) -> None:
    for _ in range(5):
        engine.cli("run", "--rm", "--name", "brief", "--rootfs", f"{rootfs}:O", "true")
        engine.kill()
    engine.cli("create", "--name", "brief", "--rootfs", f"{rootfs}:O", "true")
    told = [event["Status"] for event in engine.events(type=["container"])]
    assert told == ["create", "init", "start", "attach", "died", "remove"] * 5 + ["create"]
    until(lambda: not list((engine.tmpdir / "containers").iterdir()), "something of them is left")
    assert engine.call("io.pyman.System.Check", {})["problems"] == []


@pytest.mark.oci_runtime("runc")
def test_what_a_start_was_trying_when_it_was_killed_is_taken_away_by_the_next(engine: Engine) -> None:
    engine.kill_keeper()
    (engine.tmpdir / "probes/pyman-probe-x/rootfs").mkdir(parents=True)
    engine.start()
    until(lambda: not list((engine.tmpdir / "probes").iterdir()), "it is left")
