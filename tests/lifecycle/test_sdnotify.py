"""What is said to whoever waits on $NOTIFY_SOCKET, and what a container can say there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER
from tests.support.systemd_root import MOUNTS, make_systemd_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

as_root = pytest.mark.oci_runtime("runc", "crun")
by_user = pytest.mark.oci_runtime(*BY_USER)
with_others = pytest.mark.oci_runtime(*BY_USER, "trixie")
"""Also with a newer conmon."""
AWAITING = 30.0


class Manager:
    """In the place of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._socket.settimeout(AWAITING)

    def told(self) -> str:
        """The next message."""
        return self._socket.recv(1 << 16).decode()

    def nothing_more(self) -> bool:
        self._socket.setblocking(False)
        try:
            return self._socket.recv(1 << 16) == b""
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(AWAITING)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def manager(shared_engine: Engine) -> Iterator[Manager]:
    made = Manager(shared_engine.path / "manager")
    yield made
    made.close()


@contextmanager
def run(
    engine: Engine, manager: Manager, rootfs: Path, *words: str, script: str = "exec sleep 1000"
) -> Iterator[None]:
    """A container c whose command is a shell script."""
    options = ("run", "-d", "--name", "c", *words, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    engine.cli(*options, env={"NOTIFY_SOCKET": str(manager.path)})
    yield
    engine.cli("rm", "-f", "-t", "0", "c")


SAYS = """\
import os, socket, sys
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for word in sys.argv[1:]:
    out.sendto(word.encode().decode("unicode_escape").encode(), os.environ["NOTIFY_SOCKET"])
print(os.environ["NOTIFY_SOCKET"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def python() -> Iterator[Path]:
    """A root file system with the host's Python, if its /usr is mounted."""
    directory = Path(tempfile.mkdtemp(prefix="pm-python-", dir="/tmp"))
    try:
        yield make_systemd_root(directory / "root")
    finally:
        shutil.rmtree(directory)


def says(engine: Engine, manager: Manager, python: Path, *words: str, options: tuple[str, ...] = ()) -> None:
    """A container c that says this, message by message."""
    given = ("run", "-d", "-i", "--name", "c", *MOUNTS, *options, "--rootfs", f"{python}:O")
    engine.cli(*given, "python3", "-c", SAYS, *words, env={"NOTIFY_SOCKET": str(manager.path)})


def monitor(engine: Engine) -> str:
    return f"MAINPID={engine.inspect('c')['State']['ConmonPid']}"


@by_user
def test_conmon_is_the_main_process_and_ready_at_once(
    shared_engine: Engine, rootfs: Path, manager: Manager
) -> None:
    with run(shared_engine, manager, rootfs, "--sdnotify", "conmon"):
        assert manager.told().splitlines() == [monitor(shared_engine), "READY=1"]
        config = shared_engine.inspect("c")["Config"]
        assert (config["sdNotifyMode"], config["sdNotifySocket"]) == ("conmon", str(manager.path))
        assert (
            shared_engine.out("exec", "c", "sh", "-c", "echo $NOTIFY_SOCKET; ls -A /run") == ".containerenv"
        )
    assert manager.nothing_more()


@as_root
def test_a_container_says_that_it_is_ready_and_nothing_else(
    shared_engine: Engine, python: Path, manager: Manager
) -> None:
    long = "X" * 20_000
    says(
        shared_engine,
        manager,
        python,
        "STATUS=up",
        "MAINPID=1",
        f"{long}",
        "MAINPID=1\\nREADY=1\\nSTATUS=x",
        "WATCHDOG=1",
    )
    found = [manager.told() for _ in range(3)]
    found.remove(monitor(shared_engine))  # which the supervisor tells, not the container
    assert found == ["READY=1", "WATCHDOG=1"]
    assert manager.nothing_more()
    assert shared_engine.out("logs", "c") == "/run/notify/notify.sock"


@as_root
@pytest.mark.parametrize(
    "options",
    [("--uidmap", "0:200000:65536", "--user", "1:1"), ("--init",), ("--read-only", "--cap-drop", "all")],
)
def test_it_can_from_wherever_it_is(
    shared_engine: Engine, python: Path, manager: Manager, options: tuple[str, ...]
) -> None:
    says(shared_engine, manager, python, "READY=1", options=options)
    assert {manager.told(), manager.told()} == {monitor(shared_engine), "READY=1"}


@as_root
def test_the_container_cannot_put_another_socket_there(
    shared_engine: Engine, python: Path, manager: Manager
) -> None:
    says(shared_engine, manager, python, "READY=1")
    done = shared_engine.cli("exec", "c", "rm", "/run/notify/notify.sock", check=False)
    assert "Read-only file system" in done.stderr


@as_root
def test_it_outlives_the_supervisor(shared_engine: Engine, python: Path, manager: Manager) -> None:
    says(shared_engine, manager, python)
    assert manager.told() == monitor(shared_engine)
    shared_engine.kill()
    later = "import os, socket as s; s.socket(s.AF_UNIX, s.SOCK_DGRAM).sendto(b'READY=1', '/run/notify/notify.sock')"
    shared_engine.cli("exec", "c", "python3", "-c", later)
    assert manager.told() == "READY=1"


@with_others
def test_it_is_ready_once_it_is_healthy(shared_engine: Engine, rootfs: Path, manager: Manager) -> None:
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
    shared_engine.cli(
        "create", "--name", "c", "--sdnotify", "healthy", *check, "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    with shared_engine.spawn("start", "c", env={"NOTIFY_SOCKET": str(manager.path)}) as start:
        assert manager.told() == monitor(shared_engine)
        assert shared_engine.cli("healthcheck", "run", "c", check=False).returncode == 1
        assert manager.nothing_more()
        shared_engine.kill()
        assert manager.nothing_more()
        shared_engine.cli("exec", "c", "touch", "/tmp/well")
        assert start.poll() is None
        shared_engine.cli("healthcheck", "run", "c")
        assert manager.told() == "READY=1"
        assert start.wait(20) == 0
    shared_engine.kill()
    assert manager.told() == "READY=1"  # the earlier one may not have come to it
    assert shared_engine.out("exec", "c", "ls", "-A", "/run") == ".containerenv"


@by_user
def test_who_waits_for_a_healthy_one_is_told_that_it_has_ended(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--sdnotify", "healthy", "--health-cmd", "false", "--health-interval", "disable")
    done = shared_engine.cli("run", "-d", *options, "--rootfs", f"{rootfs}:O", "sleep", "0.1", check=False)
    assert done.returncode == 125
    assert "it has ended" in done.stderr


@by_user
def test_a_command_that_stays_leaves_the_main_process_alone(
    shared_engine: Engine, rootfs: Path, manager: Manager
) -> None:
    options = ("run", "--rm", "--sdnotify", "conmon", "--rootfs", f"{rootfs}:O", "echo", "said")
    assert shared_engine.out(*options, env={"NOTIFY_SOCKET": str(manager.path)}) == "said"
    assert manager.told() == "READY=1"
    assert manager.nothing_more()


@by_user
def test_nobody_is_told_who_did_not_ask_or_was_not_to_be(
    shared_engine: Engine, rootfs: Path, manager: Manager
) -> None:
    """The supervisor's own socket is nobody else's."""
    look = ("--rootfs", f"{rootfs}:O", "sh", "-c", "echo =$NOTIFY_SOCKET; ls -A /run")
    environment = {"NOTIFY_SOCKET": str(manager.path)}
    for options in (("--sdnotify", "ignore"), ("--sdnotify", "ignore", "--env-host")):
        told = shared_engine.out("run", "--rm", *options, *look, env=environment)
        assert told.split() == ["=", ".containerenv"]
    assert shared_engine.out("run", "--rm", *look).split() == ["=", ".containerenv"]
    assert manager.nothing_more()


@by_user
@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        (("--sdnotify", "perhaps"), "", "cannot use --sdnotify perhaps"),
        (("--sdnotify", "healthy"), "", "cannot use --sdnotify healthy: the container has no health check"),
        ((), "relative", "cannot use the NOTIFY_SOCKET 'relative'"),
        ((), "/" + "x" * 200, "it is no path of a socket"),
        ((), "@abstract", "cannot use --sdnotify container with the NOTIFY_SOCKET '@abstract'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], path: str, message: str
) -> None:
    words = ("run", "-d", *options, "--rootfs", f"{rootfs}:O", "true")
    done = shared_engine.cli(*words, env={"NOTIFY_SOCKET": path}, check=False)
    assert done.returncode == 125
    assert message in done.stderr
    assert shared_engine.out("ps", "-aq") == ""


@by_user
def test_an_abstract_socket_is_enough_for_conmon(shared_engine: Engine, rootfs: Path) -> None:
    name = f"pm-{shared_engine.path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(AWAITING)
        words = (
            "run",
            "-d",
            "--name",
            "c",
            "--sdnotify",
            "conmon",
            "--rootfs",
            f"{rootfs}:O",
            "sleep",
            "1000",
        )
        shared_engine.cli(*words, env={"NOTIFY_SOCKET": f"@{name}"})
        assert listening.recv(1000).decode().splitlines() == [monitor(shared_engine), "READY=1"]


@by_user
def test_a_socket_where_nobody_listens_is_a_warning(shared_engine: Engine, rootfs: Path) -> None:
    words = ("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    done = shared_engine.cli(*words, env={"NOTIFY_SOCKET": "/nobody/here"})
    assert "cannot tell /nobody/here that the container runs: no such file or directory" in done.stderr


@by_user
def test_a_restart_by_policy_tells_again(shared_engine: Engine, rootfs: Path, manager: Manager) -> None:
    options = ("--sdnotify", "healthy", "--health-cmd", "true", "--restart", "on-failure:1")
    with run(shared_engine, manager, rootfs, *options, script="exec sleep 1000"):
        # The command line tells the one, the supervisor the other: a check may be the faster one.
        assert {manager.told(), manager.told()} == {monitor(shared_engine), "READY=1"}
        os.kill(shared_engine.inspect("c")["State"]["Pid"], signal.SIGKILL)
        assert manager.told() == "READY=1"
    assert manager.nothing_more()


@by_user
def test_one_that_is_initialized_has_a_main_process_too(
    shared_engine: Engine, rootfs: Path, manager: Manager
) -> None:
    options = ("--name", "c", "--sdnotify", "conmon", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    shared_engine.cli("create", *options)
    shared_engine.cli("init", "c")
    shared_engine.cli("start", "c", env={"NOTIFY_SOCKET": str(manager.path)})
    assert manager.told().splitlines() == [monitor(shared_engine), "READY=1"]
    shared_engine.cli("stop", "-t", "0", "c")
    shared_engine.cli("start", "c")
    assert manager.nothing_more()  # who starts it now did not ask
