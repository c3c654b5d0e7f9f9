"""Limits at block devices, and those that only one kind of cgroups has: what is written, what is refused and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.limits import (
    BlockIoLimits,
    CpuLimits,
    MemoryLimits,
    PidsLimit,
    ResourceLimits,
    ThrottleDevice,
    WeightDevice,
)
from pyman.api.spec import ContainerSpec
from pyman.errors import InvalidArgument, NotSupported, PymanError
from supervisor.kernel import cgroup_files, cgroups
from supervisor.oci import limits, resources
from supervisor.oci.runtimes import OciRuntime
from supervisor.settings.model import EngineSettings
from tests.oci.support import built, request, settings
from tests.support.disk import made_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.disk import Disk

MIB = 1 << 20
RUNC = OciRuntime("runc", "/usr/bin/runc")
CRUN = OciRuntime("crun", "/usr/bin/crun")


@pytest.fixture(autouse=True)
def v1(monkeypatch: pytest.MonkeyPatch, change_host: Callable[..., None]) -> None:
    """Every controller of cgroup v1, with BFQ and with time for realtime."""
    change_host(controllers=frozenset({"blkio", "cpu", "memory", "pids"}), unified=False)
    monkeypatch.setattr(cgroups, "counts_swap", lambda _path: True)
    monkeypatch.setattr(cgroup_files, "weights", lambda: "bfq.weight")
    monkeypatch.setattr(cgroup_files, "realtime", lambda _path: (950_000, 1_000_000))


@pytest.fixture
def v2(v1: None, change_host: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    found = frozenset({"cpu", "io", "memory", "pids"})
    change_host(controllers=found, unified=True)
    monkeypatch.setattr(cgroups, "controllers_below", lambda path: (found, path))


@pytest.fixture
def disk() -> Iterator[Disk]:
    with made_disk() as disk:
        yield disk


def written(**spec: Any) -> dict[str, Any]:
    spec.setdefault("resource_limits", ResourceLimits())
    limited = msgspec.structs.replace(spec.pop("resource_limits"), pids=PidsLimit(-1))
    found = built(request(resource_limits=limited, **spec))["linux"]["resources"]
    return {name: part for name, part in found.items() if name != "devices"}


def refused(**spec: Any) -> PymanError:
    with pytest.raises(PymanError) as caught:
        resources.check(settings(), ContainerSpec(**spec), "", "ID", RUNC)
    return caught.value


def test_limits_at_devices_are_written_with_their_numbers(disk: Disk, tmp_path: Path) -> None:
    major, minor = map(int, disk.number.split(":"))
    link = tmp_path / "disk"
    link.symlink_to(disk.path)
    disk.schedule("bfq")
    found = written(
        resource_limits=ResourceLimits(block_io=BlockIoLimits(10)),
        weight_device={disk.path: WeightDevice(1000)},
        throttle_read_bps_device={str(link): ThrottleDevice(MIB)},
        throttle_write_bps_device={disk.path: ThrottleDevice(0)},
        throttle_read_iops_device={disk.path: ThrottleDevice(7)},
        throttle_write_iops_device={disk.path: ThrottleDevice(8)},
    )
    device = {"major": major, "minor": minor}
    assert found == {
        "blockIO": {
            "weight": 10,
            "weightDevice": [{**device, "weight": 1000}],
            "throttleReadBpsDevice": [{**device, "rate": MIB}],
            "throttleReadIOPSDevice": [{**device, "rate": 7}],
            "throttleWriteIOPSDevice": [{**device, "rate": 8}],
        }
    }


def test_two_names_of_a_device_cannot_have_two_limits(disk: Disk, tmp_path: Path) -> None:
    link = tmp_path / "disk"
    link.symlink_to(disk.path)
    error = refused(throttle_read_bps_device={disk.path: ThrottleDevice(1), str(link): ThrottleDevice(2)})
    assert f"cannot use --device-read-bps {link}: it is limited by another of its names" in str(error)


def test_what_is_no_whole_block_device_is_refused(tmp_path: Path) -> None:
    for path, reason in (
        ("relative", "the path is not absolute"),
        (str(tmp_path / "none"), "no such file or directory"),
        ("/dev/null", "it is no block device"),
    ):
        error = refused(throttle_read_bps_device={path: ThrottleDevice(1)})
        assert isinstance(error, InvalidArgument)
        assert str(error) == f"cannot use --device-read-bps {path}: {reason}"


def test_a_rate_and_a_weight_have_bounds(disk: Disk) -> None:
    error = refused(throttle_write_iops_device={disk.path: ThrottleDevice(-1)})
    assert "the rate must be from 1 on" in str(error)
    for weight in (9, 1001):
        error = refused(resource_limits=ResourceLimits(block_io=BlockIoLimits(weight)))
        assert str(error) == f"cannot use --blkio-weight '{weight}': a weight is from 10 to 1000"
        error = refused(weight_device={disk.path: WeightDevice(weight)})
        assert "a weight is from 10 to 1000" in str(error)


def test_a_weight_needs_a_kernel_and_a_runtime_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ContainerSpec(resource_limits=ResourceLimits(block_io=BlockIoLimits(100)))
    resources.check(settings(), spec, "", "ID", RUNC)
    with pytest.raises(NotSupported, match="crun does not know where this kernel has it"):
        resources.check(settings(), spec, "", "ID", CRUN)
    monkeypatch.setattr(cgroup_files, "weights", lambda: "weight")
    resources.check(settings(), spec, "", "ID", CRUN)
    monkeypatch.setattr(cgroup_files, "weights", lambda: "")
    with pytest.raises(NotSupported, match="this kernel weighs no block devices"):
        resources.check(settings(), spec, "", "ID", RUNC)


@pytest.mark.usefixtures("v2")
def test_v2_has_other_controllers_for_the_same_limits(disk: Disk) -> None:
    spec = ContainerSpec(
        resource_limits=ResourceLimits(block_io=BlockIoLimits(100)),
        throttle_read_bps_device={disk.path: ThrottleDevice(1)},
    )
    resources.check(settings(), spec, "", "ID", CRUN)
    user = msgspec.structs.replace(settings(), uid=7, engine=EngineSettings(cgroup_manager="cgroupfs"))
    with pytest.raises(NotSupported, match="cannot use --blkio-weight: an ordinary user's containers have"):
        resources.check(user, spec, "", "ID", CRUN)


@pytest.mark.usefixtures("v2")
def test_v2_takes_files_by_their_names() -> None:
    files = {"memory.high": "1073741824", "io.latency": "8:0 target=75000", "cgroup.max.depth": "5"}
    assert written(cgroup_conf=files) == {"unified": files}
    for file, value, reason in (
        ("memory", "1", "it must be a file of a controller"),
        ("../memory.max", "1", "it must be a file of a controller"),
        ("memory.max/../x.y", "1", "it must be a file of a controller"),
        ("cgroup.procs", "1", "it must be a file of a controller"),
        ("cgroup.kill", "1", "it must be a file of a controller"),
        ("memory.high", "", "the value must be one line"),
        ("memory.high", "1\n2", "the value must be one line"),
        ("hugetlb.2MB.max", "1", "this host has no cgroup controller 'hugetlb'"),
    ):
        assert reason in str(refused(cgroup_conf={file: value})), file


@pytest.mark.usefixtures("v2")
def test_a_file_and_the_option_for_it_are_not_both_taken() -> None:
    error = refused(
        cgroup_conf={"memory.max": "1g"}, resource_limits=ResourceLimits(MemoryLimits(limit=64 * MIB))
    )
    assert str(error) == "cannot use --cgroup-conf memory.max together with --memory: both are one limit"


@pytest.mark.usefixtures("v2")
@pytest.mark.parametrize(
    "asked, option",
    [
        (ResourceLimits(cpu=CpuLimits(realtime_period=1)), "--cpu-rt-period"),
        (ResourceLimits(cpu=CpuLimits(realtime_runtime=0)), "--cpu-rt-runtime"),
        (ResourceLimits(MemoryLimits(limit=MIB, disable_oom_killer=True)), "--oom-kill-disable"),
    ],
)
def test_v2_knows_no_limits_of_v1(asked: ResourceLimits, option: str) -> None:
    error = refused(resource_limits=asked)
    assert str(error) == f"cannot use {option}: cgroup v2 has no such limit"
    assert error.subject == option


def test_v1_knows_no_files_of_v2() -> None:
    error = refused(cgroup_conf={"memory.high": "1"})
    assert "cannot use --cgroup-conf memory.high: it sets a file of cgroup v2" in str(error)


def test_what_v1_alone_has_is_written() -> None:
    asked = ResourceLimits(
        MemoryLimits(limit=MIB, swap=-1, disable_oom_killer=True),
        CpuLimits(realtime_period=1000, realtime_runtime=950),
    )
    assert written(resource_limits=asked) == {
        "memory": {"limit": MIB, "swap": -1, "disableOOMKiller": True},
        "cpu": {"realtimePeriod": 1000, "realtimeRuntime": 950},
    }


def test_realtime_needs_a_kernel_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_files, "realtime", lambda _path: None)
    error = refused(resource_limits=ResourceLimits(cpu=CpuLimits(realtime_runtime=1)))
    assert str(error) == "cannot use --cpu-rt-runtime: this kernel does not divide realtime among cgroups"


def test_a_default_oom_score_is_raised_to_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "least_oom_score", lambda: 100)
    assert limits.oom_score(settings(oom_score_adj=-500), ContainerSpec()) == 100
    assert limits.oom_score(settings(oom_score_adj=500), ContainerSpec()) == 500
    assert limits.oom_score(settings(oom_score_adj=500), ContainerSpec(oom_score_adj=200)) == 200
    assert limits.oom_score(settings(), ContainerSpec()) is None
    with pytest.raises(NotSupported, match="it cannot be below the supervisor's own, 100"):
        limits.check(settings(), ContainerSpec(oom_score_adj=99))
