"""conmon and the OCI runtime: absent, too old, failing, killed, hanging. One line says so; nothing stays behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.conftest import engines
from tests.support import processes
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.faults.conftest import Faulty, MakeEngine


NO_SESSION = 255
"""Podman's exit status where the container is there and the session could not be made."""


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 125) -> None:
    assert done.returncode == code, done
    assert done.stderr.startswith("Error: cannot ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def state(engine: Faulty, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def nothing_runs(engine: Faulty) -> None:
    """No process, mount, run directory or OCI runtime state of any container."""
    ids = [
        container["Id"] for container in engine.call("io.pyman.Container.List", {"all": True})["containers"]
    ]
    until(lambda: not list((engine.tmpdir / "containers").iterdir()), "a run directory stays")
    until(
        lambda: not processes.mentions(ids), lambda: f"{[*map(processes.describe, processes.mentions(ids))]}"
    )
    assert not [id for id in ids if Path("/run/runc", id).exists()]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# At the start


@pytest.fixture
def unstarted(make_engine: MakeEngine, tmp_path: Path) -> Faulty:
    """Its search path has nothing on it, so only what the configuration names is found."""
    engine = make_engine(start=False)
    engine.extra_environment["PATH"] = str(tmp_path)
    return engine


def test_without_conmon_the_first_command_says_what_to_install(unstarted: Faulty, tmp_path: Path) -> None:
    unstarted.settings["engine"]["conmon_path"] = [str(tmp_path / "conmon")]
    unstarted.configure()
    refused(unstarted.cli("ps", check=False), "conmon", "install")


def test_a_conmon_that_is_too_old_is_named_with_its_version(unstarted: Faulty, tmp_path: Path) -> None:
    old = script(tmp_path / "old", "echo conmon version 2.0.20")
    unstarted.settings["engine"]["conmon_path"] = [str(old)]
    unstarted.configure()
    refused(unstarted.cli("ps", check=False), str(old), "2.0.20", "2.0.24")


def test_a_conmon_that_does_not_tell_its_version_is_not_taken_for_one(
    unstarted: Faulty, tmp_path: Path
) -> None:
    odd = script(tmp_path / "odd", "echo what?")
    unstarted.settings["engine"]["conmon_path"] = [str(odd)]
    unstarted.configure()
    refused(unstarted.cli("ps", check=False), str(odd), "version")


@pytest.mark.parametrize(
    "program, said", [(None, "not installed"), ("exit 1", "runc"), ("kill -KILL $$", "runc")]
)
def test_a_configured_runtime_that_does_not_work_is_named(
    unstarted: Faulty, tmp_path: Path, program: str | None, said: str
) -> None:
    path = tmp_path / "runc"
    if program is not None:
        script(path, program)
    unstarted.settings["engine.runtimes"]["runc"] = [str(path)]
    unstarted.configure()
    refused(unstarted.cli("ps", check=False), "OCI runtime 'runc'", said)


# While it runs


def test_a_conmon_that_vanishes_is_missed_by_new_containers_only(faulty: Faulty, rootfs: Path) -> None:
    faulty.cli("run", "-d", "--name", "old", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    away = faulty.conmon.path.with_suffix(".away")
    faulty.conmon.path.rename(away)
    try:
        refused(faulty.cli("run", "--name", "new", "--rootfs", f"{rootfs}:O", "true", check=False), "conmon")
        refused(faulty.cli("exec", "old", "true", check=False), "conmon", code=NO_SESSION)
        assert state(faulty, "new")["Status"] == "created"
    finally:
        away.rename(faulty.conmon.path)
    faulty.cli("start", "-a", "new")
    faulty.cli("stop", "-t", "0", "old")
    nothing_runs(faulty)


def test_a_runtime_that_vanishes_is_named_and_missed_by_what_needs_it(faulty: Faulty, rootfs: Path) -> None:
    away = faulty.runtime.path.with_suffix(".away")
    faulty.runtime.path.rename(away)
    try:
        done = faulty.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true", check=False)
        refused(done, str(faulty.runtime.path), code=done.returncode)
        assert done.returncode in (125, 126)
        assert faulty.out("ps", "-aq") == ""
    finally:
        away.rename(faulty.runtime.path)
    faulty.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")


@pytest.mark.parametrize("verb", ["create", "start"])
def test_what_a_failing_runtime_says_is_told_and_the_start_undone(
    faulty: Faulty, rootfs: Path, verb: str
) -> None:
    faulty.runtime.fail(verb, "the moon is in the wrong phase\n")
    done = faulty.cli("run", "--name", "c", "--rootfs", f"{rootfs}:O", "true", check=False)
    refused(done, "moon", code=126)
    assert state(faulty, "c")["Status"] == "created"
    assert "moon" in state(faulty, "c")["Error"]
    nothing_runs(faulty)
    faulty.runtime.obey()
    faulty.cli("start", "-a", "c")


@pytest.mark.parametrize("verb", ["create", "start"])
def test_a_runtime_that_is_killed_fails_the_start_alone(faulty: Faulty, rootfs: Path, verb: str) -> None:
    faulty.runtime.kill(verb)
    done = faulty.cli("run", "--name", "c", "--rootfs", f"{rootfs}:O", "true", check=False)
    refused(done, code=done.returncode)
    assert done.returncode in (125, 126)
    nothing_runs(faulty)
    faulty.runtime.obey()
    faulty.cli("start", "-a", "c")


@pytest.mark.parametrize("signal", ["kill", "fail"])
def test_a_conmon_that_ends_before_its_answer_fails_the_start_alone(
    faulty: Faulty, rootfs: Path, signal: str
) -> None:
    if signal == "kill":
        faulty.conmon.kill("monitor")
    else:
        faulty.conmon.fail("monitor", "[conmon:e]: no luck today\n")
    done = faulty.cli("run", "--name", "c", "--rootfs", f"{rootfs}:O", "true", check=False)
    refused(done, "no luck" if signal == "fail" else "monitor")
    nothing_runs(faulty)
    faulty.conmon.obey()
    faulty.cli("start", "-a", "c")


def test_conmon_killed_while_the_runtime_creates_leaves_no_container_behind(
    faulty: Faulty, rootfs: Path
) -> None:
    faulty.runtime.hold("after-create")
    command = ("run", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    with faulty.spawn(*command) as client:
        runtime = faulty.runtime.reached("after-create")
        os.kill(processes.parent(runtime), 9)
        assert client.wait(20) == 125
    faulty.runtime.let_go("after-create")
    assert not processes.wait_gone([runtime], 10)
    assert state(faulty, "c")["Status"] == "created"
    nothing_runs(faulty)


# Deadlines


@pytest.fixture(scope="module")
def _impatient() -> Iterator[Faulty]:
    with engines() as make:
        engine = make(start=False)
        engine.configure(call_deadline=3.0)
        engine.start()
        yield engine


@pytest.fixture
def patience(_impatient: Faulty) -> Iterator[Faulty]:
    """An engine that waits for no call longer than three seconds."""
    yield _impatient
    _impatient.recover()


@pytest.mark.parametrize("step", ["before-create", "before-start"])
def test_a_runtime_that_hangs_costs_others_nothing(faulty: Faulty, rootfs: Path, step: str) -> None:
    faulty.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("start", "c") as client:
        faulty.runtime.reached(step)
        faulty.cli("run", "--rm", "--name", "other", "--rootfs", f"{rootfs}:O", "true")
        assert client.poll() is None
        faulty.runtime.let_go(step)
        assert client.wait(20) == 0


@pytest.mark.parametrize("step", ["before-create", "before-start"])
def test_a_runtime_that_hangs_costs_its_container_the_deadline(
    patience: Faulty, rootfs: Path, step: str
) -> None:
    patience.runtime.hold(step)
    with patience.spawn("run", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000") as client:
        hung = patience.runtime.reached(step)
        assert client.wait(20) == 125
        assert client.stderr is not None
        assert client.stderr.read().count(b"\n") == 1
    assert not processes.wait_gone([hung], 20), "what hung was not ended"
    assert state(patience, "c")["Status"] == "created"
    nothing_runs(patience)
    patience.runtime.obey()
    patience.cli("start", "c")


def test_a_conmon_that_is_stopped_before_it_answers_is_given_up(patience: Faulty, rootfs: Path) -> None:
    patience.conmon.stop("monitor")
    done = patience.cli("run", "--name", "c", "--rootfs", f"{rootfs}:O", "true", check=False)
    refused(done, "answer")
    nothing_runs(patience)
    patience.conmon.obey()
    patience.cli("start", "-a", "c")


def test_a_conmon_of_an_exec_session_that_is_stopped_is_given_up(patience: Faulty, rootfs: Path) -> None:
    patience.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    patience.conmon.stop("exec")
    refused(patience.cli("exec", "c", "true", check=False), "answer", code=NO_SESSION)
    assert patience.inspect("c")["ExecIDs"] == []
    patience.conmon.obey()
    assert patience.out("exec", "c", "echo", "works") == "works"


@pytest.mark.parametrize("step", ["before-exec", "after-exec"])
def test_a_runtime_that_hangs_in_exec_costs_the_session_alone(
    patience: Faulty, rootfs: Path, step: str
) -> None:
    patience.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    patience.runtime.hold(step)
    with patience.spawn("exec", "c", "sleep", "1001") as client:
        hung = patience.runtime.reached(step)
        assert client.wait(20) == NO_SESSION
    assert not processes.wait_gone([hung], 20)
    assert patience.inspect("c")["ExecIDs"] == []
    assert state(patience, "c")["Status"] == "running"
    assert patience.out("exec", "c", "echo", "works") == "works"
    until(lambda: "1001" not in patience.out("exec", "c", "ps"), "it runs all the same")


def test_a_runtime_that_hangs_in_pause_leaves_a_container_that_can_be_stopped(
    patience: Faulty, rootfs: Path
) -> None:
    patience.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    patience.runtime.hold("before-pause")
    refused(patience.cli("pause", "c", check=False), "pause", "did not answer")
    assert state(patience, "c")["Status"] == "running"
    patience.runtime.obey()
    patience.cli("pause", "c")
    patience.cli("stop", "-t", "0", "c")
    assert state(patience, "c")["Status"] == "exited"


def test_a_clean_up_that_hangs_is_tried_again_by_the_next_start(patience: Faulty, rootfs: Path) -> None:
    patience.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    patience.runtime.hold("before-delete")
    patience.cli("stop", "-t", "0", "c")
    assert state(patience, "c")["Status"] in ("stopped", "exited")
    patience.runtime.obey()
    patience.cli("start", "c")
    assert state(patience, "c")["Status"] == "running"


# The root filesystem


@pytest.mark.parametrize("suffix", ["", ":O"])
def test_a_root_filesystem_that_went_away_is_named_at_the_start(
    faulty: Faulty, tmp_path: Path, suffix: str
) -> None:
    root = tmp_path / "gone"
    root.mkdir()
    faulty.cli("create", "--name", "c", "--rootfs", f"{root}{suffix}", "true")
    root.rmdir()
    done = faulty.cli("start", "c", check=False)
    refused(done, str(root), code=done.returncode)
    assert state(faulty, "c")["Status"] == "created"
    nothing_runs(faulty)
    faulty.cli("rm", "c")
