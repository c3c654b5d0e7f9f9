"""Limits of the container's cgroup: memory, processors, processes; block devices and what only one kind of cgroups
has are in `blockio` and `hierarchy`, which are imported where they are asked for.

A limit that was asked for and that is not possible here is refused, by the name of its option and with the reason,
before anything is made. The default number of processes is left out where it is not possible.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pyman.api.limits import MemoryLimits
from pyman.api.spec import ContainerSpec
from pyman.errors import InvalidArgument, NotSupported, PymanError
from supervisor.kernel import cgroups
from supervisor.oci import devices
from supervisor.oci.host import this_host
from supervisor.oci.placement import place_of
from supervisor.oci.spec import Cpu, Memory, Pids, Resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.api.limits import CpuLimits, ResourceLimits
    from supervisor.oci.placement import Placement
    from supervisor.oci.request import BuildRequest
    from supervisor.oci.runtimes import OciRuntime
    from supervisor.oci.spec import BlockIo
    from supervisor.settings.model import Settings

__all__ = ["available", "check", "in_force", "limits_of", "resources"]

_NO_MEMORY = MemoryLimits()
SHARES = range(2, 262_145)
PERIODS = range(1000, 1_000_001)
"""Microseconds, as QUOTA_LEAST: what the kernel takes."""
QUOTA_LEAST = 1000
_LONGEST = 32
"""Characters of a range of processors."""


class _Controllers(NamedTuple):
    names: frozenset[str]
    missing: tuple[str, str] = ("", "")
    """Why another one that the host has cannot be used: the words before its name, and those behind it."""
    hint: str = ""


def resources(request: BuildRequest) -> Resources | None:
    """For config.json; none where the container has no cgroup. Raises as `check` does."""
    limits = limits_of(request.settings, request.spec, request.placement)
    allowed = devices.rules(request)
    return limits and msgspec.structs.replace(limits, devices=allowed)


def limits_of(settings: Settings, spec: ContainerSpec, placement: Placement) -> Resources | None:
    """The same without the rights to devices."""
    asked = spec.resource_limits
    controllers = _check(settings, spec, placement)
    if not placement.path:
        return None
    return Resources(
        pids=_pids(settings, asked, controllers),
        memory=_memory(asked.memory, placement),
        cpu=_cpu(asked.cpu),
        block_io=_block_io(spec),
        unified=spec.cgroup_conf,
    )


def in_force(request: BuildRequest) -> Resources:
    """What `resources` says, for showing it; nothing where it would refuse by now."""
    try:
        return resources(request) or Resources()
    except PymanError:
        return Resources()


def available(settings: Settings) -> frozenset[str]:
    """The controllers by which a container can be limited that asks for no other place."""
    placement = place_of(settings, ContainerSpec(), "", "")
    return _controllers(settings, placement).names if placement.path else frozenset()


def check(settings: Settings, spec: ContainerSpec, caller: str, id: str, runtime: OciRuntime) -> None:
    """InvalidArgument: a limit makes no sense. NotSupported: it is not possible here."""
    _check(settings, spec, place_of(settings, spec, caller, id))
    if spec.resource_limits.block_io.weight is not None:
        from supervisor.oci import blockio

        blockio.check_runtime(spec, runtime, unified=this_host().unified)


def _pids(settings: Settings, asked: ResourceLimits, controllers: _Controllers) -> Pids | None:
    """Only a default can be one that is not possible."""
    limit = settings.containers.pids_limit if asked.pids is None else asked.pids.limit
    return Pids(limit) if limit > 0 and "pids" in controllers.names else None


def _memory(asked: MemoryLimits, placement: Placement) -> Memory | None:
    if asked == _NO_MEMORY:
        return None
    swap = asked.swap
    if swap is None and asked.limit is not None and _counts_swap(placement):
        swap = 2 * asked.limit
    return Memory(asked.limit, asked.reservation, swap, asked.swappiness, asked.disable_oom_killer)


def _cpu(asked: CpuLimits) -> Cpu | None:
    """crun does not understand -1, which is no limit."""
    cpu = Cpu(
        asked.shares,
        None if asked.quota == -1 else asked.quota,
        asked.period,
        asked.realtime_runtime,
        asked.realtime_period,
        asked.cpus,
        asked.mems,
    )
    return None if cpu == Cpu() else cpu


def _block_io(spec: ContainerSpec) -> BlockIo | None:
    if not _limits_devices(spec):
        return None
    from supervisor.oci import blockio

    return blockio.block_io(spec, unified=this_host().unified)


def _limits_devices(spec: ContainerSpec) -> bool:
    return bool(
        spec.resource_limits.block_io.weight is not None
        or spec.weight_device
        or spec.throttle_read_bps_device
        or spec.throttle_write_bps_device
        or spec.throttle_read_iops_device
        or spec.throttle_write_iops_device
    )


def _wants_one_kind(spec: ContainerSpec) -> bool:
    """Of cgroups."""
    cpu, memory = spec.resource_limits.cpu, spec.resource_limits.memory
    return bool(
        memory.disable_oom_killer
        or cpu.realtime_period is not None
        or cpu.realtime_runtime is not None
        or spec.cgroup_conf
    )


# -- what is possible ---------------------------------------------------------------------------


def _check(settings: Settings, spec: ContainerSpec, placement: Placement) -> _Controllers:
    asked = spec.resource_limits
    controllers = _controllers(settings, placement)
    unified = this_host().unified
    if _wants_one_kind(spec):
        from supervisor.oci import hierarchy

        hierarchy.check(spec, placement, unified=unified)
    for option, controller in _asked(spec):
        if not placement.path:
            raise NotSupported(
                f"cannot use {option}: {placement.reason}", subject=option, hint=_hint_for(settings, spec)
            )
        if controller and controller not in this_host().controllers:
            raise NotSupported(
                f"cannot use {option}: this host has no cgroup controller '{controller}'", subject=option
            )
        if controller and controller not in controllers.names:
            reason = f"'{controller}'".join(controllers.missing)
            raise NotSupported(f"cannot use {option}: {reason}", subject=option, hint=controllers.hint)
    _check_memory(asked.memory, placement)
    _check_cpu(asked.cpu)
    _block_io(spec)
    return controllers


def _asked(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    """Options that were given, and the controller that each needs; empty: none."""
    limits = spec.resource_limits
    memory, cpu = limits.memory, limits.cpu
    if limits.pids is not None and limits.pids.limit > 0:
        yield "--pids-limit", "pids"
    for option, value, controller in (
        ("--memory", memory.limit, "memory"),
        ("--memory-reservation", memory.reservation, "memory"),
        ("--memory-swap", memory.swap, "memory"),
        ("--memory-swappiness", memory.swappiness, "memory"),
        ("--cpu-shares", cpu.shares, "cpu"),
        ("--cpu-period", cpu.period, "cpu"),
        ("--cpu-quota", cpu.quota, "cpu"),
        ("--cpuset-cpus", cpu.cpus or None, "cpuset"),
        ("--cpuset-mems", cpu.mems or None, "cpuset"),
    ):
        if value is not None:
            both = option == "--cpu-period" and cpu.quota is not None
            yield "--cpus (or --cpu-period and --cpu-quota)" if both else option, controller
    if _limits_devices(spec):
        from supervisor.oci import blockio

        for option in blockio.asked(spec):
            yield option, "io" if this_host().unified else "blkio"
    if _wants_one_kind(spec):
        from supervisor.oci import hierarchy

        yield from hierarchy.asked(spec)


def _hint_for(settings: Settings, spec: ContainerSpec) -> str:
    if (spec.cgroups_mode or settings.containers.cgroups) == "disabled":
        return "drop --cgroups disabled"
    if not this_host().unified:
        return "limits of an ordinary user need cgroup v2"
    return "set engine.cgroup_manager to 'systemd', or name a delegated cgroup with --cgroup-parent"


def _controllers(settings: Settings, placement: Placement) -> _Controllers:
    host = this_host()
    if not placement.path or not host.unified or (placement.systemd and not settings.rootless):
        return _Controllers(host.controllers)
    if placement.systemd:
        manager = cgroups.manager_of(settings.uid)
        return _Controllers(
            cgroups.controllers(manager),
            ("systemd has not delegated the controller ", " to this user"),
            "root delegates it with Delegate=cpu cpuset io memory pids in a drop-in file of user@.service",
        )
    names, above = cgroups.controllers_below(placement.parent)
    return _Controllers(names, ("the controller ", f" is not available in the cgroup '{above}'"))


# -- what makes sense ---------------------------------------------------------------------------


def _check_memory(asked: MemoryLimits, placement: Placement) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    for option, value in (("--memory", asked.limit), ("--memory-reservation", asked.reservation)):
        if value is not None and value < page:
            raise _senseless(option, value, f"the least is a page of the host's memory, {page} bytes")
        if value is not None and value >= 1 << 63:
            raise _senseless(option, value, "it is more than any machine has")
    limit = asked.limit
    if asked.swap is not None:
        _check_swap(limit, asked.swap, placement)
    if limit is not None and asked.reservation is not None and asked.reservation > limit:
        raise _senseless("--memory-reservation", asked.reservation, f"it must not be above --memory {limit}")
    if asked.swappiness is not None:
        if not 0 <= asked.swappiness <= 100:
            raise _senseless("--memory-swappiness", asked.swappiness, "it must be from 0 to 100")
        if this_host().unified:
            raise NotSupported(
                "cannot use --memory-swappiness: cgroup v2 has no such limit", subject="--memory-swappiness"
            )


def _check_swap(limit: int | None, swap: int, placement: Placement) -> None:
    if limit is None:
        raise _senseless("--memory-swap", swap, "it needs --memory")
    if swap < -1 or swap >= 1 << 63:
        raise _senseless("--memory-swap", swap, "it must be a size, or -1 for any amount of swap")
    if 0 <= swap < limit:
        raise _senseless(
            "--memory-swap", swap, f"it counts the memory too and must not be below --memory {limit}"
        )
    if not _counts_swap(placement):
        raise NotSupported(
            "cannot use --memory-swap: this host does not count swap by cgroups", subject="--memory-swap"
        )


def _check_cpu(asked: CpuLimits) -> None:
    if asked.shares is not None and asked.shares not in SHARES:
        raise _senseless("--cpu-shares", asked.shares, f"it must be from {SHARES[0]} to {SHARES[-1]}")
    if asked.period is not None and asked.period not in PERIODS:
        raise _senseless(
            "--cpu-period", asked.period, f"it must be from {PERIODS[0]} to {PERIODS[-1]} microseconds"
        )
    if asked.quota is not None and asked.quota != -1 and asked.quota < QUOTA_LEAST:
        raise _senseless("--cpu-quota", asked.quota, f"the least is {QUOTA_LEAST} microseconds (--cpus 0.01)")
    for option, text, file in (
        ("--cpuset-cpus", asked.cpus, "/sys/devices/system/cpu/online"),
        ("--cpuset-mems", asked.mems, "/sys/devices/system/node/online"),
    ):
        if text:
            _check_set(option, text, file)


def _check_set(option: str, text: str, file: str) -> None:
    wanted = _numbers(text)
    if not wanted:
        raise _senseless(option, text, "it must be numbers and ranges such as 0-2,5")
    try:
        with open(file, encoding="ascii") as opened:
            there = opened.read().strip()
    except OSError:
        there = "0"  # a kernel without NUMA has one node
    if missing := wanted - _numbers(there):
        raise _senseless(option, text, f"this host has no number {min(missing)} (it has {there})")


def _numbers(text: str) -> set[int]:
    """Of `0-2,5`; empty: it is none."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or not (last if dash else first).isdecimal() or len(part) > _LONGEST:
            return set()
        ends = int(first), int(last if dash else first)
        if ends[0] > ends[1] or ends[1] > 1 << 16:
            return set()
        found.update(range(ends[0], ends[1] + 1))
    return found


def _counts_swap(placement: Placement) -> bool:
    return cgroups.counts_swap(placement.parent)


def _senseless(option: str, value: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"cannot use {option} '{value}': {reason}", subject=option)
