"""A supervisor that a command starts: nobody's child, in nobody's session, and exactly one."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.launch import clean_environment
from tests.keeper.support import Supervisor
from tests.support import processes
from tests.support.varlink import call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CLIENT = Path(__file__).with_name("client.py")


class Launched(Supervisor):
    """Started by its clients; ended by the test."""

    def client(
        self, *, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*prefix, sys.executable, str(CLIENT), str(self.root), str(self.path / "run"), str(self.tmpdir)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.path), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            **more,
        )

    def ask(self, **options: Any) -> dict[str, Any]:
        """What one client learns."""
        with self.client(**options) as client:
            out, _ = client.communicate(timeout=30)
        told: dict[str, Any] = json.loads(out)
        return told

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            keeper = call(self.socket, "io.pyman.System.Info")["supervisor"]["keeper_pid"]
            os.kill(keeper, signal.SIGTERM)
            assert not processes.wait_gone([keeper], 10)
        for path in Path("/run/pyman").glob(f"{self.stem}*"):
            path.unlink()


@pytest.fixture
def launched(short_path: Path) -> Iterator[Launched]:
    made = Launched(short_path)
    try:
        yield made
        left = processes.mentions([str(short_path)])
    finally:
        made.finish()
        made.close()
    assert len(left) <= 2, [processes.describe(pid) for pid in left]


def test_the_first_command_starts_a_supervisor_and_is_answered(launched: Launched) -> None:
    told = launched.ask()
    assert told["socket"] == launched.socket
    assert told["seconds"] < 15.0
    assert launched.ask()["keeper_pid"] == told["keeper_pid"]


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def test_the_first_daemon_is_what_its_keeper_starts_afterwards(launched: Launched, short_path: Path) -> None:
    """Its process is older than the keeper's program, which tells it what it could not know."""
    conf = short_path / "c.conf"
    conf.write_text("[pyman]\nrestart_reset = 7\n")
    first = launched.ask(environment={"CONTAINERS_CONF": str(conf)})
    words, parent = _words(first["pid"]), processes.parent(first["pid"])
    os.kill(first["pid"], signal.SIGKILL)
    second = launched.ask()
    assert second["pid"] != first["pid"]
    assert second["environ"] == first["environ"]
    assert first["restart_reset"] == second["restart_reset"] == 7
    assert parent == first["keeper_pid"] == second["keeper_pid"]
    assert _words(second["pid"]) == words


def test_many_commands_at_once_start_one_and_are_all_answered(launched: Launched) -> None:
    clients = [launched.client() for _ in range(12)]
    told = []
    for client in clients:
        with client:
            out, _ = client.communicate(timeout=50)
        told.append(json.loads(out))
    assert {answer.get("keeper_pid", answer.get("text")) for answer in told} == {told[0]["keeper_pid"]}
    assert not os.path.exists(launched.socket.replace(".sock", ".launch"))


def test_nothing_of_the_caller_stays_with_it(launched: Launched, short_path: Path) -> None:
    """Session, directory, descriptors, signals, umask, environment."""
    with open(short_path / "of the caller", "w", encoding="ascii") as file:
        told = launched.ask(
            environment={"SECRET_OF_THE_CALLER": "1", "TMPDIR": "/nowhere", "XDG_SESSION_ID": "7"},
            pass_fds=[file.fileno()],
            cwd=short_path,
            umask=0o777 & ~0o700,
            preexec_fn=lambda: [
                signal.signal(signal.SIGHUP, signal.SIG_IGN),
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD]),
            ],
        )
    keeper = told["keeper_pid"]
    assert os.getsid(keeper) not in (os.getsid(0), 0)
    assert os.getpgid(keeper) != os.getpgid(0)
    assert processes.parent(keeper) != os.getpid()
    assert os.readlink(f"/proc/{keeper}/cwd") == "/"
    descriptors = processes.descriptors(keeper)
    assert descriptors[0] == descriptors[1] == "/dev/null"
    assert descriptors[2] == launched.socket.replace(".sock", ".log")
    assert not [target for target in descriptors.values() if target.startswith(f"{short_path}/of")]
    status = Path(f"/proc/{keeper}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["SigBlk"], 16) == 0
    assert not int(fields["SigIgn"], 16) & 1 << signal.SIGHUP - 1
    assert int(fields["Umask"], 8) == 0o022
    environ = told["environ"]
    assert set(environ) <= {"PATH", "HOME", "LANG", "MALLOC_ARENA_MAX"}


def test_it_may_open_as_many_files_as_the_hard_limit_permits(launched: Launched) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = launched.ask(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)))
    assert resource.prlimit(told["keeper_pid"], resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root moves processes")
def test_it_leaves_the_callers_cgroups(launched: Launched) -> None:
    name = f"pyman-test-{os.getpid()}"
    hierarchies = [Path("/sys/fs/cgroup") / one for one in ("freezer", "pids", "systemd", "unified", ".")]
    made = [one / name for one in hierarchies if (one / "cgroup.procs").exists()]
    for directory in made:
        directory.mkdir()
    enter = "; ".join(f"echo $$ > {directory}/cgroup.procs" for directory in made)
    try:
        told = launched.ask(prefix=["sh", "-c", f'{enter}; exec "$@"', "sh"])
        for pid in (told["keeper_pid"], told["pid"]):
            text = Path(f"/proc/{pid}/cgroup").read_text()
            assert name not in text
            assert "/pyman/supervisor" in text
    finally:
        for directory in made:
            directory.rmdir()


@pytest.mark.parametrize("code", ["InvalidConfig", "ConmonNotFound", "StateDamaged"])
def test_why_it_cannot_start_is_the_callers_error(launched: Launched, code: str) -> None:
    told = launched.ask(environment={"STANDIN_FAIL": code})
    assert told["error"] == code
    assert told["text"] == f"cannot start: the test wants {code}: nothing can be done"
    assert (
        f"Error: cannot start: the test wants {code}"
        in Path(launched.socket.replace(".sock", ".log")).read_text()
    )
    # The next command is told the same, or gets its supervisor when the reason is gone.
    assert "keeper_pid" in launched.ask()


def test_a_typo_in_a_configuration_file_is_the_callers_error(launched: Launched, short_path: Path) -> None:
    config = short_path / "containers.conf"
    config.write_text("[engine]\nnum_locks = many\n")
    told = launched.ask(environment={"CONTAINERS_CONF": str(config)})
    assert told["error"] == "InvalidConfig"
    assert str(config) in told["text"]


def test_a_supervisor_that_crashes_is_the_callers_error(launched: Launched) -> None:
    told = launched.ask(environment={"STANDIN_CRASH": "9"})
    assert told["error"] == "EngineUnavailable"
    assert "exit status 9" in told["text"]
    assert told["text"].endswith(f": see '{launched.socket.removesuffix('.sock')}.log'")


def test_one_that_is_ending_is_waited_for(launched: Launched) -> None:
    first = launched.ask()
    call(launched.socket, "io.pyman.System.Shutdown")
    second = launched.ask()
    assert second.get("keeper_pid", first["keeper_pid"]) != first["keeper_pid"], second


def test_under_systemd_it_gets_a_scope(launched: Launched, short_path: Path) -> None:
    """A selection of its own has no unit: systemd-run puts the process where it belongs."""
    tools = short_path / "bin"
    tools.mkdir()
    script = tools / "systemd-run"
    script.write_text(
        f'#!/bin/sh\necho "$@" > {short_path}/said\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    script.chmod(0o755)
    told = launched.ask(
        environment={"LAUNCH_SYSTEMD": str(short_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    )
    assert told["socket"] == launched.socket
    said = (short_path / "said").read_text()
    assert "--scope" in said
    assert f"--unit=pyman-{launched.stem}" in said


def test_where_systemd_cannot_be_reached_it_is_started_all_the_same(
    launched: Launched, short_path: Path
) -> None:
    tools = short_path / "bin"
    tools.mkdir()
    script = tools / "systemd-run"
    script.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    script.chmod(0o755)
    environment = {"LAUNCH_SYSTEMD": str(short_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    assert launched.ask(environment=environment)["socket"] == launched.socket


def test_the_environment_that_is_kept() -> None:
    kept = clean_environment(
        {
            "PATH": "bin:/usr/bin:./x:/bin",
            "HOME": "/home/a",
            "XDG_RUNTIME_DIR": "/run/user/1",
            "XDG_SEAT": "seat0",
            "CONTAINERS_CONF": "/x",
            "CONTAINER_HOST": "unix:///x",
            "https_proxy": "http://proxy.example:3128",
            "AWS_SECRET_ACCESS_KEY": "x",
            "SSH_AUTH_SOCK": "/x",
        }
    )
    assert kept == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/a",
        "LANG": "C.UTF-8",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "CONTAINERS_CONF": "/x",
        "https_proxy": "http://proxy.example:3128",
    }


def test_a_user_without_a_runtime_directory_gets_the_one_that_is_used_and_no_strangers_bus(
    tmp_path: Path,
) -> None:
    bus = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/elsewhere/bus"}
    own, strangers = tmp_path / "own", tmp_path / "strangers"
    for path, uid in ((own, 4242), (strangers, 4243)):
        path.mkdir()
        os.chown(path, uid, uid)
    kept = clean_environment({"XDG_RUNTIME_DIR": str(strangers), **bus}, 4242)
    assert kept["XDG_RUNTIME_DIR"] == clean_environment({}, 4242)["XDG_RUNTIME_DIR"] == "/tmp/pyman-run-4242"
    assert "DBUS_SESSION_BUS_ADDRESS" not in kept
    told = {"XDG_RUNTIME_DIR": str(own), **bus}
    assert told.items() <= clean_environment(told, 4242).items()
