"""A user's namespaces outlive what is killed in them, as long as something lives there."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pyman.errors import UserNamespaceFailed
from supervisor.rootless.entering import NO_HANDLES, enter
from tests.support import processes, sharing
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.user import User


@pytest.fixture(scope="module", autouse=True, params=["handles", "pause process"])
def keeping(request: pytest.FixtureRequest) -> dict[str, str]:
    """Both ways of finding the namespaces again."""
    return {NO_HANDLES: "1"} if request.param == "pause process" else {}


@pytest.fixture(scope="module")
def module_engine(user: User, programs: Path, keeping: dict[str, str]) -> Iterator[UserEngine]:
    """One for each way."""
    with sharing.shared(UserEngine(user, programs, more=keeping)) as engine:
        yield engine


def told(engine: UserEngine) -> Path:
    """The file by which they are found."""
    named = {name: engine.runtime_dir / "pyman" / name for name in ("ns_handles", "pause.pid")}
    [found] = [path for path in named.values() if path.exists()]
    return found


def namespace(pid: int, kind: str = "user") -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def run(engine: UserEngine, name: str = "c") -> int:
    root = ("--rootfs", f"{engine.rootfs}:O")
    engine.cli("run", "-d", "--name", name, "--stop-timeout", "0", *root, "sleep", "1000")
    pid: int = engine.inspect(name)["State"]["Pid"]
    return pid


def works_on(engine: UserEngine, pid: int, user: str, *, entered: bool = True) -> None:
    """The supervisor is in that user namespace, and does with the container c what it should. `entered`: also
    with the process that an earlier one had started."""
    assert namespace(engine.pid) == user
    assert engine.inspect("c")["State"]["Pid"] == pid
    if entered:
        assert engine.out("exec", "c", "echo", "works") == "works"
    engine.cli("stop", "-t", "0", "c")
    engine.cli("start", "c")
    assert engine.out("exec", "c", "echo", "works") == "works"


def test_the_first_daemon_joins_what_its_keeper_has_made(engine: UserEngine) -> None:
    """Its process began before there was anything to join; later ones start inside."""
    outside = namespace(os.getpid())
    for _ in range(2):
        daemon, keeper = engine.pid, engine.keeper_pid
        assert namespace(daemon) == namespace(keeper) != outside
        assert namespace(daemon, "mnt") == namespace(keeper, "mnt") != namespace(os.getpid(), "mnt")
        assert processes.parent(daemon) == keeper
        engine.kill()


def test_the_first_daemon_dies_with_its_keeper_after_it_has_joined(engine: UserEngine) -> None:
    """A change of credentials may take back what it has asked the kernel for."""
    engine.kill_keeper()  # which looks whether the daemon is gone


def test_a_killed_daemon_comes_back_in_the_same_namespaces(shared_engine: UserEngine) -> None:
    engine = shared_engine
    pid, before = run(engine), namespace(engine.pid)
    engine.kill()
    assert namespace(engine.pid) == before
    assert engine.inspect("c")["State"]["Pid"] == pid
    assert engine.out("exec", "c", "echo", "works") == "works"


def test_the_next_supervisor_joins_what_a_container_keeps(shared_engine: UserEngine) -> None:
    engine = shared_engine
    pid = run(engine)
    user, mount = namespace(engine.pid), namespace(engine.pid, "mnt")
    engine.kill_keeper()
    engine.start()
    assert namespace(engine.pid, "mnt") == mount
    works_on(engine, pid, user)


def test_where_conmon_died_too_the_user_namespace_is_joined_and_mounts_are_made_anew(
    shared_engine: UserEngine,
) -> None:
    engine = shared_engine
    pid = run(engine)
    user = namespace(engine.pid)
    conmon = engine.inspect("c")["State"]["ConmonPid"]
    engine.kill_keeper()
    os.kill(conmon, signal.SIGKILL)
    assert not processes.wait_gone([conmon], 20)
    engine.start()
    works_on(engine, pid, user, entered=False)


def test_a_killed_pause_process_costs_nothing_while_the_supervisor_lives_and_is_replaced(
    shared_engine: UserEngine, keeping: dict[str, str]
) -> None:
    engine = shared_engine
    if not keeping:
        assert not list((engine.runtime_dir / "pyman").glob("pause*"))
        return
    pid, before = run(engine), namespace(engine.pid)
    paused = int(told(engine).read_text().split()[0])
    assert namespace(paused) == before
    os.kill(paused, signal.SIGKILL)
    assert not processes.wait_gone([paused], 20)
    deadline = time.monotonic() + 20
    while (another := int(told(engine).read_text().split()[0])) == paused:
        assert time.monotonic() < deadline, "nobody has brought it back"
        time.sleep(0.01)
    assert namespace(another) == before
    engine.kill_keeper()
    engine.start()
    works_on(engine, pid, before)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 1}', '{"user": "00", "mnt": "zz"}', "\xff" * 5000])
def test_a_file_that_is_none_is_as_good_as_none(
    shared_engine: UserEngine, keeping: dict[str, str], text: str
) -> None:
    engine = shared_engine
    assert engine.stop() == 0
    path = told(engine)
    if keeping:  # nobody knows it any more
        os.kill(int(path.read_text().split()[0]), signal.SIGKILL)
    path.write_text(text)
    engine.user.owns(path)
    engine.start()
    assert engine.out("run", "--rm", "--rootfs", str(engine.rootfs), "id", "-u") == "0"
    assert told(engine).read_text() != text


def test_a_pid_that_is_anothers_by_now_leads_nowhere(
    shared_engine: UserEngine, keeping: dict[str, str]
) -> None:
    engine = shared_engine
    assert engine.stop() == 0
    path = told(engine)
    if keeping:
        os.kill(int(path.read_text().split()[0]), signal.SIGKILL)
        path.write_text(f"{os.getpid()} 1\n")
    else:
        path.write_text(path.read_text().replace('"user": "', '"user": "00'))
    engine.start()
    assert namespace(engine.pid) != namespace(os.getpid())
    assert engine.out("run", "--rm", "--rootfs", str(engine.rootfs), "id", "-u") == "0"


def test_unshare_joins_the_supervisors_namespaces_and_its_commands_are_the_users(
    shared_engine: UserEngine,
) -> None:
    engine = shared_engine
    ns = engine.out("unshare", "readlink", "/proc/self/ns/user")
    assert ns == namespace(engine.pid)
    assert engine.out("unshare", "id", "-u") == "0"
    run(engine)
    assert (
        engine.out("unshare", engine.programs / "pyman", *engine.selection, "ps", "--format", "{{.Names}}")
        == "c"
    )
    assert engine.cli("unshare", "no-such-command", check=False).returncode == 127
    assert engine.cli("unshare", "sh", "-c", "exit 7", check=False).returncode == 7


def test_a_reset_leaves_nothing_of_them(engine: UserEngine) -> None:
    run(engine)
    before = told(engine)
    engine.keeper_ends()
    engine.cli("system", "reset", "-f")
    assert not before.exists()
    assert not processes.mentions([str(engine.tmpdir)])
    engine.start()
    assert engine.out("run", "--rm", "--rootfs", str(engine.rootfs), "id", "-u") == "0"


@pytest.mark.parametrize("left", ["nothing", "a container without conmon"])
def test_those_that_start_at_once_end_up_in_the_same_namespaces(engine: UserEngine, left: str) -> None:
    if left == "nothing":
        assert engine.stop() == 0
    else:
        run(engine)
        conmon = engine.inspect("c")["State"]["ConmonPid"]
        engine.kill_keeper()
        os.kill(conmon, signal.SIGKILL)
        assert not processes.wait_gone([conmon], 20)
    clients = [
        engine.spawn_other(
            engine.path / f"root{number}", "info", "--format", "{{.supervisor.pid}} {{.supervisor.keeperPid}}"
        )
        for number in range(3)
    ]
    others = [list(map(int, client.communicate(timeout=30)[0].split())) for client in clients]
    engine.start()
    pids = [engine.pid, *(daemon for daemon, _ in others)]
    keepers = [keeper for _, keeper in others]
    try:
        assert len({namespace(pid) for pid in pids}) == len({namespace(pid, "mnt") for pid in pids}) == 1
    finally:
        for keeper in keepers:
            os.kill(keeper, signal.SIGTERM)
        assert not processes.wait_gone(keepers, 10)


def test_what_is_in_the_way_of_keeping_them_is_a_typed_error(tmp_path: Path) -> None:
    """A full disk, a directory that has gone: nothing is entered then."""
    before = namespace(os.getpid())
    with pytest.raises(UserNamespaceFailed, match="no such file or directory"):
        enter(str(tmp_path / "gone"))
    assert namespace(os.getpid()) == before
