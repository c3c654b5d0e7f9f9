"""Limits that only one kind of cgroups has: realtime and the choice of the kernel when memory is short on v1, any
file by its name on v2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument, NotSupported
from supervisor.kernel import cgroup_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.api.limits import CpuLimits
    from pyman.api.spec import ContainerSpec
    from supervisor.oci.placement import Placement

__all__ = ["asked", "check"]

REALTIME_PERIODS = range(1, 1_000_000_001)
"""Microseconds."""
_FILE = re.compile(r"[a-z0-9_]{1,64}(?:\.[A-Za-z0-9_]{1,64}){1,4}")
_VALUE_MOST = 4096
"""Bytes: no file of a cgroup takes more than a page."""
_ACTS = frozenset(
    f"cgroup.{name}" for name in ("freeze", "kill", "procs", "subtree_control", "threads", "type")
)
"""What is written to these moves or stops processes, or is the engine's to set."""
_OPTIONS = {
    "cpu.max": "--cpus, --cpu-period or --cpu-quota",
    "cpu.weight": "--cpu-shares",
    "cpuset.cpus": "--cpuset-cpus",
    "cpuset.mems": "--cpuset-mems",
    "io.bfq.weight": "--blkio-weight or --blkio-weight-device",
    "io.max": "--device-read-bps or its like",
    "io.weight": "--blkio-weight or --blkio-weight-device",
    "memory.low": "--memory-reservation",
    "memory.max": "--memory",
    "memory.swap.max": "--memory-swap",
    "pids.max": "--pids-limit",
}
"""Files that have an option of their own."""


def asked(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    """The options that were given, and the controller that each needs; empty: none."""
    cpu, memory = spec.resource_limits.cpu, spec.resource_limits.memory
    if memory.disable_oom_killer:
        yield "--oom-kill-disable", "memory"
    if cpu.realtime_period is not None:
        yield "--cpu-rt-period", "cpu"
    if cpu.realtime_runtime is not None:
        yield "--cpu-rt-runtime", "cpu"
    for file in spec.cgroup_conf:
        controller = file.partition(".")[0]
        yield f"--cgroup-conf {file}", "" if controller == "cgroup" else controller


def check(spec: ContainerSpec, placement: Placement, *, unified: bool) -> None:
    """InvalidArgument, NotSupported: what is not possible, by its option."""
    for option, _ in asked(spec):
        if option.startswith("--cgroup-conf") != unified:
            reason = "cgroup v2 has no such limit"
            if not unified:
                reason = "it sets a file of cgroup v2, and containers are limited by cgroup v1 on this host"
            raise NotSupported(f"cannot use {option}: {reason}", subject=option.split()[0])
    if spec.resource_limits.memory.disable_oom_killer and spec.resource_limits.memory.limit is None:
        raise InvalidArgument(
            "cannot use --oom-kill-disable without --memory: the container could take all memory of the host, "
            "and nothing would end it",
            subject="--oom-kill-disable",
        )
    _check_realtime(spec.resource_limits.cpu, placement)
    for file, value in spec.cgroup_conf.items():
        _check_file(spec, file, value)


def _check_realtime(asked: CpuLimits, placement: Placement) -> None:
    period, runtime = asked.realtime_period, asked.realtime_runtime
    if period is None and runtime is None:
        return
    if period is not None and period not in REALTIME_PERIODS:
        raise _senseless(
            "--cpu-rt-period", period, f"it must be from 1 to {REALTIME_PERIODS[-1]} microseconds"
        )
    most = period or cgroup_files.REALTIME_PERIOD
    if runtime is not None and not 0 <= runtime <= most:
        raise _senseless("--cpu-rt-runtime", runtime, f"it must be from 0 to the period, {most} microseconds")
    option = "--cpu-rt-period" if runtime is None else "--cpu-rt-runtime"
    above = cgroup_files.realtime(placement.parent)
    if above is None:
        raise NotSupported(
            f"cannot use {option}: this kernel does not divide realtime among cgroups", subject=option
        )
    if placement.systemd or not runtime or above[0] < 0:
        return
    if runtime * above[1] > above[0] * most:
        parent = placement.parent or "/"
        raise NotSupported(
            f"cannot use {option} {runtime}: the cgroup '{parent}' above it has {above[0]} of {above[1]} microseconds",
            subject=option,
            hint=f"root gives it more with: echo MICROSECONDS >{cgroup_files.file_of('cpu', placement.parent, 'rt_runtime_us')}",
        )


def _check_file(spec: ContainerSpec, file: str, value: str) -> None:
    option = "--cgroup-conf"
    if not _FILE.fullmatch(file) or file in _ACTS:
        raise _senseless(option, file, "it must be a file of a controller, such as memory.high")
    if not value or len(value) > _VALUE_MOST or not value.isprintable() or not value.isascii():
        raise _senseless(option, f"{file}={value[:80]}", "the value must be one line")
    limits = spec.resource_limits
    cpu, memory, io = limits.cpu, limits.memory, limits.block_io
    throttled = (
        spec.throttle_read_bps_device
        or spec.throttle_write_bps_device
        or spec.throttle_read_iops_device
        or spec.throttle_write_iops_device
    )
    given = {
        "cpu.max": cpu.quota is not None or cpu.period is not None,
        "cpu.weight": cpu.shares is not None,
        "cpuset.cpus": bool(cpu.cpus),
        "cpuset.mems": bool(cpu.mems),
        "io.bfq.weight": io.weight is not None or bool(spec.weight_device),
        "io.max": bool(throttled),
        "io.weight": io.weight is not None or bool(spec.weight_device),
        "memory.low": memory.reservation is not None,
        "memory.max": memory.limit is not None,
        "memory.swap.max": memory.swap is not None,
        "pids.max": limits.pids is not None,
    }
    if given.get(file):
        raise InvalidArgument(
            f"cannot use {option} {file} together with {_OPTIONS[file]}: both are one limit", subject=file
        )


def _senseless(option: str, value: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use {option} '{value}': {reason}", subject=option)
