"""What a container's spec is after an update: pure, and nothing is checked but what the request contradicts itself in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pyman.api.limits import CpuLimits, MemoryLimits, ResourceLimits
from pyman.api.spec import HealthConfig, StartupHealthConfig
from pyman.api.update import UpdateRequest
from pyman.errors import InvalidArgument
from supervisor.runtime.records import replaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyman.api.limits import BlockIoLimits
    from pyman.api.spec import ContainerSpec

__all__ = ["HEALTH_FIELDS", "LIMIT_FIELDS", "amended"]

_T = TypeVar("_T")
_H = TypeVar("_H", HealthConfig, StartupHealthConfig)

_DEVICES = {
    "weight_device": "weight",
    "throttle_read_bps_device": "rate",
    "throttle_write_bps_device": "rate",
    "throttle_read_iops_device": "rate",
    "throttle_write_iops_device": "rate",
}
"""Fields of limits at devices, and what 0 of takes one away."""
_HEALTH = (
    "health_check_on_failure_action",
    "health_log_destination",
    "health_max_log_count",
    "health_max_log_size",
)


LIMIT_FIELDS = ("resource_limits", *_DEVICES)
"""Of the spec: limits of the cgroup, and the health check."""
HEALTH_FIELDS = (*_HEALTH, "healthconfig", "no_healthcheck", "startup_health_config")

_EMPTY = UpdateRequest("")
_NOTHING = {field: getattr(_EMPTY, field) for field in _EMPTY.__struct_fields__ if field != "name"}
"""Every field but the name, where nothing was given."""


def amended(spec: ContainerSpec, change: UpdateRequest) -> ContainerSpec:
    """InvalidArgument: the change is none, or contradicts itself."""
    if not any(getattr(change, field) != _NOTHING[field] for field in _NOTHING):
        raise InvalidArgument(
            f"cannot update container '{change.name}': nothing to change was given", subject=change.name
        )
    if change.restart_tries is not None and change.restart_policy is None:
        raise InvalidArgument("cannot limit restarts: only the restart policy on-failure takes a number")
    if change.restart_policy is not None:
        spec = replaced(spec, restart_policy=change.restart_policy, restart_tries=change.restart_tries)
    new = replaced(
        spec,
        resource_limits=_limits(spec.resource_limits, change.resource_limits),
        r_limits=list({limit.type: limit for limit in [*spec.r_limits, *change.r_limits]}.values()),
        **{
            field: _devices(getattr(spec, field), getattr(change, field), key)
            for field, key in _DEVICES.items()
        },
    )
    return _health(_environment(new, change), change)


# -- limits -------------------------------------------------------------------------------------


def _limits(old: ResourceLimits, change: ResourceLimits) -> ResourceLimits:
    return ResourceLimits(
        memory=_memory(old.memory, change.memory),
        cpu=_cpu(old.cpu, change.cpu),
        pids=old.pids if change.pids is None else change.pids,
        block_io=_weight(old.block_io, change.block_io),
    )


def _memory(old: MemoryLimits, change: MemoryLimits) -> MemoryLimits:
    limit = _either(old.limit, change.limit)
    return MemoryLimits(
        limit=limit,
        reservation=_either(old.reservation, change.reservation),
        # It counts the memory: without a limit of that it says nothing.
        swap=_either(old.swap if limit is not None else None, change.swap),
        swappiness=_either(old.swappiness, change.swappiness, none=-1),
        disable_oom_killer=_given(old.disable_oom_killer, change.disable_oom_killer),
    )


def _cpu(old: CpuLimits, change: CpuLimits) -> CpuLimits:
    return CpuLimits(
        shares=_either(old.shares, change.shares),
        period=_either(old.period, change.period),
        quota=_either(old.quota, change.quota),
        realtime_period=_either(old.realtime_period, change.realtime_period),
        realtime_runtime=_given(old.realtime_runtime, change.realtime_runtime),
        cpus=change.cpus or old.cpus,
        mems=change.mems or old.mems,
    )


def _weight(old: BlockIoLimits, change: BlockIoLimits) -> BlockIoLimits:
    return replaced(old, weight=_either(old.weight, change.weight))


def _either(old: int | None, change: int | None, none: int = 0) -> int | None:
    if change is None:
        return old
    return None if change == none else change


def _given(old: _T | None, change: _T | None) -> _T | None:
    return old if change is None else change


def _devices(old: Mapping[str, _T], change: Mapping[str, _T], key: str) -> dict[str, _T]:
    return {path: limit for path, limit in {**old, **change}.items() if getattr(limit, key)}


# -- the rest -----------------------------------------------------------------------------------


def _environment(spec: ContainerSpec, change: UpdateRequest) -> ContainerSpec:
    if both := sorted(change.env.keys() & set(change.unsetenv)):
        raise InvalidArgument(f"cannot both set and unset the variable '{both[0]}'", subject=both[0])
    env = {name: value for name, value in spec.env.items() if name not in change.unsetenv}
    return replaced(
        spec,
        env={**env, **change.env},
        unsetenv=list(dict.fromkeys([*spec.unsetenv, *change.unsetenv])),
    )


def _health(spec: ContainerSpec, change: UpdateRequest) -> ContainerSpec:
    given = {field: getattr(change, field) for field in _HEALTH if getattr(change, field) not in ("", None)}
    own, startup = change.healthconfig, change.startup_health_config
    if change.no_healthcheck:
        if own is not None or startup is not None or given:
            raise InvalidArgument("cannot use --no-healthcheck together with another --health option")
        return replaced(
            spec,
            no_healthcheck=True,
            healthconfig=None,
            startup_health_config=None,
            **{field: _NOTHING[field] for field in _HEALTH},
        )
    if own is not None:
        spec = replaced(spec, healthconfig=_config(spec.healthconfig or HealthConfig(), own))
        if own.test:
            spec = replaced(spec, no_healthcheck=False)
    if startup is not None:
        before = spec.startup_health_config or StartupHealthConfig()
        merged = _config(before, startup)
        if not merged.test:
            raise InvalidArgument(
                "cannot use the options --health-startup-… alone", hint="give a --health-startup-cmd"
            )
        successes = startup.successes or before.successes
        spec = replaced(spec, startup_health_config=replaced(merged, successes=successes))
    return replaced(spec, **given)


def _config(old: _H, change: _H) -> _H:
    return replaced(
        old,
        test=change.test or old.test,
        interval=_given(old.interval, change.interval),
        timeout=_given(old.timeout, change.timeout),
        start_period=_given(old.start_period, change.start_period),
        retries=_given(old.retries, change.retries),
    )
