"""The same limits are shown by the same names as the installed Podman shows them, and mean the same in the cgroup."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.kernel import mounts
from tests.support.disk import made_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine import Engine

ROOT = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1"),
    pytest.mark.oci_runtime("runc"),
]

SHOWN = (
    "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps", "BlkioWeight",
    "BlkioWeightDevice", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares", "CpusetCpus",
    "CpusetMems", "Memory", "MemoryReservation", "MemorySwap", "MemorySwappiness", "NanoCpus", "OomKillDisable",
    "OomScoreAdj", "PidsLimit",
)  # fmt: skip
OPTIONS = [
    "",
    "-m 64m --memory-swap 96m --memory-reservation 32m --memory-swappiness 10 --oom-kill-disable",
    "-m 64m",
    "--cpus 0.5 -c 77 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit 33",
    "--cpu-period 50000 --cpu-quota 20000 --oom-score-adj 100",
    "--device-read-bps {disk}:1mb --device-write-bps {disk}:2m",
    "--device-read-iops {disk}:10 --device-write-iops {disk}:20",
]
CHANGES = [
    "-m 32m --cpus 0.7",
    "-c 99 --memory-reservation 16m --cpuset-cpus 0",
]
FILES = (
    "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.soft_limit_in_bytes",
    "cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "cpuset/cpuset.cpus", "pids/pids.max",
)  # fmt: skip


@pytest.fixture(scope="module")
def podman() -> Iterator[Callable[..., str]]:
    """What Podman prints. It refuses a run root whose path is longer than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="pm-podman-", dir="/tmp") as directory:
        roots = [
            "--root",
            f"{directory}/root",
            "--runroot",
            f"{directory}/run",
            "--tmpdir",
            f"{directory}/tmp",
        ]

        def call(*words: str, check: bool = True) -> str:
            done = subprocess.run(
                ["podman", *roots, "--runtime", "runc", "--cgroup-manager", "cgroupfs", *words],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )
            assert not check or done.returncode == 0, done.stderr
            return done.stdout

        try:
            yield call
        finally:
            call("rm", "-af", "-t", "0", check=False)
            for target in reversed(mounts.mounts_below(directory)):
                mounts.unmount(target, lazy=True)


def chosen(told: dict[str, Any]) -> dict[str, Any]:
    """Where one has an empty list the other has null. Podman looks a device's path up by its number alone, and may find
    another kind of device of that number; early ones have -1 for the swappiness that nobody has set."""
    found: dict[str, Any] = {name: told.get(name) or 0 for name in SHOWN}
    for name in SHOWN:
        if name.startswith("BlkioDevice") and found[name]:
            found[name] = [device["Rate"] for device in found[name]]
    return {**found, "MemorySwappiness": max(0, found["MemorySwappiness"])}


@pytest.mark.parametrize("options", OPTIONS)
def test_limits_are_shown_as_podman_shows_them(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], options: str
) -> None:
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    with made_disk() as disk:
        words = [*options.format(disk=disk.path).split(), *limits, "--network", "none"]
        id = podman("create", *words, "--rootfs", str(rootfs), "true").strip()
        shared_engine.cli("create", "--name", "c", *words, "--rootfs", str(rootfs), "true")
        theirs = json.loads(podman("inspect", id))[0]["HostConfig"]
        assert chosen(shared_engine.inspect("c")["HostConfig"]) == chosen(theirs)


def held(path: str) -> dict[str, str]:
    found = {}
    for file in FILES:
        controller, _, name = file.partition("/")
        found[name] = (ROOT / controller / path.lstrip("/") / name).read_text().strip()
    return found


def test_an_update_does_to_the_cgroup_what_podmans_does(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str]
) -> None:
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    words = (*limits, "--network", "none", "-m", "64m", "--rootfs", str(rootfs), "sleep", "1000")
    id = podman("run", "-d", *words).strip()
    shared_engine.cli("run", "-d", "--name", "c", *words)
    for change in CHANGES:
        podman("update", *change.split(), id)
        shared_engine.cli("update", *change.split(), "c")
        theirs = held(json.loads(podman("inspect", id))[0]["State"]["CgroupPath"])
        assert held(shared_engine.inspect("c")["State"]["CgroupPath"]) == theirs
    podman("rm", "-f", "-t", "0", id)
