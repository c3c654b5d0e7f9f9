"""Containers of an ordinary user."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.user import User, UserEngine


def test_a_container_runs_as_root_among_the_users_ids(shared_engine: UserEngine, user: User) -> None:
    engine = shared_engine
    root = ("--rootfs", str(engine.rootfs))
    assert engine.out("run", "--rm", *root, "id", "-u") == "0"
    engine.cli("run", "--rm", *root, "touch", "/mine")
    assert os.stat(engine.rootfs / "mine").st_uid == user.uid
    engine.cli("run", "--rm", "--user", "1000", *root, "touch", "/tmp/theirs")
    theirs = os.stat(engine.rootfs / "tmp/theirs").st_uid
    assert theirs not in (user.uid, 1000, 0)


def test_it_lives_in_namespaces_that_are_not_the_hosts(shared_engine: UserEngine) -> None:
    engine = shared_engine
    daemon, keeper = engine.pid, engine.keeper_pid
    for kind in ("user", "mnt"):
        ours = os.readlink(f"/proc/self/ns/{kind}")
        assert os.readlink(f"/proc/{keeper}/ns/{kind}") == os.readlink(f"/proc/{daemon}/ns/{kind}") != ours
    assert Path(f"/proc/{daemon}/uid_map").read_text().split()[:3] == ["0", str(engine.user.uid), "1"]


def test_a_whole_life(shared_engine: UserEngine) -> None:
    engine = shared_engine
    root = ("--rootfs", str(engine.rootfs))
    id = engine.out(
        "run", "-d", "--name", "web", *root, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    )
    assert engine.out("exec", "web", "cat", "/proc/1/comm") == "sh"
    assert engine.out("ps", "--format", "{{.Names}}") == "web"
    engine.await_handler("web", signal.SIGTERM)
    engine.cli("stop", "web")
    assert engine.inspect("web")["State"]["ExitCode"] == 3
    engine.cli("start", "web")
    engine.cli("restart", "-t", "0", "web")
    engine.cli("rm", "-f", "-t", "0", "web")
    statuses = [event["Status"] for event in engine.events(container=[id])]
    assert statuses.count("died") == statuses.count("start") == 3


def test_writes_to_a_view_are_the_users_and_are_removed_with_it(shared_engine: UserEngine) -> None:
    engine = shared_engine
    engine.cli(
        "run",
        "-d",
        "--name",
        "c",
        "--rootfs",
        f"{engine.rootfs}:O",
        "sh",
        "-c",
        "mkdir /tmp/x; chown 1000 /tmp/x; chmod 0700 /tmp/x; touch /tmp/x/y; sleep 1000",
    )
    assert engine.out("exec", "c", "stat", "-c", "%u", "/") == "0"
    assert not (engine.rootfs / "tmp/x").exists()
    engine.cli("rm", "-f", "-t", "0", "c")


def test_what_it_is_told_by_info(shared_engine: UserEngine, user: User) -> None:
    engine = shared_engine
    host = engine.call("io.pyman.System.Info")["host"]
    assert host["security"]["rootless"] is True
    first, second = host["idMappings"]["uidmap"][:2]
    assert first == {"container_id": 0, "host_id": user.uid, "size": 1}
    assert second["container_id"] == 1
    assert second["size"] >= 65_536


def test_every_change_is_told_with_the_users_own_id(shared_engine: UserEngine, user: User) -> None:
    engine = shared_engine
    engine.cli("create", "--name", "changed", "--rootfs", str(engine.rootfs), "true")
    [event] = engine.events(container=["changed"], event=["create"])
    assert event["Actor"]["Uid"] == user.uid


def test_the_hosts_network_can_be_used(shared_engine: UserEngine) -> None:
    engine = shared_engine
    script = "readlink /proc/self/ns/net; ls /sys/class/net"
    seen = engine.out("run", "--rm", "--network", "host", "--rootfs", str(engine.rootfs), "sh", "-c", script)
    assert seen.splitlines()[0] == os.readlink("/proc/self/ns/net")


def test_a_terminal_can_be_had(shared_engine: UserEngine) -> None:
    engine = shared_engine
    engine.cli(
        "run", "-d", "-t", "--name", "c", "--rootfs", str(engine.rootfs), "sh", "-c", "tty; sleep 1000"
    )
    engine.cli("exec", "-t", "c", "tty")


def test_what_takes_a_cgroup_is_refused_by_name_where_there_is_none(shared_engine: UserEngine) -> None:
    engine = shared_engine
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    done = engine.cli("pause", "c", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("Error: cannot pause container 'c': it has no cgroup")
    assert engine.inspect("c")["State"]["Status"] == "running"
    assert engine.inspect("c")["State"]["CgroupPath"] == ""
