"""Limits at block devices: weights against other containers, and speeds.

The device has to be there, and to be a whole one: the kernel has one queue for all of a disk's partitions. It weighs
only at devices whose scheduler is BFQ.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroup_files
from supervisor.oci.spec import BlockIo, ThrottledDevice, WeighedDevice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyman.api.spec import ContainerSpec
    from supervisor.oci.runtimes import OciRuntime

__all__ = ["asked", "block_io", "check_runtime"]

WEIGHTS = range(10, 1001)
_SYSTEM = "/sys/dev/block"


class _Device(NamedTuple):
    major: int
    minor: int

    @property
    def directory(self) -> str:
        return f"{_SYSTEM}/{self.major}:{self.minor}"


def asked(spec: ContainerSpec) -> Iterator[str]:
    """The options that were given."""
    if spec.resource_limits.block_io.weight is not None:
        yield "--blkio-weight"
    if spec.weight_device:
        yield "--blkio-weight-device"
    for option, devices, _ in _throttles(spec):
        if devices:
            yield option


def block_io(spec: ContainerSpec, *, unified: bool) -> BlockIo | None:
    """For config.json; none: nothing is limited. InvalidArgument, NotSupported: what is not possible, by its option."""
    if not any(True for _ in asked(spec)):
        return None
    weight = spec.resource_limits.block_io.weight
    if weight is not None:
        _check_weight("--blkio-weight", str(weight), weight)
        if not unified and not cgroup_files.weights():
            raise NotSupported(
                "cannot use --blkio-weight: this kernel weighs no block devices (it has no BFQ scheduler)",
                subject="--blkio-weight",
            )
    return BlockIo(
        weight=weight,
        weight_device=_weighed(spec, unified=unified),
        **{
            field: [ThrottledDevice(device.major, device.minor, rate) for device, rate in found.items()]
            for option, rates, field in _throttles(spec)
            if (found := _limited(option, rates))
        },
    )


def check_runtime(spec: ContainerSpec, runtime: OciRuntime, *, unified: bool) -> None:
    """NotSupported: it is crun, which on cgroup v1 knows only the file that kernels had before 5.0."""
    weighs = spec.resource_limits.block_io.weight is not None
    if weighs and not unified and runtime.kind == "crun" and cgroup_files.weights() == "bfq.weight":
        raise NotSupported(
            "cannot use --blkio-weight: crun does not know where this kernel has it on cgroup v1",
            subject="--blkio-weight",
            hint="use --runtime runc",
        )


def _throttles(spec: ContainerSpec) -> tuple[tuple[str, list[tuple[str, int]], str], ...]:
    """Option, what it says of which paths, and the field of `BlockIo`."""
    return tuple(
        (option, [(path, device.rate) for path, device in devices.items()], field)
        for option, devices, field in (
            ("--device-read-bps", spec.throttle_read_bps_device, "throttle_read_bps_device"),
            ("--device-write-bps", spec.throttle_write_bps_device, "throttle_write_bps_device"),
            ("--device-read-iops", spec.throttle_read_iops_device, "throttle_read_iops_device"),
            ("--device-write-iops", spec.throttle_write_iops_device, "throttle_write_iops_device"),
        )
    )


def _weighed(spec: ContainerSpec, *, unified: bool) -> list[WeighedDevice]:
    option = "--blkio-weight-device"
    pairs = [(path, device.weight) for path, device in spec.weight_device.items()]
    for path, weight in pairs:
        _check_weight(option, f"{path}:{weight}", weight)
        device = _device(option, path)
        try:
            schedulers = cgroup_files.read(f"{device.directory}/queue/scheduler").split()
        except OSError:
            schedulers = []
        # Where a v2 kernel has no BFQ, it may weigh by another model.
        if "[bfq]" not in schedulers and (not unified or "bfq" in schedulers):
            raise NotSupported(
                f"cannot use {option} {path}:{weight}: the device's scheduler is not bfq, which alone weighs",
                subject=path,
                hint=f"root sets it with: echo bfq >{device.directory}/queue/scheduler",
            )
    return [
        WeighedDevice(device.major, device.minor, weight) for device, weight in _of(option, pairs).items()
    ]


def _limited(option: str, rates: list[tuple[str, int]]) -> dict[_Device, int]:
    for path, rate in rates:
        if not 0 <= rate < 1 << 63:
            raise InvalidArgument(
                f"cannot use {option} {path}:{rate}: the rate must be from 1 on, or 0 for no limit",
                subject=path,
            )
    return {device: rate for device, rate in _of(option, rates).items() if rate}


def _of(option: str, values: Iterable[tuple[str, int]]) -> dict[_Device, int]:
    found: dict[_Device, int] = {}
    for path, value in values:
        device = _device(option, path)
        if found.setdefault(device, value) != value:
            raise InvalidArgument(
                f"cannot use {option} {path}: it is limited by another of its names already", subject=path
            )
    return found


def _device(option: str, path: str) -> _Device:
    if not path.startswith("/"):
        raise _refused(option, path, "the path is not absolute")
    try:
        status = os.stat(path)
    except OSError as error:
        raise _refused(option, path, (error.strerror or str(error)).lower()) from error
    if not stat.S_ISBLK(status.st_mode):
        raise _refused(option, path, "it is no block device")
    device = _Device(os.major(status.st_rdev), os.minor(status.st_rdev))
    if os.path.exists(f"{device.directory}/partition"):
        disk = os.path.basename(os.path.dirname(os.path.realpath(device.directory)))
        raise _refused(
            option, path, "it is a partition, and only whole devices are limited", f"use /dev/{disk}"
        )
    return device


def _check_weight(option: str, text: str, weight: int) -> None:
    if weight not in WEIGHTS:
        raise InvalidArgument(
            f"cannot use {option} '{text}': a weight is from {WEIGHTS[0]} to {WEIGHTS[-1]}", subject=option
        )


def _refused(option: str, path: str, reason: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(f"cannot use {option} {path}: {reason}", subject=path, hint=hint)
