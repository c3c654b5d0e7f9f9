"""A full disk: what cannot be done is said in one line, nothing is half-made, and room is all that is needed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.disk import appears
from tests.support import processes
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess

    from tests.faults.conftest import Faulty, MakeEngine
    from tests.faults.disk import Disk


KERNEL_KEEPS_STATUS = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)
NO_SESSION = 255
"""Podman's exit status where the container is there and the session could not be made."""


@pytest.fixture
def cramped(make_engine: MakeEngine, small_disk: Disk) -> Faulty:
    """Its whole state is on the small disk."""
    return make_engine(disk=small_disk.path)


def refused(done: subprocess.CompletedProcess[str], code: int = 125) -> None:
    assert done.returncode == code, done
    assert done.stderr.startswith("Error: cannot ")
    assert done.stderr.count("\n") == 1
    assert "full" in done.stderr or "No space left" in done.stderr


def state(engine: Faulty, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def test_a_container_is_created_as_a_whole_or_not_at_all(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    small_disk.fill()
    made: list[str] = []
    while True:
        done = cramped.cli("create", "--name", f"c{len(made)}", "--rootfs", rootfs, "true", check=False)
        if done.returncode:
            break
        made.append(done.stdout.strip())
        assert len(made) < 200
    refused(done)
    assert sorted(cramped.out("ps", "-aq", "--no-trunc").split()) == sorted(made)
    small_disk.make_room()
    cramped.cli("run", "--rm", "--name", f"c{len(made)}", "--rootfs", f"{rootfs}:O", "true")


def exhaust(engine: Faulty, disk: Disk, rootfs: Path) -> None:
    """Fill the disk, and what room the database still has inside its own files."""
    disk.fill()
    spec = {"rootfs": str(rootfs), "command": ["true"], "labels": {"bulk": "x" * 20_000}}
    smaller = {"rootfs": str(rootfs), "command": ["true"]}
    for wish in (spec, smaller):
        for _ in range(500):
            try:
                engine.call("io.pyman.Container.Create", {"spec": wish})
            except VarlinkError as error:
                if error.name == "io.pyman.DiskFull":
                    break
                raise
        else:
            raise AssertionError("the disk is larger than thought")


def test_what_needs_no_room_of_its_own_goes_on(cramped: Faulty, small_disk: Disk, rootfs: Path) -> None:
    id = cramped.out("create", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    exhaust(cramped, small_disk, rootfs)
    for _ in range(3):
        cramped.cli("start", "web")
        cramped.cli("rename", "web", "other")
        cramped.cli("stop", "-t", "0", "other")
        cramped.cli("rename", "other", "web")
    assert len(cramped.events(container=[id], event=["died"])) == 3


def test_an_end_is_told_though_nothing_has_room_left(cramped: Faulty, small_disk: Disk, rootfs: Path) -> None:
    """conmon has no room for the exit code; from Linux 6.15 on the kernel still knows it."""
    script = "while [ ! -e /go ]; do sleep 0.02; done; exit 7"
    cramped.cli("run", "-d", "--name", "job", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    init = state(cramped, "job")["Pid"]
    exhaust(cramped, small_disk, rootfs)
    Path(f"/proc/{init}/root/go").touch()
    code = cramped.out("wait", "job")
    assert code == ("7" if KERNEL_KEEPS_STATUS else "-1")
    (died,) = cramped.events(container=["job"], event=["died"])
    assert died["Attributes"]["containerExitCode"] == code
    cramped.cli("wait", "--condition", "exited", "job")


def test_a_policy_goes_on_though_nothing_has_room_left(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    engine = cramped
    options = ("--restart", "always", "--name", "web", "--rootfs", f"{rootfs}:O")
    engine.cli("run", "-d", *options, "sleep", "1000")
    init = state(engine, "web")["Pid"]
    exhaust(engine, small_disk, rootfs)
    os.kill(init, signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "restart" and event["Name"] == "web")
    assert state(engine, "web")["Status"] == "running"
    assert len(engine.events(container=["web"], event=["died"])) == 1


def test_removing_containers_makes_room_where_there_is_none(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    """What else could a user do?"""
    exhaust(cramped, small_disk, rootfs)
    cramped.cli("rm", "--all")
    assert cramped.out("ps", "-aq") == ""


def test_a_container_can_be_stopped_and_removed_on_a_full_disk(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    cramped.cli("run", "-d", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    exhaust(cramped, small_disk, rootfs)
    cramped.cli("rm", "-f", "-t", "0", "web")
    until(lambda: processes.mentions([str(cramped.tmpdir / "containers")]) == set(), "a process stays")


def test_an_exec_session_that_cannot_be_recorded_is_refused_and_leaves_nothing(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    cramped.cli("run", "-d", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    exhaust(cramped, small_disk, rootfs)
    refused(cramped.cli("exec", "web", "true", check=False), NO_SESSION)
    assert cramped.inspect("web")["ExecIDs"] == []
    id = cramped.inspect("web")["Id"]
    until(lambda: not any((cramped.tmpdir / "containers" / id).glob("exec/*")), "something of it stays")
    small_disk.make_room()
    assert cramped.out("exec", "web", "echo", "works") == "works"


def test_a_daemon_killed_on_a_full_disk_comes_back_when_there_is_room(
    cramped: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    cramped.cli("run", "-d", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    before = state(cramped, "web")["Pid"]
    exhaust(cramped, small_disk, rootfs)
    cramped.kill(wait=False)
    with cramped.spawn("inspect", "--format", "{{.State.Pid}}", "web") as client:
        small_disk.make_room()
        assert client.wait(30) == 0
        assert client.stdout is not None
        assert int(client.stdout.read()) == before


def test_a_container_whose_log_has_no_room_can_be_stopped_and_its_log_be_read(
    faulty: Faulty, small_disk: Disk, rootfs: Path
) -> None:
    """conmon reads no more output of a container whose log it cannot write; that one waits on a full pipe."""
    log = small_disk.path / "app.log"
    options = ("--name", "loud", "--log-opt", f"path={log}", "--rootfs", f"{rootfs}:O")
    faulty.cli("run", "-d", *options, "sh", "-c", "yes | head -c 8000000; sleep 1000")
    assert small_disk.becomes_full()
    assert faulty.out("exec", "loud", "echo", "works") == "works"
    assert faulty.out("logs", "--tail", "1", "loud").startswith("y")
    faulty.cli("stop", "-t", "0", "loud")
    assert state(faulty, "loud")["ExitCode"] == 137
    log.unlink()
    faulty.cli("start", "loud")


def test_rotation_without_room_loses_no_container(faulty: Faulty, small_disk: Disk, rootfs: Path) -> None:
    log = small_disk.path / "app.log"
    options = ("--log-opt", f"path={log}", "--log-opt", "max-size=64k", "--log-opt", "max-file=3")
    script = "while [ ! -e /go ]; do head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 0.02; done; exit 4"
    faulty.cli("run", "-d", "--name", "loud", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    assert appears(Path(f"{log}.2"))
    small_disk.fill()
    assert faulty.out("exec", "loud", "echo", "alive") == "alive"
    small_disk.make_room()
    assert state(faulty, "loud")["Monitor"] in ("ok", "")
    faulty.cli("exec", "loud", "touch", "/go")
    faulty.cli("stop", "-t", "0", "loud")


def test_a_full_directory_for_temporary_files_is_said_and_no_more(
    make_engine: MakeEngine, small_disk: Disk, rootfs: Path
) -> None:
    engine = make_engine(start=False)
    engine.tmpdir = small_disk.path / "tmp"
    engine.start()
    engine.cli("run", "-d", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    small_disk.fill()
    refused(engine.cli("run", "--name", "new", "--rootfs", f"{rootfs}:O", "true", check=False))
    assert engine.out("ps", "-a", "--filter", "name=new", "--format", "{{.Status}}").startswith("Created")
    refused(engine.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true", check=False))
    refused(engine.cli("exec", "web", "true", check=False), NO_SESSION)
    assert len(engine.out("ps", "-aq").split()) == 2
    small_disk.make_room()
    engine.cli("start", "-a", "new")
    assert engine.out("exec", "web", "echo", "works") == "works"
    engine.cli("rm", "-f", "-t", "0", "--all")
    until(lambda: not list((engine.tmpdir / "containers").iterdir()), "something of them stays")
