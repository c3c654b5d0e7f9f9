"""Maintenance of a real state with real containers, without a supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.leaks import cgroup_directories, mount_points

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = [pytest.mark.oci_runtime("runc"), pytest.mark.slow]

PROGRAM = Path(sys.executable).with_name("pyman-supervisor")


def _run(engine: Engine, *words: str) -> str:
    return engine.out("run", "-d", *words, "--rootfs", "/:O", "sleep", "1000")


def _maintain(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*engine.place.prefix("/"), PROGRAM, *engine.selection, "maintain", *words],
        env=engine.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _ended(engine: Engine) -> None:
    """The supervisor that the fixture started was asked to end."""
    assert engine.keeper is not None
    assert engine.keeper.wait(20) == 0
    engine.keeper = None


def test_renumber_gives_new_locks_and_leaves_containers_running(engine: Engine) -> None:
    for name in ("a", "b", "c"):
        _run(engine, "--name", name)
    engine.out("rm", "-f", "-t", "0", "a")
    pids = [engine.inspect(name)["State"]["Pid"] for name in ("b", "c")]
    done = _maintain(engine, "renumber")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "2 locks were given anew\n")
    _ended(engine)
    engine.start()
    assert [engine.inspect(name)["State"]["Pid"] for name in ("b", "c")] == pids
    numbers = [lock["number"] for lock in engine.call("io.pyman.System.Locks")["locks"]]
    assert numbers == [0, 1]
    assert [event["Status"] for event in engine.events(type=["system"])][-1] == "renumber"


def test_migrate_stops_containers_and_takes_another_runtime(engine: Engine) -> None:
    _run(engine, "--name", "a", "--stop-timeout", "0")
    done = _maintain(engine, "migrate", "--new-runtime", "runc")
    assert (done.returncode, done.stderr) == (0, "")
    _ended(engine)
    engine.start()
    assert engine.inspect("a")["State"]["Status"] == "exited"
    assert engine.inspect("a")["OCIRuntime"] == "runc"


def test_migrate_stops_what_a_supervisor_left_running(engine: Engine) -> None:
    _run(engine, "--name", "a", "--stop-timeout", "0")
    pid = engine.inspect("a")["State"]["Pid"]
    engine.stop()
    assert Path(f"/proc/{pid}").exists()
    done = _maintain(engine, "migrate")
    assert (done.returncode, done.stderr) == (0, "")
    assert not processes.wait_gone([pid], 20)
    engine.start()
    assert engine.inspect("a")["State"]["Status"] == "exited"


def test_migrate_to_an_unknown_runtime_changes_nothing(engine: Engine) -> None:
    done = _maintain(engine, "migrate", "--new-runtime", "nonsense")
    assert done.returncode == 125
    assert done.stderr.startswith("Error: cannot ")
    assert "nonsense" in done.stderr
    assert engine.out("ps", "-aq") == ""


def test_check_finds_nothing_where_nothing_is_wrong(engine: Engine) -> None:
    _run(engine, "--name", "a")
    assert _maintain(engine, "check").stdout == "no problem was found\n"  # asks the supervisor
    engine.stop()
    assert _maintain(engine, "check").stdout == "no problem was found\n"
    engine.start()


def test_check_names_a_damaged_database(engine: Engine) -> None:
    _run(engine, "--name", "a", "--stop-timeout", "0")
    engine.out("stop", "-t", "0", "a")
    engine.stop()
    database = engine.root / "pyman/state.db"
    good = database.read_bytes()
    database.write_bytes(b"nonsense" * 1000)
    done = _maintain(engine, "check")
    assert done.returncode == 1
    assert "damaged" in done.stdout
    database.write_bytes(good)
    engine.start()


@pytest.mark.parametrize("running", [True, False], ids=["supervised", "left alone"])
def test_reset_removes_everything_and_nothing_else(engine: Engine, running: bool) -> None:
    foreign = engine.root / "overlay-images"
    foreign.mkdir(parents=True)
    (engine.tmpdir / "somebody's").write_text("x")
    ids = [_run(engine, "--name", name, "--stop-timeout", "0") for name in ("a", "b")]
    pids = [engine.inspect(name)["State"]["Pid"] for name in ("a", "b")]
    if not running:
        engine.stop()
    done = _maintain(engine, "reset")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("everything in ")
    assert done.stdout.endswith(" was removed, with 2 containers\n")
    if running:
        _ended(engine)
    _nothing_left(engine, ids, pids)
    assert os.listdir(engine.root) == ["overlay-images"]
    assert os.listdir(engine.tmpdir) == ["somebody's"]
    engine.start()
    assert engine.out("ps", "-aq") == ""


def test_reset_works_on_a_state_that_cannot_be_read(engine: Engine) -> None:
    ids = [_run(engine, "--name", "a")]
    pids = [engine.inspect("a")["State"]["Pid"]]
    engine.kill_keeper()
    for name in ("state.db", "state.db-wal"):
        (engine.root / "pyman" / name).write_bytes(b"nonsense" * 1000)
    done = _maintain(engine, "reset")
    assert done.returncode == 0, done.stderr
    assert "no supervisor could stop the containers" in done.stdout
    _nothing_left(engine, ids, pids)
    engine.start()


def _nothing_left(engine: Engine, ids: list[str], pids: list[int]) -> None:
    assert not processes.wait_gone([*pids, *processes.mentions(ids)], 20)
    # Zombies that whoever adopted them has not collected yet have ended all the same.
    told = [processes.describe(pid) for pid in processes.mentions(ids)]
    assert not [text for text in told if "(zombie" not in text]
    assert not [path for path in mount_points() if path.startswith(str(engine.path))]
    assert not [path for path in cgroup_directories() if any(id in path for id in ids)]
    assert not (engine.root / "pyman").exists()


@pytest.mark.parametrize("words", [(), ("nonsense",), ("reset", "now")], ids=str)
def test_what_is_not_understood_changes_nothing(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [PROGRAM, "--root=/nowhere", "maintain", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith("Error: cannot maintain")
