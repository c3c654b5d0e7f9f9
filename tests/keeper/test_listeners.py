"""The listening sockets: whose they are, where they come from, and that they come back."""

from __future__ import annotations

import os
import select
import shutil
import socket
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from pyman.errors import AlreadyRunning, PermissionDenied
from supervisor.listeners import Listeners, inherited
from tests.support.varlink import Wire, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.keeper.support import Supervisor

# What a service manager does: three listening sockets from descriptor 3 on, told to the process that it starts.
_ACTIVATE = """
import os, socket, sys
made = []
for path in sys.argv[1].split(","):
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    one.listen()
    made.append(one)
numbers = [os.dup(one.fileno()) for one in made]
for target, number in enumerate(numbers, 3):
    os.dup2(number, target)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(made)))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def listeners(short_path: Path) -> Iterator[Listeners]:
    made = Listeners(f"{short_path}/run/pyman/x.sock")
    yield made
    made.close()


def _watched(listeners: Listeners) -> select.poll:
    poll = select.poll()
    for descriptor, events in listeners.watch():
        poll.register(descriptor, events)
    return poll


def test_sockets_are_private_in_a_private_directory(listeners: Listeners) -> None:
    umask = os.umask(0)
    try:
        listeners.open()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(listeners.directory).st_mode) == 0o700
    assert list(listeners.sockets) == ["main", "events", "read"]
    for path in listeners.paths.values():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_closing_leaves_no_file(listeners: Listeners) -> None:
    listeners.open()
    listeners.close()
    assert os.listdir(listeners.directory) == []


def test_a_directory_that_is_open_to_others_is_closed_to_them(listeners: Listeners) -> None:
    os.makedirs(listeners.directory)
    os.chmod(listeners.directory, 0o777)
    listeners.open()
    assert stat.S_IMODE(os.stat(listeners.directory).st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_directory_of_another_user_is_refused(listeners: Listeners) -> None:
    os.makedirs(listeners.directory)
    os.chown(listeners.directory, 12345, 12345)
    with pytest.raises(PermissionDenied, match="belongs to user 12345"):
        listeners.open()


def test_a_directory_that_others_could_replace_is_refused(listeners: Listeners) -> None:
    os.makedirs(listeners.directory)
    os.chmod(os.path.dirname(listeners.directory), 0o777)
    with pytest.raises(PermissionDenied, match="others can replace it"):
        listeners.open()


def test_a_link_is_no_directory(listeners: Listeners, short_path: Path) -> None:
    (short_path / "run").mkdir()
    (short_path / "elsewhere").mkdir()
    (short_path / "run/pyman").symlink_to(short_path / "elsewhere")
    with pytest.raises(PermissionDenied, match="not a directory"):
        listeners.open()


def test_a_socket_that_nobody_answers_on_is_replaced(listeners: Listeners) -> None:
    os.makedirs(listeners.directory, 0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(listeners.paths["main"])
    listeners.open()
    with Wire(listeners.paths["main"]):
        pass


def test_a_socket_that_is_answered_is_left_alone(listeners: Listeners) -> None:
    os.makedirs(listeners.directory, 0o700)
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(listeners.paths["main"])
        alive.listen()
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
            listeners.open()
        with Wire(listeners.paths["main"]):
            pass
    assert os.listdir(listeners.directory) == ["x.sock"]


def test_a_path_may_be_longer_than_an_address(short_path: Path) -> None:
    listeners = Listeners(f"{short_path}/{'d' * 120}/x.sock")
    listeners.open()
    try:
        assert stat.S_ISSOCK(os.stat(listeners.paths["main"]).st_mode)
    finally:
        listeners.close()


@pytest.mark.parametrize("level", ["run/pyman/x.sock", "run/pyman/x.lock", "run/pyman", "run"])
def test_what_vanishes_is_made_again(listeners: Listeners, short_path: Path, level: str) -> None:
    listeners.open()
    poll = _watched(listeners)
    assert not poll.poll(0)
    target = short_path / level
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert poll.poll(20_000)
    assert listeners.renew() == (not level.endswith("lock"))
    with Wire(listeners.paths["main"]):
        listeners.sockets["main"].accept()[0].close()
    assert not poll.poll(0) or not listeners.renew()


def test_what_cannot_be_made_again_yet_is_made_when_it_can(listeners: Listeners, short_path: Path) -> None:
    """A logout takes the directory above too, and the next login brings it."""
    listeners.open()
    poll = _watched(listeners)
    shutil.rmtree(short_path / "run")
    (short_path / "run").write_text("in the way")
    assert poll.poll(20_000)
    assert not listeners.renew()
    (short_path / "run").unlink()
    (short_path / "run").mkdir()
    assert poll.poll(20_000)
    assert listeners.renew()
    with Wire(listeners.paths["main"]):
        pass


def test_a_change_of_mode_is_taken_back(listeners: Listeners) -> None:
    listeners.open()
    poll = _watched(listeners)
    os.chmod(listeners.directory, 0o755)
    assert poll.poll(20_000)
    assert not listeners.renew()
    assert stat.S_IMODE(os.stat(listeners.directory).st_mode) == 0o700


def test_somebody_elses_file_in_the_directory_changes_nothing(listeners: Listeners) -> None:
    listeners.open()
    poll = _watched(listeners)
    path = f"{listeners.directory}/other"
    with open(path, "w", encoding="ascii"):
        pass
    os.unlink(path)
    poll.poll(0)
    assert not listeners.renew()


def test_descriptors_for_another_process_are_not_taken() -> None:
    assert inherited({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}, os.getpid()) == []
    assert inherited({}, os.getpid()) == []


def test_sockets_of_a_service_manager_are_used_and_left_in_place(supervisor: Supervisor) -> None:
    """Without a main process of their own they stay where they are: the manager listens on."""
    main = f"/run/pyman/{supervisor.stem}.sock"
    given = [main, main.replace(".sock", "-read.sock")]
    os.makedirs("/run/pyman", 0o700, exist_ok=True)
    supervisor.prefix = [sys.executable, "-c", _ACTIVATE, ",".join(given)]
    before = {}
    supervisor.begin()
    supervisor.await_notice(lambda lines: "READY=1" in lines)
    before = {path: os.stat(path).st_ino for path in given}
    assert call(main, "io.pyman.System.Version")["Version"] == "0"
    assert call(given[1], "io.pyman.System.Version")["Version"] == "0"
    assert os.path.exists(main.replace(".sock", "-events.sock"))  # was not given
    environ = call(main, "io.pyman.System.Info")["supervisor"]["environ"]
    assert not [name for name in environ if name.startswith("LISTEN_")]
    assert supervisor.end() == 0
    assert {path: os.stat(path).st_ino for path in given} == before
    assert not os.path.exists(main.replace(".sock", "-events.sock"))


def test_it_is_started_by_the_first_connection(supervisor: Supervisor) -> None:
    """systemd's own tool in the manager's place: the client that triggers the start is answered."""
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("systemd-socket-activate is not installed")
    main = f"/run/pyman/{supervisor.stem}.sock"
    os.makedirs("/run/pyman", 0o700, exist_ok=True)
    supervisor.prefix = [tool, f"--listen={main}"]
    for name in ("PATH", "HOME", "NOTIFY_SOCKET"):
        supervisor.prefix.append(f"--setenv={name}={supervisor.environment[name]}")
    supervisor.begin()
    supervisor.await_log("Listening on")
    assert call(main, "io.pyman.System.Info")["supervisor"]["keeper_pid"] == supervisor.pid
    assert supervisor.end() == 0


def vanish(directory: str) -> None:
    """In one step: file by file, some would be made again before the last has gone."""
    os.rename(directory, f"{directory}-gone")
    shutil.rmtree(f"{directory}-gone")


def test_clients_find_the_supervisor_after_its_directory_was_removed(secluded: Supervisor) -> None:
    secluded.start()
    daemon = secluded.daemon
    vanish(os.path.dirname(secluded.socket))
    secluded.await_log("sockets were made again")
    assert secluded.daemon == daemon


def test_a_daemon_that_starts_after_the_removal_gets_the_new_sockets(secluded: Supervisor) -> None:
    secluded.start()
    vanish(os.path.dirname(secluded.socket))
    secluded.await_log("sockets were made again")
    secluded.kill()
