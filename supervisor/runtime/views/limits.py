"""The limits of a container as `inspect` shows them: those that hold, by Podman's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyman.api.inspect import InspectBlkioDevice, InspectBlkioWeightDevice
from pyman.errors import PymanError
from supervisor.oci import limits, resources
from supervisor.oci.spec import Cpu, Memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.limits import ThrottleDevice
    from supervisor.oci.request import BuildRequest

__all__ = ["shown_limits"]

PERIOD = 100_000
"""Microseconds in which --cpus is counted; with another one Podman shows none."""


def shown_limits(request: BuildRequest) -> dict[str, Any]:
    """The fields of `InspectHostConfig`."""
    held, spec = resources.in_force(request), request.spec
    memory, cpu = held.memory or Memory(), held.cpu or Cpu()
    shown: dict[str, Any] = {
        "oom_score_adj": _oom_score(request),
        "oom_kill_disable": bool(memory.disable_oom_killer),
        "pids_limit": held.pids.limit if held.pids else 0,
        "memory": memory.limit or 0,
        "memory_reservation": memory.reservation or 0,
        "memory_swap": memory.swap or 0,
        "memory_swappiness": memory.swappiness or 0,
        "nano_cpus": (cpu.quota or 0) * 1_000_000_000 // PERIOD if cpu.period == PERIOD else 0,
        "cpu_shares": cpu.shares or 0,
        "cpu_period": cpu.period or 0,
        "cpu_quota": cpu.quota or 0,
        "cpu_realtime_period": cpu.realtime_period or 0,
        "cpu_realtime_runtime": cpu.realtime_runtime or 0,
        "cpuset_cpus": cpu.cpus,
        "cpuset_mems": cpu.mems,
        "cgroup_conf": held.unified,
    }
    if held.block_io is not None:
        shown |= {
            "blkio_weight": held.block_io.weight or 0,
            "blkio_weight_device": [
                InspectBlkioWeightDevice(path, device.weight) for path, device in spec.weight_device.items()
            ],
            "blkio_device_read_bps": _devices(spec.throttle_read_bps_device),
            "blkio_device_write_bps": _devices(spec.throttle_write_bps_device),
            "blkio_device_read_io_ps": _devices(spec.throttle_read_iops_device),
            "blkio_device_write_io_ps": _devices(spec.throttle_write_iops_device),
        }
    return shown


def _devices(limited: Mapping[str, ThrottleDevice]) -> list[InspectBlkioDevice]:
    return [InspectBlkioDevice(path, device.rate) for path, device in limited.items() if device.rate]


def _oom_score(request: BuildRequest) -> int:
    try:
        return limits.oom_score(request.settings, request.spec) or 0
    except PymanError:  # not possible any more
        return request.spec.oom_score_adj or 0
