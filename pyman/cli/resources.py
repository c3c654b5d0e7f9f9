"""The container's cgroup on the command line: whether it has one, where, and what is limited in it."""

from __future__ import annotations

from pyman.cli.options import CSV, FLAG, INT, TEXT
from pyman.cli.values import size
from pyman.errors import InvalidArgument
from pyman.stamps import is_decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["LIMIT_OPTIONS", "RESOURCE_OPTIONS", "limit_settings", "resource_settings"]

LIMIT_OPTIONS: tuple[Option, ...] = (
    ("blkio-weight", "", INT, "WEIGHT", "Its share of busy block devices, 10 to 1000, against 100 of others"),
    ("blkio-weight-device", "", CSV, "DEVICE:WEIGHT", "The same for one device"),
    ("cpu-period", "", INT, "MICROSECONDS", "The time that --cpu-quota is about"),
    ("cpu-quota", "", INT, "MICROSECONDS", "The most processor time in each period"),
    ("cpu-rt-period", "", INT, "MICROSECONDS", "The time that --cpu-rt-runtime is about (cgroup v1)"),
    ("cpu-rt-runtime", "", INT, "MICROSECONDS", "The most time of realtime processes in each period (cgroup v1)"),
    ("cpu-shares", "c", INT, "WEIGHT", "Its share of busy processors, against 1024 of others"),
    ("cpus", "", TEXT, "NUMBER", "The most processors' worth of time"),
    ("cpuset-cpus", "", TEXT, "LIST", "The processors that it may use, such as 0-2,5"),
    ("cpuset-mems", "", TEXT, "LIST", "The memory nodes that it may use"),
    ("device-read-bps", "", CSV, "DEVICE:RATE", "The most bytes a second read from a device, such as /dev/sda:1mb"),
    ("device-read-iops", "", CSV, "DEVICE:RATE", "The most reads a second from a device"),
    ("device-write-bps", "", CSV, "DEVICE:RATE", "The most bytes a second written to a device"),
    ("device-write-iops", "", CSV, "DEVICE:RATE", "The most writes a second to a device"),
    ("memory", "m", TEXT, "SIZE", "The most memory, such as 512m"),
    ("memory-reservation", "", TEXT, "SIZE", "The memory that it keeps when memory is short"),
    ("memory-swap", "", TEXT, "SIZE", "The most memory and swap together; -1: any amount of swap"),
    ("memory-swappiness", "", INT, "NUMBER", "How readily its memory is swapped, 0 to 100 (cgroup v1)"),
    ("pids-limit", "", INT, "NUMBER", "The most processes and threads; -1: any number"),
)  # fmt: skip
"""Those that `update` can change, too."""
RESOURCE_OPTIONS: tuple[Option, ...] = (
    ("cgroup-conf", "", CSV, "FILE=VALUE", "A file of its cgroup and what it is to have (cgroup v2)"),
    ("cgroup-parent", "", TEXT, "PATH", "Where its cgroup is made; with the systemd manager a slice"),
    ("cgroups", "", TEXT, "MODE", "Its cgroup: enabled, disabled, no-conmon or split"),
    *LIMIT_OPTIONS,
    ("oom-kill-disable", "", FLAG, "", "At the limit of memory its processes wait, instead of being killed (cgroup v1)"),
    ("oom-score-adj", "", INT, "NUMBER", "How readily the kernel ends it when memory is short, -1000 to 1000"),
)  # fmt: skip

_PERIOD = 100_000
"""Microseconds in which --cpus is counted."""
_OF_DEVICES = (
    ("blkio-weight-device", "weightDevice", "weight"),
    ("device-read-bps", "throttleReadBpsDevice", "rate"),
    ("device-write-bps", "throttleWriteBpsDevice", "rate"),
    ("device-read-iops", "throttleReadIOPSDevice", "rate"),
    ("device-write-iops", "throttleWriteIOPSDevice", "rate"),
)
"""Option, field of the spec, and what it says of a device."""
_MODES = ("enabled", "disabled", "no-conmon", "split")


def resource_settings(args: Parsed) -> dict[str, Any]:
    """The spec's fields that the options of `RESOURCE_OPTIONS` set. Raises InvalidArgument."""
    spec: dict[str, Any] = {}
    if args.cgroups:
        if args.cgroups not in _MODES:
            raise InvalidArgument(
                f"option --cgroups cannot be '{args.cgroups}'", hint=f"it must be {', '.join(_MODES)}"
            )
        spec["cgroups_mode"] = args.cgroups
    if args.cgroup_parent:
        spec["cgroup_parent"] = args.cgroup_parent
    for pair in args.cgroup_conf:
        file, equals, value = pair.partition("=")
        if not equals or not file:
            raise _refused("cgroup-conf", pair, "FILE=VALUE, such as memory.high=1073741824")
        spec.setdefault("unified", {})[file] = value
    if args.oom_score_adj is not None:
        spec["oom_score_adj"] = args.oom_score_adj
    spec |= limit_settings(args)
    if args.oom_kill_disable:
        limits = spec.setdefault("resource_limits", {})
        limits.setdefault("memory", {})["disableOOMKiller"] = True
    return spec


def limit_settings(args: Parsed, *, change: bool = False) -> dict[str, Any]:
    """The same of `LIMIT_OPTIONS`. A size, a number or a rate of 0 is no limit: left out, unless it is to `change` what
    there is."""
    spec: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    if memory := _memory(args, change=change):
        limits["memory"] = memory
    if cpu := _cpu(args):
        limits["cpu"] = cpu
    if args.pids_limit is not None:
        if args.pids_limit < -1:
            raise _refused("pids-limit", args.pids_limit, "a number of processes, or -1 for any number")
        limits["pids"] = {"limit": args.pids_limit}
    if args.blkio_weight is not None:
        limits["blockIO"] = {"weight": args.blkio_weight}
    if not change:
        limits = {kind: found for kind, part in limits.items() if (found := _without_zeros(kind, part))}
    if limits:
        spec["resource_limits"] = limits
    for option, field, key in _OF_DEVICES:
        if texts := getattr(args, option.replace("-", "_")):
            spec[field] = dict(_of_device(option, text, key, change=change) for text in texts)
    return spec


def _without_zeros(kind: str, limits: dict[str, Any]) -> dict[str, Any]:
    """A swappiness, a limit of processes and a realtime of 0 are more than none."""
    kept = {"memory": ("swappiness",), "pids": ("limit",), "cpu": ("realtimeRuntime",)}.get(kind, ())
    return {field: value for field, value in limits.items() if value or field in kept}


def _of_device(option: str, text: str, key: str, *, change: bool) -> tuple[str, dict[str, int]]:
    path, colon, value = text.rpartition(":")
    number: int | None
    if option.endswith("-bps"):
        number = size(value, base=1024)
        expected = "DEVICE:RATE, such as /dev/sda:1mb"
    else:
        number = int(value) if is_decimal(value) else None
        expected = "DEVICE:NUMBER, such as /dev/sda:100"
    if not colon or not path.startswith("/") or number is None or number < 0:
        raise _refused(option, text, expected)
    if not number and key == "weight" and not change:
        raise _refused(option, text, "DEVICE:WEIGHT, a weight from 10 to 1000")
    return path, {key: number}


def _memory(args: Parsed, *, change: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, field in (
        ("memory", "limit"),
        ("memory-reservation", "reservation"),
        ("memory-swap", "swap"),
    ):
        text = getattr(args, option.replace("-", "_"))
        if text == "-1" and field == "swap":
            found[field] = -1
        elif text:
            number = size(text, base=1024)
            if number is None or number < 0:
                more = ", or -1 for any amount of swap" if field == "swap" else ""
                raise _refused(option, text, f"a size such as 512m{more}")
            found[field] = number
    if args.memory_swappiness is not None and (change or args.memory_swappiness != -1):
        found["swappiness"] = args.memory_swappiness
    return found


def _cpu(args: Parsed) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, field in (
        ("cpu_shares", "shares"),
        ("cpu_period", "period"),
        ("cpu_quota", "quota"),
        ("cpu_rt_period", "realtimePeriod"),
        ("cpu_rt_runtime", "realtimeRuntime"),
    ):
        if (number := getattr(args, option)) is not None:
            found[field] = number
    for option, field in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        if getattr(args, option):
            found[field] = getattr(args, option)
    if args.cpus:
        for other in ("cpu_period", "cpu_quota"):
            if args.given(other):
                raise InvalidArgument(
                    f"cannot use --cpus together with --{other.replace('_', '-')}",
                    hint="--cpus N is --cpu-period 100000 --cpu-quota N00000",
                )
        try:
            number = float(args.cpus)
        except ValueError:
            number = -1.0
        if not 0 <= number < 1e6:
            raise _refused("cpus", args.cpus, "a number of processors such as 1.5")
        found["period"], found["quota"] = _PERIOD if number else 0, round(number * _PERIOD)
    return found


def _refused(option: str, value: object, expected: str) -> InvalidArgument:
    return InvalidArgument(f"option --{option} cannot be '{value}'", hint=f"it must be {expected}")
