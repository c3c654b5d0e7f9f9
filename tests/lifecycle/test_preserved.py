"""Descriptors of the caller that a container, or a further command in one, is given."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.engine import Engine

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


def call(engine: Engine, redirections: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, started by a shell that has opened what these redirections say."""
    argv = [*engine.place.prefix("/"), *engine.command(*words)]
    return subprocess.run(
        ["bash", "-c", f'exec "$@" {redirections}', "-", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=engine.environment,
        cwd="/",
        check=False,
    )


def held(engine: Engine, path: str) -> int:
    """How many descriptors of a file the supervisor has."""
    directory = f"/proc/{engine.pid}/fd"
    links = []
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"{directory}/{name}"))
    return links.count(path)


@contextmanager
def files(engine: Engine) -> Iterator[tuple[Path, Path]]:
    """One that says hello, and one to be written."""
    given, written = engine.path / "given", engine.path / "written"
    given.write_text("hello\n")
    written.write_text("")
    for path in (given, written):
        path.chmod(0o666)
    try:
        yield given, written
    finally:
        given.unlink()
        written.unlink()


def said(done: subprocess.CompletedProcess[str]) -> Sequence[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_container_reads_and_writes_what_its_caller_has_open(shared_engine: Engine, rootfs: Path) -> None:
    with files(shared_engine) as (given, written):
        script = "cat <&3; echo out >&4"
        run = ("run", "--rm", "--preserve-fds", "2", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
        assert said(call(shared_engine, f"3<{given} 4>{written}", *run)) == ["hello"]
        assert written.read_text() == "out\n"


def test_single_descriptors_keep_their_numbers(shared_engine: Engine, rootfs: Path) -> None:
    """What lies between leads nowhere, whatever else the caller has open."""
    with files(shared_engine) as (given, written):
        script = "cat <&9; echo out >&11; readlink /proc/self/fd/5; readlink /proc/self/fd/10; ls /proc/self/fd | wc -w"
        run = ("run", "--rm", "--preserve-fd", "9,11", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
        seen = said(call(shared_engine, f"5<{given} 9<{given} 10<{given} 11>{written} 12<{given}", *run))
        assert seen == ["hello", "/dev/null", "/dev/null", "13"]  # of these `ls` has one itself
        assert written.read_text() == "out\n"


def test_a_container_in_the_background_has_them_too(shared_engine: Engine, rootfs: Path) -> None:
    with files(shared_engine) as (given, written):
        command = ("sh", "-c", "cat <&3 >&4")
        run = ("run", "-d", "--name", "box", "--preserve-fds", "2", "--rootfs", f"{rootfs}:O", *command)
        said(call(shared_engine, f"3<{given} 4>{written}", *run))
        shared_engine.cli("wait", "box")
        assert written.read_text() == "hello\n"
        # They were there for one run.
        for verb in ("start", "restart"):
            done = shared_engine.cli(verb, "box", check=False)
            assert done.returncode == 125
            assert "with --preserve-fd and --preserve-fds only run can" in done.stderr


def test_with_streams_that_are_passed_through(shared_engine: Engine, rootfs: Path) -> None:
    with files(shared_engine) as (given, written):
        options = ("--log-driver", "passthrough", "--preserve-fds", "1")
        run = ("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", "cat <&3")
        done = call(shared_engine, f"3<{given} </dev/null >{written} 2>&1", *run)
        assert done.returncode == 0
        assert written.read_text() == "hello\n"


def test_a_further_command_has_them(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    engine.cli("run", "-d", "--name", "box", "--rootfs", f"{rootfs}:O", *SLEEP)
    with files(engine) as (given, written):
        script = "cat <&3; echo out >&5; readlink /proc/self/fd/4"
        command = ("exec", "--preserve-fds", "1", "--preserve-fd", "5", "box", "sh", "-c", script)
        assert said(call(engine, f"3<{given} 5>{written}", *command)) == ["hello", "/dev/null"]
        assert written.read_text() == "out\n"
        number = partial(held, engine, str(given))
        until(lambda: number() == 0, "it is held")
        for _ in range(3):
            failing = ("exec", "--preserve-fds", "1", "box", "nosuch")
            assert call(engine, f"3<{given}", *failing).returncode == 127
            assert call(engine, f"3<{given}", "exec", "--preserve-fds", "1", "none", "true").returncode == 125
        until(lambda: number() == 0, "it is held")


@pytest.mark.oci_runtime(*BY_USER)
def test_the_container_lets_go_of_them_when_it_ends(shared_engine: Engine, rootfs: Path) -> None:
    """Nobody else keeps them open: whoever reads the other end of a pipe finds its end."""
    engine = shared_engine
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        script = f"echo said >&{writing}"
        run = ("run", "-d", "--preserve-fd", str(writing), "--rootfs", f"{rootfs}:O", "sh", "-c", script)
        started = subprocess.run(
            [*engine.place.prefix("/"), *engine.command(*run)],
            pass_fds=[writing],
            capture_output=True,
            env=engine.environment,
            cwd="/",
            check=False,
        )
        assert started.returncode == 0, started.stderr
        os.close(writing)
        writing = -1
        with open(reading, "rb", closefd=False) as file:
            assert file.read() == b"said\n"
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


@pytest.mark.oci_runtime("runc")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--preserve-fds", "2"), "cannot pass the descriptor 4 on: this command was started without it"),
        (("--preserve-fd", "77"), "cannot pass the descriptor 77 on"),
        (("--preserve-fd", "2"), "standard streams are passed on by --log-driver passthrough"),
        (("--preserve-fd", "x"), "option --preserve-fd cannot be 'x'"),
        (("--preserve-fd", "256"), "it must be a number from 3 to 255"),
        (("--preserve-fd", "9" * 5000), "it must be a number from 3 to 255"),
        (("--preserve-fds", "17"), "cannot pass 17 descriptors on: 16 are possible"),
        (("--preserve-fds", "999999999999"), "descriptors on: 16 are possible"),
        (("--preserve-fds", "1", "--restart", "always"), "the descriptors are there for one run"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = call(shared_engine, "3</dev/null", "run", *options, "--rootfs", f"{rootfs}:O", "true")
    assert done.returncode == 125
    assert complaint in done.stderr
    assert shared_engine.out("ps", "-aq") == ""


@pytest.mark.oci_runtime("runc")
@pytest.mark.parametrize("numbers", [[3], [2], [256], [3, 3], [-1]])
def test_a_request_without_what_it_announces_is_refused(
    shared_engine: Engine, rootfs: Path, numbers: list[int]
) -> None:
    spec = {"rootfs": str(rootfs), "rootfs_overlay": True, "command": ["true"], "preserve_fd": numbers}
    for method in ("Run", "Create"):
        with shared_engine.wire() as wire, pytest.raises(VarlinkError, match="descriptor"):
            list(wire.stream(f"io.pyman.Container.{method}", {"spec": spec}))
    assert shared_engine.out("ps", "-aq") == ""
