"""The daemon killed between two steps of a start that joins another container's namespaces: it joins these, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_killed_daemon import START_STEPS, kill_daemon, nothing_left, runs_once, statuses
from tests.support import processes

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty

KINDS = ("ipc", "pid", "net", "uts")


def spaces(engine: Faulty, name: str) -> list[str]:
    pid = engine.inspect(name)["State"]["Pid"]
    return [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS]


@pytest.mark.parametrize("let_go", ["while no daemon runs", "after the next has begun"])
@pytest.mark.parametrize("step", START_STEPS)
def test_a_start_that_joins_comes_to_a_container_that_has_joined(
    faulty: Faulty, rootfs: Path, step: str, let_go: str
) -> None:
    faulty.cli("run", "-d", "--name", "owner", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.cli("exec", "owner", "touch", "/dev/shm/theirs")
    joins = [f"--{kind}=container:owner" for kind in ("ipc", "pid", "network", "uts")]
    id = faulty.out("create", "--name", "c", *joins, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    faulty.runtime.hold(step)
    with faulty.spawn("start", "c") as client:
        held = faulty.runtime.reached(step)
        if let_go == "while no daemon runs":
            with faulty.stopped_daemon():
                faulty.runtime.let_go(step)
                if step != "before-start":
                    processes.wait_gone([held], 10)
        else:
            kill_daemon(faulty)
            faulty.wait_ready()
            faulty.runtime.let_go(step)
        client.wait(20)
    faulty.cli("wait", "--condition", "running", "c")
    runs_once(faulty, id)
    assert spaces(faulty, "c") == spaces(faulty, "owner")
    assert faulty.out("exec", "c", "ls", "/dev/shm") == "theirs"
    faulty.cli("rm", "-f", "-t", "0", "c")
    assert statuses(faulty, id).count("start") == 1
    nothing_left(faulty, id)
    faulty.cli("rm", "-f", "-t", "0", "owner")


def test_a_start_that_fails_for_want_of_a_daemon_is_made_again(faulty: Faulty, rootfs: Path) -> None:
    """What it is to join the OCI runtime finds in the daemon, and there is none."""
    faulty.cli("run", "-d", "--name", "owner", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    id = faulty.out(
        "create", "--name", "c", "--uts=container:owner", "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    faulty.runtime.hold("before-create")
    with faulty.spawn("start", "c") as client:
        held = faulty.runtime.reached("before-create")
        assert faulty.keeper is not None
        # Who does not go on brings no other daemon.
        os.kill(faulty.keeper.pid, signal.SIGSTOP)
        try:
            kill_daemon(faulty)
            faulty.runtime.let_go("before-create")
            assert not processes.wait_gone([held], 10)
        finally:
            os.kill(faulty.keeper.pid, signal.SIGCONT)
        faulty.wait_ready()
        client.wait(20)
    faulty.cli("wait", "--condition", "running", "c")
    runs_once(faulty, id)
    assert spaces(faulty, "c")[KINDS.index("uts")] == spaces(faulty, "owner")[KINDS.index("uts")]
    faulty.cli("rm", "-f", "-t", "0", "c", "owner")
    nothing_left(faulty, id)


def test_what_was_made_ready_for_a_start_that_does_not_come_is_given_back(
    faulty: Faulty, rootfs: Path
) -> None:
    """The other container's /dev/shm is mounted on the host by then."""
    faulty.cli("run", "-d", "--name", "owner", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    id = faulty.out("create", "--name", "c", "--ipc=container:owner", "--rootfs", f"{rootfs}:O", "true")
    faulty.runtime.hold("before-create")
    with faulty.spawn("start", "c") as client:
        faulty.runtime.reached("before-create")
        assert f"/{id}/mounts/shm" in Path("/proc/self/mountinfo").read_text()
        kill_daemon(faulty)
        with faulty.spawn("rm", "-f", "-t", "0", "c") as removal:
            faulty.wait_ready()
            faulty.runtime.let_go("before-create")
            assert removal.wait(20) == 0
        client.wait(20)
    nothing_left(faulty, id)
    faulty.cli("rm", "-f", "-t", "0", "owner")
