"""New limits for a cgroup that is there.

`for_runtime` is what the OCI runtime is told to change. What it cannot be told is written here, by `settle`: runc passes
over everything about devices and swappiness; crun fails at -1 for any number of processes or any time of processors;
none can take away a share, a weight or a reservation on cgroup v2, or let a container have all processors again; and
runc sets, with every change, what it had set when it created the container. So `settle` follows, and sees to it that
the files say what is wanted, whatever they said before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.kernel import cgroup_files
from supervisor.oci.spec import BlockIo, Cpu, Memory, Pids, Resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.oci.spec import ThrottledDevice

__all__ = ["for_runtime", "settle"]

PERIOD = 100_000
SHARES = 1024
WEIGHT = 100
"""The kernel's values where nothing is set; microseconds, and no unit."""

_V1_SPEEDS = {
    "throttle.read_bps_device": "throttle_read_bps_device",
    "throttle.write_bps_device": "throttle_write_bps_device",
    "throttle.read_iops_device": "throttle_read_iops_device",
    "throttle.write_iops_device": "throttle_write_iops_device",
}
"""File and field of `BlockIo`."""
_V2_SPEEDS = {
    "rbps": "throttle_read_bps_device",
    "wbps": "throttle_write_bps_device",
    "riops": "throttle_read_iops_device",
    "wiops": "throttle_write_iops_device",
}
"""Key in io.max and field."""


# -- what the OCI runtime is told ---------------------------------------------------------------


def for_runtime(old: Resources, new: Resources, *, unified: bool, kind: str) -> Resources | None:
    """What differs, with a value for what is no limit any more; none: nothing of it is the runtime's. `kind`: its."""
    none = Pids(-1) if kind == "runc" else None
    told = Resources(
        pids=(new.pids or none) if old.pids != new.pids else None,
        memory=_memory(old.memory or Memory(), new.memory or Memory(), unified=unified),
        cpu=_cpu(old.cpu or Cpu(), new.cpu or Cpu(), unified=unified, kind=kind),
    )
    return told if told != Resources() else None


def _memory(old: Memory, new: Memory, *, unified: bool) -> Memory | None:
    limit = swap = reservation = None
    if (old.limit, old.swap) != (new.limit, new.swap):
        limit = -1 if new.limit is None else new.limit
        # Both, since each must not pass the other on the way.
        swap = -1 if new.swap is None and old.swap is not None else new.swap
    if old.reservation != new.reservation:
        none = None if unified else -1
        reservation = none if new.reservation is None else new.reservation
    told = Memory(limit, reservation, swap)
    return told if told != Memory() else None


def _cpu(old: Cpu, new: Cpu, *, unified: bool, kind: str) -> Cpu | None:
    shares = quota = period = runtime = span = None
    if old.shares != new.shares:
        none = None if unified else SHARES
        shares = none if new.shares is None else new.shares
    if (old.quota, old.period) != (new.quota, new.period):
        quota = new.quota
        if quota is None and kind == "runc":
            quota = -1
        period = PERIOD if new.period is None else new.period
    realtime = (new.realtime_runtime, new.realtime_period)
    if (old.realtime_runtime, old.realtime_period) != realtime:
        runtime, span = realtime[0] or 0, realtime[1] or cgroup_files.REALTIME_PERIOD
    told = Cpu(
        shares,
        quota,
        period,
        runtime,
        span,
        new.cpus if old.cpus != new.cpus else "",
        new.mems if old.mems != new.mems else "",
    )
    return told if told != Cpu() else None


# -- what is written here -----------------------------------------------------------------------


def settle(path: str, old: Resources, new: Resources, *, unified: bool) -> None:
    """Have the files of the cgroup at `path` say what is wanted. Repeatable; blocks for as long as the kernel does.
    OSError, with the file's name."""
    _settle_sets(path, old.cpu or Cpu(), new.cpu or Cpu(), unified=unified)
    _settle_unlimited(path, new, unified=unified)
    block_io = new.block_io or BlockIo()
    if unified:
        _settle_v2(path, old, new)
        _settle_weights_v2(path, block_io)
        _settle_speeds_v2(path, block_io)
        return
    if new.memory is not None and new.memory.swappiness is not None:
        _put(cgroup_files.file_of("memory", path, "swappiness"), str(new.memory.swappiness))
    elif old.memory is not None and old.memory.swappiness is not None:
        _as_above("memory", path, "swappiness")
    _settle_weights_v1(path, block_io)
    for name, field in _V1_SPEEDS.items():
        file = cgroup_files.file_of("blkio", path, name)
        _settle_devices(file, _rates(getattr(block_io, field)), none="0")


def _settle_sets(path: str, old: Cpu, new: Cpu, *, unified: bool) -> None:
    for name, before, after in (("cpus", old.cpus, new.cpus), ("mems", old.mems, new.mems)):
        if not before or after:
            continue
        if unified:
            _put(cgroup_files.file_of("cpuset", path, f"cpuset.{name}"), "\n")
        else:
            _as_above("cpuset", path, name)


def _settle_unlimited(path: str, new: Resources, *, unified: bool) -> None:
    """Processes and processors, where there is no limit."""
    if new.pids is None:
        name = "pids.max" if unified else "max"
        _put_if_there(cgroup_files.file_of("pids", path, name), "max")
    cpu = new.cpu or Cpu()
    if cpu.quota is None and unified:
        _put_if_there(cgroup_files.file_of("cpu", path, "cpu.max"), f"max {cpu.period or PERIOD}")
    elif cpu.quota is None:
        _put_if_there(cgroup_files.file_of("cpu", path, "cfs_quota_us"), "-1")


def _settle_weights_v1(path: str, wanted: BlockIo) -> None:
    kind = cgroup_files.weights()
    file = cgroup_files.file_of("blkio", path, kind)
    if not kind or not os.path.exists(file):
        return
    _put(file, str(wanted.weight or WEIGHT))
    weights = {f"{device.major}:{device.minor}": str(device.weight) for device in wanted.weight_device}
    _settle_devices(f"{file}_device", weights, none="default" if kind == "bfq.weight" else "0")


def _settle_v2(path: str, old: Resources, new: Resources) -> None:
    """What has no word for "no limit" with an OCI runtime."""
    cpu, memory = (old.cpu or Cpu(), new.cpu or Cpu()), (old.memory or Memory(), new.memory or Memory())
    if cpu[0].shares is not None and cpu[1].shares is None:
        _put(cgroup_files.file_of("cpu", path, "cpu.weight"), str(WEIGHT))
    if memory[0].reservation is not None and memory[1].reservation is None:
        _put(cgroup_files.file_of("memory", path, "memory.low"), "0")


def _settle_weights_v2(path: str, wanted: BlockIo) -> None:
    """BFQ's file where there is one, as the OCI runtimes do."""
    for name in ("io.bfq.weight", "io.weight"):
        file = cgroup_files.file_of("io", path, name)
        if os.path.exists(file):
            own = WEIGHT if wanted.weight is None else _v2_weight(name, wanted.weight)
            _put_default(file, own)
            weights = {
                f"{device.major}:{device.minor}": str(_v2_weight(name, device.weight))
                for device in wanted.weight_device
            }
            _settle_devices(file, weights, none="default")
            return


def _v2_weight(name: str, weight: int) -> int:
    """In io.weight, whose scale is ten times as long, as the OCI runtimes have it."""
    return weight if name == "io.bfq.weight" else 1 + (weight - 10) * 9999 // 990


def _put_default(file: str, weight: int) -> None:
    if f"default {weight}" not in cgroup_files.read(file).splitlines():
        cgroup_files.write(file, f"default {weight}")


def _settle_speeds_v2(path: str, wanted: BlockIo) -> None:
    file = cgroup_files.file_of("io", path, "io.max")
    speeds: dict[str, dict[str, str]] = {}
    for key, field in _V2_SPEEDS.items():
        for device, rate in _rates(getattr(wanted, field)).items():
            speeds.setdefault(device, {})[key] = rate
    lines = {
        device: " ".join(f"{key}={rates.get(key, 'max')}" for key in _V2_SPEEDS)
        for device, rates in speeds.items()
    }
    _settle_devices(file, lines, none=" ".join(f"{key}=max" for key in _V2_SPEEDS))


def _rates(devices: Iterable[ThrottledDevice]) -> dict[str, str]:
    return {f"{device.major}:{device.minor}": str(device.rate) for device in devices}


def _settle_devices(file: str, wanted: Mapping[str, str], *, none: str) -> None:
    """Lines of a device's number and what holds for it."""
    there = dict(line.split(" ", 1) for line in cgroup_files.read(file).splitlines() if " " in line)
    for device in there:
        if device != "default" and device not in wanted:
            cgroup_files.write(file, f"{device} {none}")
    for device, text in wanted.items():
        if there.get(device) != text:
            cgroup_files.write(file, f"{device} {text}")


def _as_above(controller: str, path: str, name: str) -> None:
    """What a new cgroup would have."""
    above = cgroup_files.read(cgroup_files.file_of(controller, os.path.dirname(path), name))
    if above:
        _put(cgroup_files.file_of(controller, path, name), above)


def _put_if_there(file: str, text: str) -> None:
    if os.path.exists(file):
        _put(file, text)


def _put(file: str, text: str) -> None:
    if cgroup_files.read(file) != text.strip():
        cgroup_files.write(file, text)
