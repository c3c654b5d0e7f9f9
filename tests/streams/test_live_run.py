"""run, start --attach, attach and exec with real containers: output, input, signals, exit codes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

NET = ("--network", "none")


@pytest.fixture
def root(rootfs: Path) -> tuple[str, str]:
    return ("--rootfs", f"{rootfs}:O")


def go(engine: Engine, name: str) -> None:
    """Lets the container's command go on; it may end, and the exec session with it, before that has answered."""
    engine.cli("exec", name, "touch", "/tmp/go", check=False)


def test_output_errors_and_exit_code_are_the_command_s(shared_engine: Engine, root: tuple[str, str]) -> None:
    done = shared_engine.cli(
        "run", "--rm", *NET, *root, "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_attach_chooses_what_is_shown_and_interactive_what_is_read(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    program = ("sh", "-c", "cat; echo err >&2")

    def told(*options: str) -> tuple[str, str]:
        done = shared_engine.cli(
            "run", "--rm", "-i", *options, *NET, *root, *program, input="in\n", timeout=20
        )
        return done.stdout, done.stderr

    assert told("-a", "stdout") == ("in\n", "")
    assert told("-a", "stderr") == ("", "err\n")
    out, err = told("-a", "stdin")
    assert (len(out), err) == (65, ""), "its id, and nothing of what it writes"


@pytest.mark.parametrize("command, status", [("nonexist", 127), ("/etc", 126)])
def test_a_command_that_cannot_run_has_podman_s_status(
    shared_engine: Engine, root: tuple[str, str], command: str, status: int
) -> None:
    done = shared_engine.cli("run", "--rm", *NET, *root, command, check=False)
    assert done.returncode == status
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert shared_engine.out("ps", "-a", "-q") == ""


def test_megabytes_through_the_container_and_back_are_the_same(
    shared_engine: Engine, root: tuple[str, str], tmp_path: Path
) -> None:
    data = random.Random(7).randbytes(8_000_000)
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    with source.open("rb") as stdin, target.open("wb") as stdout:
        words = ("run", "--rm", "-i", *NET, *root, "cat")
        with shared_engine.spawn(*words, stdin=stdin.fileno(), stdout=stdout.fileno()) as client:
            assert client.wait(60) == 0
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data).digest()


def test_a_signal_to_the_client_reaches_the_command(shared_engine: Engine, root: tuple[str, str]) -> None:
    program = "trap 'echo caught; exit 42' TERM; echo ready; while :; do sleep 0.1; done"
    with shared_engine.spawn("run", "--rm", *NET, *root, "sh", "-c", program) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.stdout.read() == b"caught\n"
        assert client.wait(20) == 42


def test_a_reader_that_goes_away_does_not_end_the_container(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    program = "echo first; while :; do echo more; sleep 0.05; done"
    with shared_engine.spawn("run", "--name", "c", *NET, *root, "sh", "-c", program) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"first\n"
        client.stdout.close()
        assert client.wait(20) == 141
    assert shared_engine.inspect("c")["State"]["Status"] == "running"


def test_a_container_that_would_remove_itself_goes_with_its_only_reader(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    with shared_engine.spawn("run", "--rm", "--name", "c", *NET, *root, "yes") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"y\n"
        client.stdout.close()
        assert client.wait(20) == 141
    until(lambda: shared_engine.out("ps", "-aq") == "", "it stays")


def test_passthrough_gives_the_container_the_caller_s_own_descriptors(
    shared_engine: Engine, root: tuple[str, str], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as out:
        words = ("run", "--rm", "--log-driver", "passthrough", *NET, *root, "sh", "-c")
        program = "cat; readlink /proc/self/fd/1; exit 4"
        with shared_engine.spawn(*words, program, stdout=out.fileno()) as client:
            assert client.stdin is not None
            client.stdin.write(b"typed\n")
            client.stdin.close()
            assert client.wait(20) == 4
    text = (tmp_path / "out").read_text()
    assert text.startswith("typed\n")
    assert "out" in text


def test_a_container_is_started_with_its_output_from_the_first_byte(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    shared_engine.cli("create", "--name", "c", "-i", *NET, *root, "sh", "-c", "echo first; cat; exit 3")
    done = shared_engine.cli("start", "-a", "-i", "c", input="from stdin\n", check=False)
    assert (done.returncode, done.stdout) == (3, "first\nfrom stdin\n")
    done = shared_engine.cli("attach", "c", check=False)
    assert done.returncode == 125
    assert "cannot attach" in done.stderr


def test_attach_shows_what_comes_and_ends_with_the_exit_code(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    shared_engine.cli(
        "run", "-d", "-i", "--name", "c", *NET, *root, "sh", "-c", "read a; echo got $a; exit 9"
    )
    done = shared_engine.cli("attach", "c", input="this\n", check=False)
    assert (done.returncode, done.stdout) == (9, "got this\n")


def test_exec_runs_a_command_beside_the_first_one(shared_engine: Engine, root: tuple[str, str]) -> None:
    shared_engine.cli("run", "-d", "--name", "c", *NET, *root, "sleep", "1000")
    done = shared_engine.cli(
        "exec", "-i", "c", "sh", "-c", "cat; echo e >&2; exit 6", input="in", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (6, "in", "e\n")
    assert (
        shared_engine.out("exec", "-e", "A=b c", "-w", "/tmp", "c", "sh", "-c", "echo $A; pwd") == "b c\n/tmp"
    )
    assert shared_engine.cli("exec", "c", "nonexist", check=False).returncode == 127
    assert shared_engine.cli("exec", "c", "/etc", check=False).returncode == 126
    session = shared_engine.out("exec", "-d", "c", "true")
    assert len(session) == 64
    shared_engine.cli("stop", "-t", "0", "c")
    done = shared_engine.cli("exec", "c", "true", check=False)
    assert done.returncode == 255
    assert "cannot" in done.stderr


def test_output_survives_the_supervisor_and_the_exit_code_is_told(
    engine: Engine, root: tuple[str, str]
) -> None:
    program = "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 13"
    with engine.spawn("run", "--name", "c", *NET, *root, "sh", "-c", program) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"before\n"
        engine.kill()
        go(engine, "c")
        assert client.stdout.read() == b"after\n"
        assert client.wait(20) == 13


def test_a_supervisor_that_is_stopped_and_started_is_not_missed(
    engine: Engine, root: tuple[str, str]
) -> None:
    program = "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 13"
    with engine.spawn("run", "--name", "c", *NET, *root, "sh", "-c", program) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"before\n"
        assert engine.stop() == 0
        engine.start()
        go(engine, "c")
        assert client.stdout.read() == b"after\n"
        assert client.wait(20) == 13


def test_an_exit_while_there_is_no_supervisor_is_told_too(engine: Engine, root: tuple[str, str]) -> None:
    read, write = os.pipe()
    with engine.spawn(
        "run", "--rm", "-i", *NET, *root, "sh", "-c", "echo up; cat; exit 17", stdin=read
    ) as client:
        os.close(read)
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        engine.kill(wait=False)
        os.write(write, b"bye\n")
        os.close(write)
        assert client.stdout.read() == b"bye\n"
        engine.wait_ready()
        assert client.wait(20) == 17
