"""The daemon killed in an update: the cgroup and the record come together again, and nobody is told two things."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup")

pytestmark = pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1")


def limits(engine: Faulty) -> tuple[str, str]:
    """Of memory and of processes, as the kernel has them."""
    path = engine.inspect("c")["State"]["CgroupPath"].lstrip("/")
    files = (ROOT / "memory" / path / "memory.limit_in_bytes", ROOT / "pids" / path / "pids.max")
    memory, pids = (file.read_text().strip() for file in files)
    return memory, pids


def updates(engine: Faulty) -> int:
    return len(engine.events(container=[engine.inspect("c")["Id"]], event=["update"]))


def known(engine: Faulty) -> tuple[str, str]:
    told = engine.inspect("c")["HostConfig"]
    return str(told["Memory"]), str(told["PidsLimit"])


@pytest.mark.parametrize("let_go", ["while no daemon runs", "after the next has begun"])
@pytest.mark.parametrize("step", ["before-update", "after-update"])
def test_an_update_that_was_not_recorded_is_taken_back(
    faulty: Faulty, rootfs: Path, step: str, let_go: str
) -> None:
    faulty.cli("run", "-d", "--name", "c", "-m", "64m", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    before = limits(faulty)
    faulty.runtime.hold(step)
    with faulty.spawn("update", "-m", "32m", "--pids-limit", "9", "--restart", "always", "c") as client:
        faulty.runtime.reached(step)
        if let_go == "while no daemon runs":
            with faulty.stopped_daemon():
                faulty.runtime.let_go(step)
        else:
            faulty.drain_notices()
            os.kill(faulty.daemon, signal.SIGKILL)
            faulty.runtime.let_go(step)
            faulty.wait_ready()
        client.wait(20)
        assert client.returncode == 125
    faulty.cli("update", "--env", "A=1", "c")  # it waits until the container was taken over
    assert limits(faulty) == before == known(faulty)
    told = faulty.inspect("c")["HostConfig"]["RestartPolicy"]["Name"]
    assert told == "no"
    assert updates(faulty) == 1
    faulty.cli("update", "-m", "32m", "--pids-limit", "9", "c")
    assert limits(faulty) == known(faulty) == (str(32 * MIB), "9")


def test_an_update_that_cannot_be_taken_back_is_taken_up_again(faulty: Faulty, rootfs: Path) -> None:
    faulty.cli("run", "-d", "--name", "c", "-m", "64m", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    before = limits(faulty)
    faulty.runtime.hold("after-update")
    with faulty.spawn("update", "-m", "32m", "c") as client:
        faulty.runtime.reached("after-update")
        faulty.runtime.fail("update", "no")
        with faulty.stopped_daemon():
            faulty.runtime.let_go("after-update")
        client.wait(20)
    faulty.cli("update", "--env", "A=1", "c")
    assert limits(faulty) != before
    refused = faulty.cli("update", "--pids-limit", "9", "c", check=False)
    assert "cannot update container" in refused.stderr
    faulty.runtime.obey()
    faulty.kill()
    faulty.cli("update", "--env", "A=2", "c")
    assert limits(faulty) == before == known(faulty)


def test_a_container_that_ends_meanwhile_has_the_new_limits_at_its_next_start(
    faulty: Faulty, rootfs: Path
) -> None:
    faulty.cli("run", "-d", "--name", "c", "-m", "64m", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    init = faulty.inspect("c")["State"]["Pid"]
    faulty.runtime.hold("before-update")
    with faulty.spawn("update", "-m", "32m", "c") as client:
        faulty.runtime.reached("before-update")
        os.kill(init, signal.SIGKILL)
        faulty.runtime.let_go("before-update")
        client.wait(20)
        assert client.returncode == 0
    faulty.cli("wait", "c")
    faulty.cli("start", "c")
    assert limits(faulty)[0] == str(32 * MIB)
