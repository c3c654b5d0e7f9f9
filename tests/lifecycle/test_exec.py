"""Further commands in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.runtimes import NAMES
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine


@pytest.fixture
def web(shared_engine: Engine, rootfs: Path) -> Engine:
    shared_engine.cli(
        "run", "-d", "--name", "web", "-e", "A=container", "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    return shared_engine


def test_streams_and_the_exit_code_come_back(web: Engine) -> None:
    done = web.cli("exec", "-i", "web", "sh", "-c", "cat; echo err >&2; exit 5", input="in\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "err\n", 5)


def test_options_reach_the_command(web: Engine) -> None:
    script = 'echo "$A $B $(pwd) $(id -u)"'
    done = web.cli("exec", "-e", "B=exec", "-w", "/tmp", "-u", "9", "web", "sh", "-c", script)
    assert done.stdout == "container exec /tmp 9\n"


@pytest.mark.parametrize("command, code", [("/bin/nothing", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_run_has_podmans_exit_code(web: Engine, command: str, code: int) -> None:
    done = web.cli("exec", "web", command, check=False)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1


def test_a_working_directory_that_does_not_exist_is_named(web: Engine) -> None:
    done = web.cli("exec", "-w", "/no/dir", "web", "true", check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (127, "", 1), done.stderr
    assert "the working directory '/no/dir' cannot be used: it does not exist" in done.stderr


def test_a_detached_session_is_listed_while_it_runs_and_its_exit_code_can_be_asked_for(web: Engine) -> None:
    session = web.out("exec", "-d", "web", "sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 3")
    assert web.inspect("web")["ExecIDs"] == [session]
    seq = web.events()[-1]["Seq"]
    web.cli("exec", "web", "touch", "/go")
    web.await_event(lambda e: e["Status"] == "exec_died" and e["Attributes"]["execID"] == session, seq - 1)
    told = web.call("io.pyman.Container.ExecInspect", {"exec_id": session})["session"]
    assert (told["Running"], told["ExitCode"]) == (False, 3)


def test_a_session_survives_the_daemon_and_its_end_is_told(web: Engine) -> None:
    session = web.out("exec", "-d", "web", "sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 3")
    web.kill()
    assert web.inspect("web")["ExecIDs"] == [session]
    web.cli("exec", "web", "touch", "/go")
    died = web.await_event(lambda e: e["Status"] == "exec_died" and e["Attributes"]["execID"] == session)
    assert died["Attributes"]["containerExitCode"] == "3"


def test_a_session_ends_with_its_container(web: Engine) -> None:
    with web.spawn("exec", "web", "sh", "-c", "echo up; sleep 1000") as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"up\n"
        web.cli("stop", "-t", "0", "web")
        assert session.wait(20) == 137
    assert web.inspect("web")["ExecIDs"] == []


@pytest.mark.oci_runtime(*NAMES)  # an ordinary user's cannot be paused everywhere
def test_only_a_running_container_can_be_entered(web: Engine) -> None:
    web.cli("pause", "web")
    assert "paused" in web.cli("exec", "web", "true", check=False).stderr
    web.cli("unpause", "web")


def test_many_sessions_leave_nothing_behind(web: Engine) -> None:
    _leave_nothing_behind(web, 60)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.oci_runtime("crun")  # its sessions take half as long
def test_a_thousand_sessions_leave_nothing_behind(web: Engine) -> None:
    _leave_nothing_behind(web, 1000)


def _leave_nothing_behind(web: Engine, count: int) -> None:
    daemon = web.pid
    id = web.inspect("web")["Id"]
    descriptors = len(processes.descriptors(daemon))
    for _ in range(count):
        web.call_stream("io.pyman.Container.Exec", {"name": "web", "command": ["true"], "detach": True})
    events = web.follow(0, container=[id], event=["exec_died"])  # others had the same name
    for _ in range(count):
        next(events)
    assert web.inspect("web")["ExecIDs"] == []
    assert processes.wait_empty(web.tmpdir / "containers" / id / "exec", 20)
    # Up to four connections that read the database, of three descriptors each, are kept once they were needed.
    most = descriptors + 2 + 4 * 3
    until(lambda: len(processes.descriptors(daemon)) <= most, "descriptors stay")
    until(lambda: processes.mentions([f"{id}/exec"]) == set(), "monitors stay")


@pytest.mark.parametrize("how", ["by itself", "rm -f"])
def test_the_removal_of_a_container_is_its_last_event_whatever_ran_in_it(
    shared_engine: Engine, rootfs: Path, how: str
) -> None:
    own = () if how == "rm -f" else ("--rm",)
    id = shared_engine.out("run", "-d", *own, "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    sessions = [shared_engine.out("exec", "-d", "c", "sleep", "1000") for _ in range(3)]
    if how == "rm -f":
        shared_engine.cli("rm", "-f", "-t", "0", "c")
    else:
        shared_engine.cli("kill", "c")
    shared_engine.await_event(lambda e: e["ID"] == id and e["Status"] == "remove")
    assert shared_engine.cli("wait", "--condition", "removed", "c", check=False).returncode in (0, 125)
    told = [event["Status"] for event in shared_engine.events(container=[id])]
    assert told[-1] == "remove"
    assert told.count("exec_died") == len(sessions)
    until(lambda: not processes.mentions([id]), "a process of it stays")


def test_a_container_that_makes_the_runtime_wait_is_left_as_it_was(engine: Engine, rootfs: Path) -> None:
    """An OCI runtime reads the account files in the container, and waits for whoever writes into a FIFO."""
    fifo = "rm -f /etc/group; mkfifo /etc/group; echo made; exec sleep 1000"
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sh", "-c", fifo)
    until(lambda: engine.out("logs", "c") == "made", "the file is a FIFO")
    with engine.configuration.open("a") as file:
        file.write("[pyman]\ncall_deadline = 2.0\n")
    engine.kill()  # it is read once, when the supervisor starts
    done = engine.cli("exec", "c", "true", check=False)
    assert (done.returncode, len(done.stderr.splitlines())) in (
        (255, 1),
        (0, 0),
    )  # crun of root's need not wait
    assert engine.out("top", "c", "args").splitlines() == ["COMMAND", "sleep 1000"]
    assert engine.inspect("c")["ExecIDs"] == []
