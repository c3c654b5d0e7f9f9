"""A network that is a program's: the daemon killed, or the program failing, at each step of a start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import engines
from tests.faults.gate import Program
from tests.faults.test_killed_daemon import (
    LET_GO,
    START_STEPS,
    kill_daemon,
    nothing_left,
    start_over_a_kill,
)
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.conftest import Faulty

pytestmark = pytest.mark.skipif(not shutil.which("slirp4netns"), reason="there is no slirp4netns")


@pytest.fixture(scope="module")
def _engine() -> Iterator[tuple[Faulty, Program]]:
    with engines() as make:
        engine = make(start=False)
        slirp = Program(engine.path / "bin", "slirp4netns")
        engine.settings["engine"]["network_cmd_path"] = str(slirp.path)
        engine.configure()
        engine.start()
        yield engine, slirp


@pytest.fixture
def slirp(_engine: tuple[Faulty, Program]) -> Program:
    return _engine[1]


@pytest.fixture
def engine(_engine: tuple[Faulty, Program]) -> Iterator[Faulty]:
    faulty, slirp = _engine
    yield faulty
    slirp.obey()
    faulty.recover()
    assert programs(faulty) == []


def programs(engine: Faulty) -> list[int]:
    """Of slirp4netns, begun by this engine; also what has not become it yet."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"slirp4netns" in (entry / "cmdline").read_bytes():
                environment = (entry / "environ").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if b"PYMAN_HELPER=" in environment and parent in (engine.daemon, engine.keeper_pid):
                    found.append(int(entry.name))
    return found


def create(engine: Faulty, rootfs: Path) -> str:
    options = ("--name", "c", "--network", "slirp4netns", "--rootfs", f"{rootfs}:O")
    return engine.out("create", *options, "sleep", "1000")


def has_network(engine: Faulty) -> None:
    assert "inet 10.0.2.100/24" in engine.out("exec", "c", "ip", "addr", "show", "tap0")
    assert len(programs(engine)) == 1


def ends(engine: Faulty, id: str) -> None:
    engine.cli("rm", "-f", "-t", "0", "c")
    nothing_left(engine, id)
    assert programs(engine) == []


@pytest.mark.parametrize("step", START_STEPS)
def test_a_daemon_killed_at_a_step_of_the_oci_runtimes_leaves_a_container_with_one(
    engine: Faulty, rootfs: Path, step: str
) -> None:
    id = create(engine, rootfs)
    start_over_a_kill(engine, id, step, LET_GO[0])
    has_network(engine)
    ends(engine, id)


def test_a_daemon_killed_before_the_program_is_ready_begins_another_one(
    engine: Faulty, slirp: Program, rootfs: Path
) -> None:
    id = create(engine, rootfs)
    slirp.hold("before-none")
    with engine.spawn("start", "c") as client:
        held = slirp.reached("before-none")
        kill_daemon(engine)
        engine.wait_ready()
        assert not processes.wait_gone([held], 10)
        slirp.obey()
        client.wait(20)
    engine.cli("wait", "--condition", "running", "c")
    has_network(engine)
    ends(engine, id)


def test_a_program_that_fails_fails_the_start_and_leaves_nothing(
    engine: Faulty, slirp: Program, rootfs: Path
) -> None:
    id = create(engine, rootfs)
    slirp.fail("none", "no tap for you\n")
    done = engine.cli("start", "c", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert "cannot start slirp4netns: it ended with exit status 1: no tap for you" in done.stderr
    assert programs(engine) == []
    assert engine.inspect("c")["State"]["Status"] == "created"
    slirp.obey()
    engine.cli("start", "c")
    has_network(engine)
    ends(engine, id)


@pytest.mark.parametrize("daemon", ["goes on", "is killed as well"])
def test_one_that_cannot_come_back_is_tried_again_and_the_container_goes_on(
    engine: Faulty, slirp: Program, rootfs: Path, daemon: str
) -> None:
    id = create(engine, rootfs)
    engine.cli("start", "c")
    pid = engine.inspect("c")["State"]["Pid"]
    (program,) = programs(engine)
    slirp.fail("none", "not now\n")
    since = engine.last_seq()
    with contextlib.nullcontext() if daemon == "goes on" else engine.stopped_daemon():
        os.kill(program, signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "helper-lost", since)
    assert engine.inspect("c")["State"]["Pid"] == pid
    slirp.obey()
    engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
    told = [event["Status"] for event in engine.events(since) if event["Status"].startswith("helper-")]
    assert told == ["helper-lost", "helper-restarted"]
    has_network(engine)
    ends(engine, id)
