"""A process gets a cgroup of its own wherever somebody else acts on cgroups."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import cgroups
from tests.support.runtimes import hybrid_cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/sys/fs/cgroup", os.W_OK), reason="needs cgroups that can be written"
)


@pytest.fixture
def group() -> Iterator[str]:
    path = f"/pyman-tests-{secrets.token_hex(8)}"
    yield path
    cgroups.remove(path)


@pytest.fixture
def sleeper() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


def of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines}


def test_the_mode_is_that_of_the_host() -> None:
    if hybrid_cgroups():
        assert cgroups.mode() == "hybrid"
    elif os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        assert cgroups.mode() == "v2"
    else:
        assert cgroups.mode() == "v1"


def test_a_process_is_placed_wherever_it_matters(group: str, sleeper: int) -> None:
    path = f"{group}/conmon-1"
    assert cgroups.place(sleeper, path)
    where = of(sleeper)
    for controllers, at in where.items():
        matters = controllers in ("", "name=systemd") or {"pids", "memory"} & set(controllers.split(","))
        assert (at == path) == bool(matters), controllers
    assert cgroups.pids(path) == [sleeper]
    assert cgroups.pids(group) == [sleeper]
    assert not cgroups.remove(group), "it is in use"
    os.kill(sleeper, 9)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
    assert cgroups.remove(path)
    assert cgroups.remove(path)
    assert cgroups.pids(path) == []


def test_a_process_that_is_gone_is_told_and_leaves_no_trouble(group: str) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert not cgroups.place(child.pid, group)
    assert cgroups.remove(group)


def test_what_is_frozen_stands_still_until_it_is_thawed(group: str, sleeper: int) -> None:
    assert cgroups.place(sleeper, group)
    for hierarchy in cgroups._hierarchies():
        if "freezer" in hierarchy.controllers:
            os.makedirs(hierarchy.mount_point + group, exist_ok=True)
            Path(hierarchy.mount_point + group, "cgroup.procs").write_text(str(sleeper))
    assert not cgroups.frozen(group)
    cgroups.freeze(group)
    deadline = time.monotonic() + 5
    while not cgroups.frozen(group):
        assert time.monotonic() < deadline
    cgroups.thaw(group)
    assert not cgroups.frozen(group)


def test_a_cgroup_that_is_not_there_cannot_be_frozen() -> None:
    with pytest.raises(FileNotFoundError):
        cgroups.freeze("/no/such/cgroup")
    with pytest.raises(FileNotFoundError):
        cgroups.frozen("/no/such/cgroup")


def test_placing_in_a_row_costs_less_than_a_millisecond(group: str) -> None:
    spent = []
    for number in range(15):
        child = subprocess.Popen(["sleep", "60"])
        before = time.perf_counter()
        cgroups.place(child.pid, f"{group}/conmon-{number}")
        spent.append(time.perf_counter() - before)
        child.kill()
        child.wait()
        assert cgroups.remove(f"{group}/conmon-{number}")
    assert sorted(spent)[2] < 0.002
