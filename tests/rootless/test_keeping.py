"""A user's namespaces outlive what is killed in them, as long as something lives there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes

if TYPE_CHECKING:
    from tests.rootless.support import UserEngine


def namespace(pid: int, kind: str = "user") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def run(engine: UserEngine, name: str = "c") -> int:
    engine.cli("run", "-d", "--name", name, "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    pid: int = engine.inspect(name)["State"]["Pid"]
    return pid


def test_a_killed_daemon_comes_back_in_the_same_namespaces(engine: UserEngine) -> None:
    pid, before = run(engine), namespace(engine.pid)
    engine.kill()
    assert namespace(engine.pid) == before
    assert engine.inspect("c")["State"]["Pid"] == pid
    assert engine.out("exec", "c", "echo", "works") == "works"


def test_the_next_supervisor_joins_what_a_container_keeps(engine: UserEngine) -> None:
    pid = run(engine)
    user, mount = namespace(engine.pid), namespace(engine.pid, "mnt")
    engine.kill_keeper()
    engine.start()
    assert (namespace(engine.pid), namespace(engine.pid, "mnt")) == (user, mount)
    assert engine.inspect("c")["State"]["Pid"] == pid
    assert engine.out("exec", "c", "echo", "works") == "works"
    engine.cli("stop", "-t", "0", "c")
    engine.cli("start", "c")


def test_where_conmon_died_too_the_user_namespace_is_joined_and_mounts_are_made_anew(
    engine: UserEngine,
) -> None:
    pid = run(engine)
    user = namespace(engine.pid)
    conmon = engine.inspect("c")["State"]["ConmonPid"]
    engine.kill_keeper()
    os.kill(conmon, signal.SIGKILL)
    assert not processes.wait_gone([conmon], 5)
    engine.start()
    assert namespace(engine.pid) == user
    assert engine.inspect("c")["State"]["Pid"] == pid
    engine.cli("stop", "-t", "0", "c")
    engine.cli("start", "c")
    assert engine.out("exec", "c", "echo", "works") == "works"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 1}', '{"user": "00", "mnt": "zz"}', "\xff" * 5000])
def test_a_file_that_is_none_is_as_good_as_none(engine: UserEngine, text: str) -> None:
    assert engine.stop() == 0
    path = engine.runtime_dir / "pyman/ns_handles"
    path.write_text(text)
    engine.user.owns(path)
    engine.start()
    assert engine.out("run", "--rm", "--rootfs", str(engine.rootfs), "id", "-u") == "0"
    assert Path(path).read_text() != text


def test_two_that_start_at_once_end_up_in_the_same_namespaces(engine: UserEngine) -> None:
    assert engine.stop() == 0
    others = [engine.path / f"root{number}" for number in range(3)]
    clients = [
        engine.spawn_other(root, "info", "--format", "{{.supervisor.pid}} {{.supervisor.keeperPid}}")
        for root in others
    ]
    told = [client.communicate(timeout=30)[0].split() for client in clients]
    engine.start()
    pids = [int(words[0]) for words in told]
    try:
        assert len({namespace(pid) for pid in [*pids, engine.pid]}) == 1
    finally:
        for words in told:
            os.kill(int(words[1]), signal.SIGTERM)
        assert not processes.wait_gone([int(words[1]) for words in told], 10)
