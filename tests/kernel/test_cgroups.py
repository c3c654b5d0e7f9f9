"""A process gets a cgroup of its own wherever somebody else acts on cgroups."""

from __future__ import annotations

import errno
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


V1 = """\
25 20 0:22 / /sys/fs/cgroup ro,nosuid shared:5 - tmpfs tmpfs ro,mode=755
27 25 0:24 / /sys/fs/cgroup/systemd rw,nosuid shared:7 - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw shared:8 - cgroup cgroup rw,cpu,cpuacct
29 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
30 25 0:27 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids
"""
V2_SIDE = "26 25 0:23 / /sys/fs/cgroup/unified rw shared:6 - cgroup2 cgroup2 rw,nsdelegate\n"
V2 = """\
29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
90 23 0:26 /user.slice /mnt/elsewhere rw - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    "mountinfo, mode, matter",
    [
        (V1, "v1", ["systemd", "memory", "pids"]),
        (V1 + V2_SIDE, "hybrid", ["systemd", "memory", "pids", "unified"]),
        (V2, "v2", [""]),
    ],
)
def test_every_kind_of_host_is_understood(
    monkeypatch: pytest.MonkeyPatch, mountinfo: str, mode: str, matter: list[str]
) -> None:
    monkeypatch.setattr(cgroups, "_hierarchies", lambda: cgroups._parse(mountinfo.splitlines()))
    assert cgroups.mode() == mode
    assert cgroups._that_matter() == [f"/sys/fs/cgroup/{name}".rstrip("/") for name in matter]


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


def test_expecting_a_move_moves_nothing() -> None:
    before = of(os.getpid())
    cgroups.expect_move()
    assert of(os.getpid()) == before
    assert cgroups._own_procs().endswith("/cgroup.procs")


def test_expecting_a_move_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(cgroups, "_own_procs", refuse)
    cgroups.expect_move()


def test_a_process_joins_another_one_and_makes_nothing(group: str, sleeper: int) -> None:
    assert cgroups.place(sleeper, group)
    there = Path(f"/proc/{sleeper}/cgroup").read_text()
    with subprocess.Popen(["sleep", "60"]) as other:
        assert cgroups.join(other.pid, there)
        assert of(other.pid) == of(sleeper)
        elsewhere = there.replace(group, f"{group}/none")
        assert not cgroups.join(other.pid, elsewhere)
        assert not cgroups.join(other.pid, there.replace(group, f"{group}/../none"))
        assert of(other.pid) == of(sleeper)
        assert not any(Path("/sys/fs/cgroup").glob(f"*{group}/none"))
        other.kill()
    assert cgroups.join(sleeper, "nonsense\n")  # nowhere to go is nowhere to fail


def test_a_cgroup_is_given_without_its_limits(group: str, sleeper: int) -> None:
    assert cgroups.place(sleeper, group)
    assert cgroups.give(sleeper, 12345, 12346)
    owned = {
        str(path.relative_to(directory))
        for directory in Path("/sys/fs/cgroup").glob(f"**{group}")
        for path in (directory, *directory.iterdir())
        if (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    }
    assert {".", "cgroup.procs"} <= owned
    assert owned <= {".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"}
    limits = Path("/sys/fs/cgroup/pids", group.lstrip("/"))
    assert not limits.is_dir() or limits.stat().st_uid == 0
