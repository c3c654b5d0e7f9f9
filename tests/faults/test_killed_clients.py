"""A client killed at any instant leaves nothing that ordinary commands cannot see and remove."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import leaks, processes

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty

INSTANTS = 40
LIFE = 0.25
"""Seconds in which a short command is over, on a machine that is not too busy."""


def killed_after(client: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGKILL at an instant that is not synchronised with anything, on purpose."""
    with client:
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(seconds)
        client.kill()


def ids_known(engine: Faulty) -> set[str]:
    return {c["Id"] for c in engine.call("io.pyman.Container.List", {"all": True})["containers"]}


def everything_is_seen(engine: Faulty) -> None:
    """Processes, mounts, cgroups, directories and runtime state belong to containers that `ps -a` lists. What is
    left of one whose removal was told goes at once after that."""
    deadline = time.monotonic() + 20
    while left := unseen(engine):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def unseen(engine: Faulty) -> list[str]:
    known = ids_known(engine)
    directories = [engine.tmpdir / "containers", engine.root / "pyman/containers"]
    present = {path.name for directory in directories for path in directory.iterdir()}
    created = {event["ID"] for event in engine.events(event=["create"])}
    gone = created - known
    left = [*present - known]
    left += [processes.describe(pid) for pid in processes.mentions(gone) if processes.alive(pid)]
    left += [path for path in leaks.cgroup_directories() if any(id in path for id in gone)]
    left += [id for id in gone if Path("/run/runc", id).exists()]
    return left


def settle(engine: Faulty) -> None:
    """What a killed client had begun is finished without it. Names are taken and given back on the way."""
    engine.cli("rm", "--all", "--force", "--time", "0")
    deadline = time.monotonic() + 20
    while ids_known(engine):  # what a client had asked for may have been made after the removal
        assert time.monotonic() < deadline
        engine.cli("rm", "--all", "--force", "--time", "0")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("verb", ["run", "run --rm", "create", "start", "rm", "exec", "stop"])
def test_a_client_killed_at_random_instants_leaves_nothing_unseen(
    faulty: Faulty, rootfs: Path, verb: str
) -> None:
    chance = random.Random(verb)
    root = ("--rootfs", f"{rootfs}:O")
    command = {
        "run": ("run", "--name", "c", *root, "true"),
        "run --rm": ("run", "--rm", "--name", "c", *root, "sleep", "0.05"),
        "create": ("create", "--name", "c", *root, "true"),
        "start": ("start", "--attach", "c"),
        "rm": ("rm", "-f", "-t", "0", "c"),
        "exec": ("exec", "c", "sleep", "0.05"),
        "stop": ("stop", "-t", "0", "c"),
    }[verb]
    for _ in range(INSTANTS // 4):
        if verb == "start":
            faulty.cli("create", "--replace", "--name", "c", *root, "sleep", "0.05")
        elif verb in ("rm", "exec", "stop"):
            faulty.cli("run", "-d", "--replace", "--name", "c", *root, "sleep", "1000")
        killed_after(faulty.spawn(*command), chance.uniform(0, LIFE))
    settle(faulty)
    everything_is_seen(faulty)
    # The name is free.
    faulty.cli("run", "--rm", "--name", "c", *root, "true")
    assert faulty.out("ps", "-aq") == ""


@pytest.mark.parametrize("step", ["before-create", "after-create", "before-start", "after-start"])
def test_a_client_killed_at_an_exact_step_of_its_run_leaves_a_container_that_runs(
    faulty: Faulty, rootfs: Path, step: str
) -> None:
    faulty.runtime.hold(step)
    with faulty.spawn("run", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000") as client:
        faulty.runtime.reached(step)
        client.kill()
    faulty.runtime.let_go(step)
    faulty.cli("wait", "--condition", "running", "c")
    faulty.cli("rm", "-f", "-t", "0", "c")
    everything_is_seen(faulty)


def test_who_asks_one_way_and_leaves_is_served_all_the_same(faulty: Faulty, rootfs: Path) -> None:
    spec = {"name": "c", "rootfs": str(rootfs), "rootfs_overlay": True, "command": ["sleep", "1000"]}
    selection = {"names": ["c"]}
    seq = faulty.events()[-1]["Seq"] if faulty.events() else 0
    for verb, parameters, status in (
        ("Create", {"spec": spec}, "create"),
        ("Start", {"selection": selection}, "start"),
        ("Remove", {"selection": selection, "force": True, "timeout": 0}, "remove"),
    ):
        with faulty.wire() as wire:
            wire.send(f"io.pyman.Container.{verb}", parameters, oneway=True)
        faulty.await_event(lambda event, wanted=status: event["Status"] == wanted, seq)  # type: ignore[misc]
    everything_is_seen(faulty)
