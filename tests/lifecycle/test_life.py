"""Every step of a container's life, as a user sees it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pyman.names import EventStatus
from tests.support import processes
from tests.support.engine import Engine  # noqa: TC001
from tests.support.runtimes import BY_USER, NAMES
from tests.support.waiting import until


def statuses(engine: Engine, name: str) -> list[str]:
    return [event["Status"] for event in engine.events(container=[name])]


def create(engine: Engine, rootfs: Path, name: str, *command: str, options: tuple[str, ...] = ()) -> str:
    return engine.out("create", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)


def state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def test_run_prints_the_output_and_ends_with_the_exit_code(shared_engine: Engine, rootfs: Path) -> None:
    done = shared_engine.cli(
        "run", "--rm", "--rootfs", f"{rootfs}:O", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    assert shared_engine.out("ps", "-aq") == ""


def test_an_attached_run_is_told_in_order(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")
    told = [event["Status"] for event in shared_engine.events()]
    assert told == ["create", "init", "start", "attach", "died", "remove"]


def test_a_name_is_free_when_its_container_has_removed_itself(shared_engine: Engine, rootfs: Path) -> None:
    for _ in range(5):
        shared_engine.cli("run", "--rm", "--name", "again", "--rootfs", f"{rootfs}:O", "true")
        assert shared_engine.out("ps", "-aq") == ""


def test_stdin_reaches_the_command(shared_engine: Engine, rootfs: Path) -> None:
    done = shared_engine.cli("run", "-i", "--rm", "--rootfs", f"{rootfs}:O", "cat", input="a\nb\n")
    assert done.stdout == "a\nb\n"


@pytest.mark.oci_runtime(*NAMES)  # an ordinary user's cannot be paused everywhere
def test_each_step_changes_the_state_and_is_told_in_order(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    create(engine, rootfs, "steps", "sleep", "1000")
    assert state(engine, "steps")["Status"] == "created"
    engine.cli("init", "steps")
    assert state(engine, "steps")["Status"] == "initialized"
    engine.cli("start", "steps")
    running = state(engine, "steps")
    assert (running["Status"], running["Running"]) == ("running", True)
    assert Path(f"/proc/{running['Pid']}").exists() or engine.place.runtime == "crun"
    engine.cli("pause", "steps")
    assert state(engine, "steps")["Paused"]
    engine.cli("unpause", "steps")
    engine.cli("rename", "steps", "stairs")
    engine.cli("stop", "-t", "0", "stairs")
    ended = state(engine, "stairs")
    assert (ended["Status"], ended["ExitCode"], ended["Pid"]) == ("exited", 137, 0)
    engine.cli("restart", "stairs")
    engine.cli("kill", "stairs")
    engine.cli("wait", "stairs")
    id = engine.inspect("stairs")["Id"]
    engine.cli("rm", "stairs")
    assert statuses(engine, id) == [
        *("create", "init", "start", "pause", "unpause", "rename", "died", "stop", "cleanup"),
        *("init", "start", "restart", "kill", "died", "cleanup", "remove"),
    ]


def test_a_stop_signal_that_is_handled_ends_it_without_sigkill(shared_engine: Engine, rootfs: Path) -> None:
    script = "trap 'exit 5' USR1; while :; do sleep 0.1; done"
    create(shared_engine, rootfs, "polite", "sh", "-c", script, options=("--stop-signal", "USR1"))
    shared_engine.cli("start", "polite")
    shared_engine.await_handler("polite", signal.SIGUSR1)
    shared_engine.cli("stop", "polite")
    assert state(shared_engine, "polite")["ExitCode"] == 5
    (stop,) = shared_engine.events(container=["polite"], event=["stop"])
    assert stop["Attributes"]["forced"] == "false"


@pytest.mark.oci_runtime(*BY_USER)
def test_several_names_each_get_their_own_answer(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "one", "true")
    done = shared_engine.cli("rm", "one", "two", check=False)
    assert done.stdout == "one\n"
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "'two'" in done.stderr


def test_wait_knows_stopped_removed_and_several(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    for name, code in (("w1", 3), ("w2", 4)):
        engine.cli(
            "run", "-d", "--name", name, "--rootfs", f"{rootfs}:O", "sh", "-c", f"sleep 0.3; exit {code}"
        )
    assert engine.out("wait", "w1", "w2") == "3\n4"
    with engine.spawn("wait", "--condition", "removed", "w1") as waiter:
        until(lambda: processes.awaits_answer(waiter.pid), "it does not wait")
        engine.cli("rm", "w1")
        assert waiter.wait(20) == 0


def test_a_running_container_is_removed_only_with_force(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("run", "-d", "--name", "busy", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    refused = shared_engine.cli("rm", "busy", check=False)
    assert refused.returncode != 0
    assert "--force" in refused.stderr
    shared_engine.cli("rm", "-f", "-t", "0", "busy")
    assert shared_engine.out("ps", "-aq") == ""


@pytest.mark.oci_runtime(*BY_USER)
def test_a_name_can_be_used_once_and_replaced_on_request(shared_engine: Engine, rootfs: Path) -> None:
    first = create(shared_engine, rootfs, "only", "true")
    refused = shared_engine.cli("create", "--name", "only", "--rootfs", f"{rootfs}:O", "true", check=False)
    assert refused.returncode == 125
    assert first[:12] in refused.stderr
    second = create(shared_engine, rootfs, "only", "true", options=("--replace",))
    assert shared_engine.inspect("only")["Id"] == second != first


@pytest.mark.parametrize("command, code", [("/bin/nothing", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_run_has_podmans_exit_code_and_leaves_nothing(
    shared_engine: Engine, rootfs: Path, command: str, code: int
) -> None:
    done = shared_engine.cli("run", "--rm", "--rootfs", f"{rootfs}:O", command, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert shared_engine.out("ps", "-aq") == ""


def test_writes_to_an_overlay_end_with_the_run_and_the_directory_stays(
    shared_engine: Engine, rootfs: Path
) -> None:
    create(shared_engine, rootfs, "cow", "sh", "-c", "test ! -e /made && touch /made")
    for _ in range(2):
        shared_engine.cli("start", "-a", "cow")
    assert not (rootfs / "made").exists()


def test_a_container_sees_what_was_asked_for(shared_engine: Engine, rootfs: Path) -> None:
    options = ("-e", "A=1", "-w", "/tmp", "-u", "7:8", "--hostname", "box", "--read-only")
    script = 'echo "$A $(pwd) $(id -u):$(id -g) $(hostname) $HOSTNAME"; touch /x 2>/dev/null || echo ro'
    done = shared_engine.cli("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    assert done.stdout == "1 /tmp 7:8 box box\nro\n"


def test_pidfile_and_cidfile_say_who_it_is(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    pidfile, cidfile = engine.path / "pid", engine.path / "cid"
    pidfile.unlink(missing_ok=True)
    cidfile.unlink(missing_ok=True)
    engine.cli(
        *("run", "-d", "--name", "files", "--pidfile", pidfile, "--cidfile", cidfile),
        *("--rootfs", f"{rootfs}:O", "sleep", "1000"),
    )
    assert int(pidfile.read_text()) == state(engine, "files")["Pid"]
    assert cidfile.read_text().strip() == engine.inspect("files")["Id"]
    engine.cli("rm", "-f", "-t", "0", "--cidfile", cidfile)
    assert engine.out("ps", "-aq") == ""


def test_init_reaps_and_forwards(shared_engine: Engine, rootfs: Path) -> None:
    done = shared_engine.cli(
        "run", "--rm", "--init", "--rootfs", f"{rootfs}:O", "sh", "-c", "cat /proc/1/comm; echo $$"
    )
    first, pid = done.stdout.split()
    assert first in ("catatonit", "podman-init")
    assert pid != "1"


def test_a_running_containers_name_and_policy_can_be_changed(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("run", "-d", "--name", "old", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    shared_engine.cli("rename", "old", "new")
    shared_engine.cli("update", "--restart", "on-failure:3", "new")
    policy = shared_engine.inspect("new")["HostConfig"]["RestartPolicy"]
    assert (policy["Name"], policy["MaximumRetryCount"]) == ("on-failure", 3)
    assert shared_engine.cli("inspect", "old", check=False).returncode != 0
    (event,) = shared_engine.events(container=["new"], event=["rename"])
    assert event["Name"] == "new", "as Podman tells it"
    assert event["Attributes"] == {"oldName": "old", "newName": "new"}


@pytest.mark.oci_runtime(*BY_USER)
def test_labels_are_in_every_event_and_filters_find_them(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "lab", "true", options=("--label", "team=blue"))
    create(shared_engine, rootfs, "oth", "true")
    assert shared_engine.out("ps", "-a", "--filter", "label=team=blue", "--format", "{{.Names}}") == "lab"
    assert {event["Name"] for event in shared_engine.events(label=["team=blue"])} == {"lab"}


@pytest.mark.oci_runtime(*BY_USER)
def test_ps_json_has_podmans_keys(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "j", "true")
    (line,) = json.loads(shared_engine.out("ps", "-a", "--format", "json"))
    for key in ("Id", "Names", "State", "Command", "Created", "ExitCode", "Pid", "Labels", "Status"):
        assert key in line


def test_a_timed_out_stop_is_forced_and_says_so(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    shared_engine.cli("start", "deaf")
    shared_engine.cli("stop", "-t", "1", "deaf")
    assert state(shared_engine, "deaf")["ExitCode"] == 137
    (stop,) = shared_engine.events(container=["deaf"], event=[EventStatus.STOP.value])
    assert stop["Attributes"]["forced"] == "true"


@pytest.mark.oci_runtime(*NAMES)  # an ordinary user's cannot be paused everywhere
def test_a_paused_container_can_be_stopped(shared_engine: Engine, rootfs: Path) -> None:
    create(shared_engine, rootfs, "frozen", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    shared_engine.cli("start", "frozen")
    shared_engine.cli("pause", "frozen")
    shared_engine.cli("stop", "frozen")
    assert state(shared_engine, "frozen")["Status"] == "exited"


@pytest.mark.oci_runtime(*BY_USER)
@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--rootfs", "/does/not/exist"), "does not exist"),
        (("--rootfs", "/etc/passwd"), "not a directory"),
        (("--restart", "sometimes", "--rootfs", "/"), "sometimes"),
        (("--rm", "--restart", "always", "--rootfs", "/"), "--rm"),
        (("--log-driver", "journald", "--rootfs", "/"), "journald"),
        (("--stop-signal", "NOPE", "--rootfs", "/"), "NOPE"),
        (("--name", "../x", "--rootfs", "/"), "../x"),
        (("--runtime", "norun", "--rootfs", "/"), "norun"),
        (("--ulimit", "nofile=1:2:3", "--rootfs", "/"), "nofile"),
        (("--network", "no-such", "--rootfs", "/"), "no-such"),
        (("--pidfile", "/no/such/pid", "--rootfs", "/"), "/no/such/pid"),
        (("--conmon-pidfile", "/no/such/pid", "--rootfs", "/"), "/no/such/pid"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_made(
    shared_engine: Engine, arguments: tuple[str, ...], said: str
) -> None:
    done = shared_engine.cli("create", *arguments, "true", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr
    assert shared_engine.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    "words", ["--user nosuch", "--user :nosuch", "--user 99999999999", "--workdir /nosuch"]
)
def test_a_command_that_nobody_could_be_is_exit_status_126(
    shared_engine: Engine, rootfs: Path, words: str
) -> None:
    done = shared_engine.cli("run", "--rm", *words.split(), "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 126
    assert words.split()[1].lstrip(":") in done.stderr
    assert shared_engine.out("ps", "-aq") == ""
    assert os.listdir(shared_engine.root / "pyman/containers") == []


def test_whoever_waits_for_something_else_than_its_end_is_told_no_exit_code(
    shared_engine: Engine, rootfs: Path
) -> None:
    """Not that of the run before, either."""
    create(shared_engine, rootfs, "c", "sleep", "1000")
    assert shared_engine.out("wait", "--condition", "created", "c") == "-1"
    shared_engine.cli("start", "c")
    shared_engine.cli("kill", "c")
    assert shared_engine.out("wait", "c") == "137"
    with shared_engine.spawn("wait", "--condition", "running", "c") as waiting:
        shared_engine.cli("start", "c")
        told, _ = waiting.communicate(timeout=20)
    assert told == b"-1\n"
    assert shared_engine.out("wait", "--condition", "running,exited", "c") == "-1"


@pytest.mark.parametrize("condition", ["stopped", "exited"])
def test_what_has_exited_is_stopped_as_well(shared_engine: Engine, rootfs: Path, condition: str) -> None:
    create(shared_engine, rootfs, "done", "sh", "-c", "exit 4")
    shared_engine.cli("start", "done")
    for _ in range(2):
        assert shared_engine.out("wait", "--condition", condition, "done") == "4"
