"""Changes of a container that exists: its limits as the kernel has them, and what holds from the next start on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.disk import made_disk
from tests.support.runtimes import BY_USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.disk import Disk
    from tests.support.engine import Engine

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
FILES = (
    "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "memory/memory.soft_limit_in_bytes",
    "memory/memory.swappiness", "cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us",
    "cpuset/cpuset.cpus", "cpuset/cpuset.mems", "pids/pids.max", "blkio/blkio.throttle.read_bps_device",
    "blkio/blkio.throttle.write_bps_device", "blkio/blkio.throttle.read_iops_device",
    "blkio/blkio.throttle.write_iops_device",
)  # fmt: skip

v1 = pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="this host has no cgroup v1")


@pytest.fixture
def disk() -> Iterator[Disk]:
    with made_disk() as disk:
        yield disk


def run(engine: Engine, rootfs: Path, *options: str) -> None:
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")


def held(engine: Engine) -> dict[str, str]:
    """What the files of the container's cgroup say."""
    path: str = engine.inspect("c")["State"]["CgroupPath"].lstrip("/")
    found = {}
    for file in FILES:
        controller, _, name = file.partition("/")
        found[name] = (ROOT / controller / path / name).read_text().strip()
    return found


def updates(engine: Engine) -> int:
    return len(engine.events(event=["update"]))


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in after.items() if text != before[name]}


CHANGES = {
    "memory.limit_in_bytes": ("-m", "64m", str(64 * MIB)),
    "memory.memsw.limit_in_bytes": ("--memory-swap", "96m", str(96 * MIB)),
    "memory.soft_limit_in_bytes": ("--memory-reservation", "32m", str(32 * MIB)),
    "memory.swappiness": ("--memory-swappiness", "11", "11"),
    "cpu.shares": ("--cpu-shares", "512", "512"),
    "cpu.cfs_quota_us": ("--cpu-quota", "20000", "20000"),
    "cpu.cfs_period_us": ("--cpu-period", "50000", "50000"),
    "cpuset.cpus": ("--cpuset-cpus", "0", "0"),
    "pids.max": ("--pids-limit", "33", "33"),
}
SPEEDS = {
    "blkio.throttle.read_bps_device": ("--device-read-bps", "1mb", str(MIB)),
    "blkio.throttle.write_bps_device": ("--device-write-bps", "2mb", str(2 * MIB)),
    "blkio.throttle.read_iops_device": ("--device-read-iops", "30", "30"),
    "blkio.throttle.write_iops_device": ("--device-write-iops", "40", "40"),
}


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_limits_of_a_running_container_change_and_go_again(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    run(shared_engine, rootfs)
    at_first = held(shared_engine)
    words = [word for option, value, _ in CHANGES.values() for word in (option, value)]
    words += [word for option, value, _ in SPEEDS.values() for word in (option, f"{disk.path}:{value}")]
    assert shared_engine.out("update", *words, "c") == shared_engine.inspect("c")["Id"]
    assert changed(at_first, held(shared_engine)) == {
        **{file: expected for file, (_, _, expected) in CHANGES.items()},
        **{file: f"{disk.number} {expected}" for file, (_, _, expected) in SPEEDS.items()},
    }
    told = shared_engine.inspect("c")["HostConfig"]
    assert (told["Memory"], told["MemorySwap"], told["MemorySwappiness"]) == (64 * MIB, 96 * MIB, 11)
    assert (told["CpuPeriod"], told["CpuQuota"], told["CpuShares"]) == (50_000, 20_000, 512)
    assert told["BlkioDeviceReadBps"] == [{"Path": disk.path, "Rate": MIB}]
    assert (told["PidsLimit"], told["CpusetCpus"]) == (33, "0")
    nothing = [word for option, *_ in SPEEDS.values() for word in (option, f"{disk.path}:0")]
    nothing += ["-m", "0", "--memory-reservation", "0", "--memory-swappiness", "-1", "--cpus", "0"]
    shared_engine.cli("update", *nothing, "--cpu-shares", "0", "--pids-limit", "-1", "c")
    assert changed(at_first, held(shared_engine)) == {"cpuset.cpus": "0", "pids.max": "max"}
    assert updates(shared_engine) == 2


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_what_was_taken_away_does_not_come_back_with_the_next_change(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    run(shared_engine, rootfs, "--device-read-bps", f"{disk.path}:1mb", "--memory-swappiness", "7")
    shared_engine.cli("update", "--device-read-bps", f"{disk.path}:0", "--memory-swappiness", "9", "c")
    shared_engine.cli("update", "--cpus", "0.5", "c")
    after = held(shared_engine)
    assert after["blkio.throttle.read_bps_device"] == ""
    assert (after["memory.swappiness"], after["cpu.cfs_quota_us"]) == ("9", "50000")


@v1
@pytest.mark.oci_runtime("runc")
def test_weights_of_a_running_container_change(shared_engine: Engine, rootfs: Path, disk: Disk) -> None:
    disk.schedule("bfq")
    run(shared_engine, rootfs, "--blkio-weight", "200")
    path = ROOT / "blkio" / shared_engine.inspect("c")["State"]["CgroupPath"].lstrip("/")
    weights = ("--blkio-weight", "300", "--blkio-weight-device", f"{disk.path}:400")
    shared_engine.cli("update", *weights, "c")
    assert (path / "blkio.bfq.weight").read_text().strip() == "300"
    assert f"{disk.number} 400" in (path / "blkio.bfq.weight_device").read_text().splitlines()
    told = shared_engine.inspect("c")["HostConfig"]
    assert (told["BlkioWeight"], told["BlkioWeightDevice"]) == (300, [{"Path": disk.path, "Weight": 400}])
    shared_engine.cli("update", "--blkio-weight", "0", "--blkio-weight-device", f"{disk.path}:0", "c")
    assert (path / "blkio.bfq.weight_device").read_text().split() == ["default", "100"]


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_limits_of_a_stopped_container_hold_from_its_next_start_on(
    shared_engine: Engine, rootfs: Path, disk: Disk
) -> None:
    shared_engine.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    shared_engine.cli("update", "-m", "64m", "--device-read-iops", f"{disk.path}:5", "c")
    shared_engine.cli("start", "c")
    shared_engine.cli("update", "--cpus", "1.5", "c")
    for _ in range(2):
        after = held(shared_engine)
        assert after["memory.limit_in_bytes"] == str(64 * MIB)
        assert after["blkio.throttle.read_iops_device"] == f"{disk.number} 5"
        assert after["cpu.cfs_quota_us"] == "150000"
        shared_engine.cli("restart", "-t", "0", "c")


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_a_frozen_container_gets_its_limits_and_stays_frozen(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs)
    shared_engine.cli("pause", "c")
    shared_engine.cli("update", "-m", "64m", "--cpus", "0.5", "c")
    assert shared_engine.inspect("c")["State"]["Status"] == "paused"
    assert held(shared_engine)["memory.limit_in_bytes"] == str(64 * MIB)
    shared_engine.cli("unpause", "c")
    assert held(shared_engine)["cpu.cfs_quota_us"] == "50000"


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_an_initialized_container_gets_its_limits(shared_engine: Engine, rootfs: Path) -> None:
    shared_engine.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    shared_engine.cli("init", "c")
    shared_engine.cli("update", "--pids-limit", "12", "c")
    assert held(shared_engine)["pids.max"] == "12"
    shared_engine.cli("start", "c")
    assert held(shared_engine)["pids.max"] == "12"


@v1
@pytest.mark.oci_runtime("runc", "crun")
def test_what_the_kernel_refuses_changes_nothing(shared_engine: Engine, rootfs: Path) -> None:
    fill = "dd if=/dev/zero of=/full/file bs=1M count=40 2>/dev/null; echo filled; exec sleep 1000"
    limits = ("-m", "64m", "--memory-swap", "64m", "--tmpfs", "/full")
    shared_engine.cli("run", "-d", "--name", "c", *limits, "--rootfs", f"{rootfs}:O", "sh", "-c", fill)
    with shared_engine.spawn("logs", "-f", "c") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == b"filled\n"
        logs.kill()
    before, known = held(shared_engine), shared_engine.inspect("c")["HostConfig"]
    told = shared_engine.cli(
        "update", "-m", "16m", "--memory-swap", "16m", "--cpus", "0.5", "--pids-limit", "7",
        "--restart", "always", "c", check=False,
    )  # fmt: skip
    assert told.returncode == 125
    assert told.stderr.startswith("Error: cannot update container 'c': ")
    assert held(shared_engine) == before
    assert shared_engine.inspect("c")["HostConfig"] == known
    assert updates(shared_engine) == 0


@pytest.mark.oci_runtime("runc")
def test_what_makes_no_sense_is_refused_before_anything_is_changed(
    shared_engine: Engine, rootfs: Path
) -> None:
    run(shared_engine, rootfs, "-m", "64m", "--memory-swap", "64m")
    before = held(shared_engine)
    for options, reason in (
        (("-m", "1k"), "cannot use --memory '1024': the least is a page"),
        (("-m", "128m"), "it counts the memory too and must not be below --memory"),
        (("-m", "0", "--memory-swap", "1g"), "cannot use --memory-swap '1073741824': it needs --memory"),
        (("--cpus", "0.001"), "cannot use --cpu-quota '100': the least is 1000"),
        (
            ("--device-read-bps", "/dev/null:1mb"),
            "cannot use --device-read-bps /dev/null: it is no block device",
        ),
        (("--restart", "sometimes"), "option --restart cannot be 'sometimes'"),
        (("--health-interval", "5s"), "cannot use --health-interval"),
        (("--env", "=x"), "cannot use the environment variable '=x'"),
        (("--env", "A=1", "--unsetenv", "A"), "cannot both set and unset the variable 'A'"),
        (("--ulimit", "nofile=5:4"), "the soft limit is above the hard limit"),
    ):
        told = shared_engine.cli("update", "--pids-limit", "7", *options, "c", check=False)
        assert told.returncode == 125
        assert reason in told.stderr, options
    assert held(shared_engine) == before
    assert updates(shared_engine) == 0


@pytest.mark.oci_runtime(*BY_USER)
def test_a_restart_policy_changes_together_with_the_rest(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs)
    shared_engine.cli("update", "--restart", "on-failure:3", "--env", "A=1", "--latest")
    policy = shared_engine.inspect("c")["HostConfig"]["RestartPolicy"]
    assert (policy["Name"], policy["MaximumRetryCount"]) == ("on-failure", 3)
    assert "A=1" in shared_engine.inspect("c")["Config"]["Env"]
    assert updates(shared_engine) == 1


@pytest.mark.oci_runtime("rootless")
def test_an_ordinary_user_without_a_cgroup_is_refused_and_may_change_the_rest(
    shared_engine: Engine, rootfs: Path
) -> None:
    run(shared_engine, rootfs)
    told = shared_engine.cli("update", "-m", "64m", "--restart", "always", "c", check=False)
    assert "cannot use --memory: an ordinary user's containers have no cgroup" in told.stderr
    assert shared_engine.inspect("c")["HostConfig"]["RestartPolicy"]["Name"] == "no"
    shared_engine.cli("update", "--ulimit", "core=0:0", "c")
    shared_engine.cli("restart", "-t", "0", "c")
    limits = shared_engine.out("exec", "c", "cat", "/proc/1/limits")
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]


@pytest.mark.oci_runtime("runc", "rootless")
def test_variables_and_limits_of_processes_hold_from_the_next_start_on(
    shared_engine: Engine, rootfs: Path
) -> None:
    shared_engine.cli(
        "run", "-d", "--name", "c", "-e", "A=1", "-e", "B=2", "--rootfs", f"{rootfs}:O",
        "sh", "-c", "env; ulimit -Sn; sleep 1000",
    )  # fmt: skip
    shared_engine.cli(
        "update",
        "-e",
        "A=3",
        "-e",
        "C=4",
        "--unsetenv",
        "B",
        "--unsetenv",
        "container",
        "--ulimit",
        "nofile=77:88",
        "c",
    )
    shared_engine.cli("restart", "-t", "0", "c")
    with shared_engine.spawn("logs", "-f", "c") as logs:
        assert logs.stdout is not None
        lines: list[str] = []
        while "77" not in lines:
            lines.append(logs.stdout.readline().decode().strip())
            assert lines[-1], "the log has ended"
        logs.kill()
    assert {"A=1", "A=3", "C=4"} <= set(lines)
    assert (lines.count("B=2"), lines.count("container=podman")) == (1, 1)


# ------------------------------------------------------------------ health


def health(engine: Engine) -> Any:
    return engine.inspect("c")["State"]["Health"]["Status"]


@pytest.mark.oci_runtime(*BY_USER)
def test_a_running_container_gets_a_health_check_and_loses_it(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs)
    assert health(shared_engine) == ""
    shared_engine.cli("update", "--health-cmd", "true", "--health-interval", "1s", "c")
    shared_engine.cli("wait", "--condition", "healthy", "c")
    shared_engine.cli("update", "--health-cmd", "false", "--health-retries", "1", "c")
    shared_engine.cli("wait", "--condition", "unhealthy", "c")
    told = shared_engine.inspect("c")["Config"]["Healthcheck"]
    assert (told["Test"], told["Interval"], told["Retries"]) == (["CMD-SHELL", "false"], 1_000_000_000, 1)
    shared_engine.cli("update", "--no-healthcheck", "c")
    assert health(shared_engine) == ""
    assert shared_engine.inspect("c")["Config"]["Healthcheck"] is None
    refused = shared_engine.cli("healthcheck", "run", "c", check=False)
    assert "it has no health check" in refused.stderr
    assert "cannot use --health-timeout" not in refused.stderr


@pytest.mark.oci_runtime(*BY_USER)
def test_an_unhealthy_container_does_what_it_was_told_last(shared_engine: Engine, rootfs: Path) -> None:
    run(
        shared_engine,
        rootfs,
        "--health-cmd",
        "false",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
    )
    shared_engine.cli("update", "--health-on-failure", "kill", "c")
    shared_engine.cli("healthcheck", "run", "c", check=False)
    shared_engine.cli("wait", "c")
    assert shared_engine.inspect("c")["State"]["ExitCode"] == 137
