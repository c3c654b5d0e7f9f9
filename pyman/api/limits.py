"""Limits of a container's cgroup, with the field names of Podman's SpecGenerator and of the OCI specification."""

from __future__ import annotations

import msgspec

__all__ = [
    "BlockIoLimits",
    "CpuLimits",
    "MemoryLimits",
    "PidsLimit",
    "ResourceLimits",
    "ThrottleDevice",
    "WeightDevice",
]


class MemoryLimits(msgspec.Struct, frozen=True):
    """Bytes; none: no limit."""

    limit: int | None = None
    reservation: int | None = None
    """What the kernel goes back to when memory is short."""
    swap: int | None = None
    """Memory and swap together; -1: any amount of swap; none: twice the memory, where the kernel counts swap."""
    swappiness: int | None = None
    """0 to 100; cgroup v1 only."""
    disable_oom_killer: bool | None = msgspec.field(name="disableOOMKiller", default=None)
    """At the limit its processes wait, instead of one being killed; cgroup v1 only."""


class CpuLimits(msgspec.Struct, frozen=True):
    shares: int | None = None
    """Weight against other containers, 2 to 262144; 1024 is usual."""
    period: int | None = None
    """Microseconds, 1000 to 1000000; none: the kernel's, 100000."""
    quota: int | None = None
    """Microseconds of one processor that it may use in a period; -1: any number."""
    realtime_period: int | None = msgspec.field(name="realtimePeriod", default=None)
    """Microseconds; none: the kernel's, 1000000. cgroup v1 only, as the next one."""
    realtime_runtime: int | None = msgspec.field(name="realtimeRuntime", default=None)
    """Microseconds that its realtime processes may use in such a period."""
    cpus: str = ""
    """Processors that it may use, as `0-2,5`; empty: all."""
    mems: str = ""
    """Memory nodes, likewise."""


class PidsLimit(msgspec.Struct, frozen=True):
    limit: int
    """Processes and threads; not positive: no limit."""


class BlockIoLimits(msgspec.Struct, frozen=True):
    weight: int | None = None
    """Its share of busy block devices against other containers, 10 to 1000; 100 is usual."""


class WeightDevice(msgspec.Struct, frozen=True):
    weight: int
    """As that of `BlockIoLimits`, for one device."""


class ThrottleDevice(msgspec.Struct, frozen=True):
    rate: int
    """Bytes or operations a second; 0: no limit."""


class ResourceLimits(msgspec.Struct, frozen=True):
    """Limits of the container's cgroup that are asked for: one that is not possible is refused."""

    memory: MemoryLimits = MemoryLimits()
    cpu: CpuLimits = CpuLimits()
    pids: PidsLimit | None = None
    """None: the configured default, where that is possible."""
    block_io: BlockIoLimits = msgspec.field(name="blockIO", default=BlockIoLimits())
