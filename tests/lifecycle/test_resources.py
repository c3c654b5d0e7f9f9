"""Limits of a container's cgroup, as the kernel has them, and cgroups in other places."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.leaks import cgroup_directories, remove_cgroups
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine
    from tests.support.runtimes import Place

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
LIMITS = {
    "memory/memory.limit_in_bytes": ("-m", "64m", str(64 * MIB)),
    "memory/memory.memsw.limit_in_bytes": ("--memory-swap", "96m", str(96 * MIB)),
    "memory/memory.soft_limit_in_bytes": ("--memory-reservation", "32m", str(32 * MIB)),
    "memory/memory.swappiness": ("--memory-swappiness", "10", "10"),
    "cpu/cpu.shares": ("-c", "512", "512"),
    "cpu/cpu.cfs_quota_us": ("--cpus", "0.5", "50000"),
    "cpuset/cpuset.cpus": ("--cpuset-cpus", "0", "0"),
    "cpuset/cpuset.mems": ("--cpuset-mems", "0", "0"),
    "pids/pids.max": ("--pids-limit", "77", "77"),
}
"""File of cgroup v1, option, its value, what is in the file."""


@pytest.fixture
def parent() -> Iterator[str]:
    """A cgroup for the test's containers, in every hierarchy."""
    path = f"/pyman-tests/parent-{os.getpid()}"
    yield path
    mine = {found for found in cgroup_directories() if f"{path}/" in f"{found}/"}
    assert not [found for found in mine if not found.endswith(path)]
    remove_cgroups(mine)


def cgroups_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {name: path for _, name, path in (line.split(":", 2) for line in lines)}


def start(engine: Engine, rootfs: Path, *options: str) -> dict[str, int]:
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    told = engine.inspect("c")["State"]
    return {"init": told["Pid"], "conmon": told["ConmonPid"]}


@pytest.mark.oci_runtime("runc", "crun")
def test_limits_are_in_the_cgroup_and_in_inspect(shared_engine: Engine, rootfs: Path) -> None:
    if not (ROOT / "memory").is_dir():
        pytest.skip("this host has no cgroup v1")
    options = [word for option, value, _ in LIMITS.values() for word in (option, value)]
    start(shared_engine, rootfs, *options)
    inspected = shared_engine.inspect("c")
    path = inspected["State"]["CgroupPath"].lstrip("/")
    for name, (option, _, expected) in LIMITS.items():
        controller, _, file = name.partition("/")
        assert (ROOT / controller / path / file).read_text().strip() == expected, option
    told = inspected["HostConfig"]
    assert (told["Memory"], told["MemorySwap"], told["MemoryReservation"]) == (64 * MIB, 96 * MIB, 32 * MIB)
    assert (told["NanoCpus"], told["CpuPeriod"], told["CpuQuota"]) == (500_000_000, 100_000, 50_000)
    assert (told["CpuShares"], told["CpusetCpus"], told["CpusetMems"]) == (512, "0", "0")
    assert (told["PidsLimit"], told["MemorySwappiness"]) == (77, 10)


@pytest.mark.oci_runtime("runc", "crun")
def test_the_limit_of_memory_is_felt(shared_engine: Engine, rootfs: Path) -> None:
    eater = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    options = ("--rm", "-m", "16m", "--memory-swap", "16m", "--rootfs", f"{rootfs}:O")
    assert shared_engine.cli("run", *options, "sh", "-c", eater, check=False).returncode != 0
    assert shared_engine.cli("run", *options, "true").returncode == 0


@pytest.mark.oci_runtime("runc", "crun")
def test_without_limit_there_is_none(shared_engine: Engine, rootfs: Path) -> None:
    start(shared_engine, rootfs, "--pids-limit", "-1", "-m", "0", "--cpus", "0")
    told = shared_engine.inspect("c")["HostConfig"]
    assert (told["PidsLimit"], told["Memory"], told["NanoCpus"]) == (0, 0, 0)
    path = shared_engine.inspect("c")["State"]["CgroupPath"].lstrip("/")
    if (ROOT / "pids").is_dir():
        assert (ROOT / "pids" / path / "pids.max").read_text() == "max\n"


@pytest.mark.oci_runtime("runc", "crun")
def test_a_parent_has_the_container_and_its_monitor(shared_engine: Engine, rootfs: Path, parent: str) -> None:
    pids = start(shared_engine, rootfs, "--cgroup-parent", parent)
    id = shared_engine.inspect("c")["Id"]
    assert cgroups_of(pids["init"])["pids"] == f"{parent}/ctr-{id}"
    assert cgroups_of(pids["conmon"])["pids"] == f"{parent}/conmon-{id}"
    assert shared_engine.inspect("c")["HostConfig"]["CgroupParent"] == parent
    shared_engine.cli("pause", "c")
    shared_engine.cli("unpause", "c")
    shared_engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not [path for path in cgroup_directories() if id in path], "its cgroup stays")


@pytest.mark.oci_runtime("runc", "crun")
def test_conmon_stays_where_it_was_started_if_that_is_wanted(shared_engine: Engine, rootfs: Path) -> None:
    pids = start(shared_engine, rootfs, "--cgroups", "no-conmon")
    assert cgroups_of(pids["conmon"]) == cgroups_of(shared_engine.pid)
    assert cgroups_of(pids["init"]) != cgroups_of(shared_engine.pid)
    assert shared_engine.out("exec", "c", "echo", "works") == "works"
    assert shared_engine.inspect("c")["HostConfig"]["Cgroups"] == "no-conmon"


@pytest.mark.oci_runtime("crun")
def test_a_container_can_do_without_a_cgroup(shared_engine: Engine, rootfs: Path) -> None:
    pids = start(shared_engine, rootfs, "--cgroups", "disabled")
    assert cgroups_of(pids["init"]) == cgroups_of(pids["conmon"]) == cgroups_of(shared_engine.pid)
    assert shared_engine.out("exec", "c", "echo", "works") == "works"
    refused = shared_engine.cli("pause", "c", check=False)
    assert "it has no cgroup" in refused.stderr
    limited = shared_engine.cli(
        "run", "--cgroups", "disabled", "-m", "64m", "--rootfs", f"{rootfs}:O", "true", check=False
    )
    assert "cannot use --memory: it has no cgroup (--cgroups disabled)" in limited.stderr


@pytest.mark.oci_runtime("runc", "crun")
def test_split_divides_the_callers_cgroup(
    shared_engine: Engine, rootfs: Path, parent: str, oci_runtime: Place
) -> None:
    systemds = ROOT / "systemd"
    if not systemds.is_dir():
        pytest.skip("this host has no cgroup v1")
    own = Path(f"{systemds}{parent}")
    own.mkdir(parents=True)
    words = shared_engine.command(
        "run", "-d", "--name", "c", "--cgroups", "split", "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    subprocess.run(
        ["sh", "-c", f'echo $$ >{own}/cgroup.procs; exec "$@"', "sh", *oci_runtime.prefix("/"), *words],
        env=shared_engine.environment,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=30,
    )
    told = shared_engine.inspect("c")
    for kind, pid in (("ctr", "Pid"), ("conmon", "ConmonPid")):
        assert cgroups_of(told["State"][pid])["name=systemd"] == f"{parent}/{kind}-{told['Id']}"
    shared_engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not [path for path in cgroup_directories() if told["Id"] in path], "its cgroup stays")


@pytest.mark.oci_runtime("rootless")
def test_an_ordinary_user_without_a_cgroup_is_refused_limits_by_name(
    shared_engine: Engine, rootfs: Path
) -> None:
    for options in (["-m", "64m"], ["--cpus", "1"], ["--pids-limit", "5"], ["--cpuset-cpus", "0"]):
        told = shared_engine.cli("create", *options, "--rootfs", str(rootfs), "true", check=False)
        assert told.returncode == 125
        assert told.stderr.startswith("Error: cannot use --")
        assert "an ordinary user's containers have no cgroup" in told.stderr
    told = shared_engine.cli(
        "create", "--cgroup-parent", "/elsewhere", "--rootfs", str(rootfs), "true", check=False
    )
    assert "cannot use --cgroup-parent '/elsewhere': this user may not make cgroups there" in told.stderr
    assert shared_engine.out("ps", "-a", "-q") == ""
    assert shared_engine.out("run", "--rm", "--rootfs", f"{rootfs}:O", "echo", "works") == "works"
    start(shared_engine, rootfs)
    inspected = shared_engine.inspect("c")
    assert (inspected["HostConfig"]["PidsLimit"], inspected["State"]["CgroupPath"]) == (0, "")
    assert shared_engine.out("info", "--format", "{{.host.cgroupControllers}}") == "[]"


@pytest.mark.oci_runtime("runc", "crun")
def test_the_next_supervisor_finds_the_cgroups_that_were_chosen(
    engine: Engine, rootfs: Path, parent: str
) -> None:
    start(engine, rootfs, "--cgroup-parent", parent, "-m", "64m")
    id = engine.inspect("c")["Id"]
    engine.kill()
    engine.cli("pause", "c")
    engine.cli("unpause", "c")
    assert engine.inspect("c")["HostConfig"]["Memory"] == 64 * MIB
    engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not [path for path in cgroup_directories() if id in path], "its cgroup stays")


@pytest.mark.oci_runtime("runc")
def test_a_reset_removes_the_cgroups_that_were_chosen(engine: Engine, rootfs: Path, parent: str) -> None:
    start(engine, rootfs, "--cgroup-parent", parent, "--stop-timeout", "0")
    id = engine.inspect("c")["Id"]
    engine.kill_keeper()
    engine.cli("system", "reset", "-f")
    until(lambda: not [path for path in cgroup_directories() if id in path], "its cgroup stays")
