"""Limits of a container, read back from where the kernel has them, and what of them is felt inside."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.oci.host import least_oom_score
from tests.support.disk import made_disk
from tests.support.leaks import cgroup_directories, remove_cgroups
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.disk import Disk
    from tests.support.engine import Engine

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20

v1 = pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1")
v2 = pytest.mark.skipif(not (ROOT / "cgroup.controllers").exists(), reason="this host has no cgroup v2 alone")


@pytest.fixture
def disk() -> Iterator[Disk]:
    with made_disk() as disk:
        yield disk


@pytest.fixture
def realtime() -> Iterator[str]:
    """A cgroup that has a little time for realtime processes, for a test's containers."""
    path = f"/pyman-tests/realtime-{os.getpid()}"
    above = ROOT / "cpu/pyman-tests"
    try:
        for directory in (above, ROOT / f"cpu{path}"):
            directory.mkdir(exist_ok=True)
            (directory / "cpu.rt_runtime_us").write_text("20000")
        yield path
    finally:
        remove_cgroups({found for found in cgroup_directories() if f"{path}/" in f"{found}/"})
        with suppress(OSError):  # others are in it
            above.rmdir()


def run(engine: Engine, rootfs: Path, *options: str) -> None:
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")


def refusal(engine: Engine, rootfs: Path, *options: str) -> str:
    """And nothing is there afterwards."""
    told = engine.cli("create", "--name", "c", *options, "--rootfs", str(rootfs), "true", check=False)
    assert told.returncode == 125
    assert engine.out("ps", "-a", "-q") == ""
    return told.stderr


def in_cgroup(engine: Engine, file: str) -> str:
    """`memory/memory.limit_in_bytes` of the container's own cgroup."""
    controller, _, name = file.partition("/")
    path: str = engine.inspect("c")["State"]["CgroupPath"].lstrip("/")
    return (ROOT / controller / path / name).read_text().strip()


@pytest.mark.oci_runtime("runc")
def test_the_daemon_may_open_as_many_files_as_it_is_permitted(engine: Engine) -> None:
    """The limits that whoever started the supervisor happened to have are not the engine's."""
    _, most = resource.prlimit(engine.keeper_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(engine.keeper_pid, resource.RLIMIT_NOFILE, (100, most))
    engine.kill()
    (line,) = [
        text
        for text in Path(f"/proc/{engine.pid}/limits").read_text().splitlines()
        if text.startswith("Max open files")
    ]
    assert line.split()[3:5] == [str(most), str(most)]


# ------------------------------------------------------------------ block devices


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_speeds_at_a_device_are_in_the_cgroup_and_in_inspect(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    options = {
        "--device-read-bps": ("blkio.throttle.read_bps_device", "1mb", MIB, "BlkioDeviceReadBps"),
        "--device-write-bps": ("blkio.throttle.write_bps_device", "512k", 512 << 10, "BlkioDeviceWriteBps"),
        "--device-read-iops": ("blkio.throttle.read_iops_device", "100", 100, "BlkioDeviceReadIOps"),
        "--device-write-iops": ("blkio.throttle.write_iops_device", "50", 50, "BlkioDeviceWriteIOps"),
    }
    words = [word for option, (_, value, *_) in options.items() for word in (option, f"{disk.path}:{value}")]
    run(shared_engine, rootfs, *words)
    told = shared_engine.inspect("c")["HostConfig"]
    for option, (file, _, rate, field) in options.items():
        assert in_cgroup(shared_engine, f"blkio/{file}") == f"{disk.number} {rate}", option
        assert told[field] == [{"Path": disk.path, "Rate": rate}], option


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_the_speed_at_a_device_is_felt(shared_engine: Engine, rootfs: Path, disk: Disk) -> None:
    read = ("--rootfs", f"{rootfs}:O", "dd", f"if={disk.path}", "of=/dev/null", "bs=64k", "count=32")
    begun = time.monotonic()
    shared_engine.cli("run", "--rm", "--device", disk.path, "--device-read-bps", f"{disk.path}:1mb", *read)
    assert time.monotonic() - begun > 1.5


@v1
@pytest.mark.oci_runtime("runc")
def test_weights_at_devices_are_in_the_cgroup_and_in_inspect(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    disk.schedule("bfq")
    run(shared_engine, rootfs, "--blkio-weight", "200", "--blkio-weight-device", f"{disk.path}:300")
    assert in_cgroup(shared_engine, "blkio/blkio.bfq.weight") == "200"
    assert f"{disk.number} 300" in in_cgroup(shared_engine, "blkio/blkio.bfq.weight_device").splitlines()
    told = shared_engine.inspect("c")["HostConfig"]
    assert told["BlkioWeight"] == 200
    assert told["BlkioWeightDevice"] == [{"Path": disk.path, "Weight": 300}]


@v1
@pytest.mark.oci_runtime("crun")
def test_what_crun_cannot_weigh_is_refused(shared_engine: Engine, rootfs: Path) -> None:
    assert "cannot use --blkio-weight: crun does not know where" in refusal(
        shared_engine, rootfs, "--blkio-weight", "200"
    )


@v1
@pytest.mark.oci_runtime("runc")
def test_a_device_that_cannot_be_limited_is_refused_by_name(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    for option, value, reason in (
        ("--device-read-bps", "/dev/nothing:1mb", "no such file or directory"),
        ("--device-write-bps", "/dev/null:1mb", "it is no block device"),
        ("--device-read-iops", "/tmp:1", "it is no block device"),
    ):
        assert f"cannot use {option} {value.rpartition(':')[0]}: {reason}" in refusal(
            shared_engine, rootfs, option, value
        )
    for option, value, hint in (
        ("--device-read-bps", f"{disk.path}:fast", "DEVICE:RATE"),
        ("--device-read-bps", f"{disk.path}:-1", "DEVICE:RATE"),
        ("--device-write-iops", f"{disk.path}:1k", "DEVICE:NUMBER"),
        ("--device-write-iops", "loop:1", "DEVICE:NUMBER"),
        ("--blkio-weight-device", f"{disk.path}:0", "DEVICE:WEIGHT"),
    ):
        told = refusal(shared_engine, rootfs, option, value)
        assert f"option {option} cannot be '{value}'" in told
        assert hint in told
    assert "cannot use --blkio-weight '9': a weight is from 10 to 1000" in refusal(
        shared_engine, rootfs, "--blkio-weight", "9"
    )
    unweighed = refusal(shared_engine, rootfs, "--blkio-weight-device", f"{disk.path}:300")
    assert "the device's scheduler is not bfq, which alone weighs" in unweighed


# ------------------------------------------------------------------ memory that is short


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_nothing_is_killed_at_the_limit_of_memory_if_that_is_wanted(
    shared_engine: Engine, rootfs: Path
) -> None:
    told = refusal(shared_engine, rootfs, "--oom-kill-disable")
    assert "cannot use --oom-kill-disable without --memory" in told
    run(shared_engine, rootfs, "--oom-kill-disable", "-m", "64m")
    assert "oom_kill_disable 1" in in_cgroup(shared_engine, "memory/memory.oom_control").splitlines()
    assert shared_engine.inspect("c")["HostConfig"]["OomKillDisable"] is True


@pytest.mark.oci_runtime("runc", "crun", "rootless")
def test_a_container_sees_its_own_oom_score(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "--oom-score-adj", "500")
    assert shared_engine.out("exec", "c", "cat", "/proc/1/oom_score_adj") == "500"
    assert shared_engine.inspect("c")["HostConfig"]["OomScoreAdj"] == 500


@pytest.mark.oci_runtime("runc", "rootless")
def test_an_oom_score_that_is_not_permitted_is_refused(shared_engine: Engine, rootfs: Path) -> None:
    assert "it must be from -1000 to 1000" in refusal(shared_engine, rootfs, "--oom-score-adj", "1001")
    if least_oom_score() > -1000 or isinstance(shared_engine, UserEngine):
        told = refusal(shared_engine, rootfs, "--oom-score-adj", "-1000")
        assert "cannot use --oom-score-adj '-1000': without CAP_SYS_RESOURCE on the host" in told
    else:
        out = shared_engine.out(
            "run",
            "--rm",
            "--oom-score-adj",
            "-1000",
            "--rootfs",
            f"{rootfs}:O",
            "cat",
            "/proc/self/oom_score_adj",
        )
        assert out == "-1000"


# ------------------------------------------------------------------ realtime


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_realtime_is_in_the_cgroup_and_in_inspect(shared_engine: Engine, rootfs: Path, realtime: str) -> None:
    run(
        shared_engine,
        rootfs,
        "--cgroup-parent",
        realtime,
        "--cpu-rt-period",
        "500000",
        "--cpu-rt-runtime",
        "5000",
    )
    assert in_cgroup(shared_engine, "cpu/cpu.rt_period_us") == "500000"
    assert in_cgroup(shared_engine, "cpu/cpu.rt_runtime_us") == "5000"
    told = shared_engine.inspect("c")["HostConfig"]
    assert (told["CpuRealtimePeriod"], told["CpuRealtimeRuntime"]) == (500_000, 5000)
    shared_engine.cli("rm", "-f", "-t", "0", "c")


@v1
@pytest.mark.oci_runtime("runc")
def test_realtime_that_the_cgroup_above_does_not_have_is_refused(
    shared_engine: Engine, rootfs: Path, realtime: str
) -> None:
    for options, reason in (
        (
            ("--cpu-rt-runtime", "500000"),
            f"the cgroup '{realtime}' above it has 20000 of 1000000 microseconds",
        ),
        (("--cpu-rt-period", "1000", "--cpu-rt-runtime", "1001"), "it must be from 0 to the period, 1000"),
        (("--cpu-rt-period", "0", "--cpu-rt-runtime", "1000001"), "it must be from 0 to the period, 1000000"),
        (("--cpu-rt-period", "-5"), "it must be from 1 to"),
    ):
        assert reason in refusal(shared_engine, rootfs, "--cgroup-parent", realtime, *options)


# ------------------------------------------------------------------ files of cgroup v2


@v1
@pytest.mark.oci_runtime("runc", "rootless")
def test_files_of_cgroup_v2_are_refused_on_v1(shared_engine: Engine, rootfs: Path) -> None:
    told = refusal(shared_engine, rootfs, "--cgroup-conf", "memory.high=1073741824")
    assert "cannot use --cgroup-conf memory.high: it sets a file of cgroup v2" in told


@v2
@pytest.mark.oci_runtime("runc", "crun")
def test_a_container_sees_the_files_of_its_cgroup(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "--cgroup-conf", "memory.high=1073741824")
    assert shared_engine.out("exec", "c", "cat", "/sys/fs/cgroup/memory.high") == "1073741824"
    assert shared_engine.inspect("c")["HostConfig"]["CgroupConf"] == {"memory.high": "1073741824"}


@v1
@pytest.mark.oci_runtime("rootless")
def test_an_ordinary_user_is_refused_by_the_name_of_the_option(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    for options in (
        ("--blkio-weight", "200"),
        ("--device-read-bps", f"{disk.path}:1mb"),
        ("--device-write-iops", f"{disk.path}:10"),
        ("--cpu-rt-period", "1000"),
    ):
        told = refusal(shared_engine, rootfs, *options)
        assert told.startswith(f"Error: cannot use {options[0]}: ")
        assert "an ordinary user's containers have no cgroup on cgroup v1" in told
