"""The container's cgroup on the command line: whether it has one, where, and what is limited in it."""

from __future__ import annotations

from pyman.cli.options import INT, TEXT
from pyman.cli.values import size
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["RESOURCE_OPTIONS", "resource_settings"]

RESOURCE_OPTIONS: tuple[Option, ...] = (
    ("cgroup-parent", "", TEXT, "PATH", "Where its cgroup is made; with the systemd manager a slice"),
    ("cgroups", "", TEXT, "MODE", "Its cgroup: enabled, disabled, no-conmon or split"),
    ("cpu-period", "", INT, "MICROSECONDS", "The time that --cpu-quota is about"),
    ("cpu-quota", "", INT, "MICROSECONDS", "The most processor time in each period"),
    ("cpu-shares", "c", INT, "WEIGHT", "Its share of busy processors, against 1024 of others"),
    ("cpus", "", TEXT, "NUMBER", "The most processors' worth of time"),
    ("cpuset-cpus", "", TEXT, "LIST", "The processors that it may use, such as 0-2,5"),
    ("cpuset-mems", "", TEXT, "LIST", "The memory nodes that it may use"),
    ("memory", "m", TEXT, "SIZE", "The most memory, such as 512m"),
    ("memory-reservation", "", TEXT, "SIZE", "The memory that it keeps when memory is short"),
    ("memory-swap", "", TEXT, "SIZE", "The most memory and swap together; -1: any amount of swap"),
    ("memory-swappiness", "", INT, "NUMBER", "How readily its memory is swapped, 0 to 100 (cgroup v1)"),
    ("pids-limit", "", INT, "NUMBER", "The most processes and threads; -1: any number"),
)

_PERIOD = 100_000
"""Microseconds in which --cpus is counted."""
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
    limits: dict[str, Any] = {}
    if memory := _memory(args):
        limits["memory"] = memory
    if cpu := _cpu(args):
        limits["cpu"] = cpu
    if args.pids_limit is not None:
        if args.pids_limit < -1:
            raise _refused("pids-limit", args.pids_limit, "a number of processes, or -1 for any number")
        limits["pids"] = {"limit": args.pids_limit}
    if limits:
        spec["resource_limits"] = limits
    return spec


def _memory(args: Parsed) -> dict[str, Any]:
    """A size of 0 is no limit."""
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
            if number:
                found[field] = number
    if args.memory_swappiness is not None and args.memory_swappiness != -1:
        found["swappiness"] = args.memory_swappiness
    return found


def _cpu(args: Parsed) -> dict[str, Any]:
    """A number of 0 is no limit."""
    found: dict[str, Any] = {}
    for option, field in (("cpu_shares", "shares"), ("cpu_period", "period"), ("cpu_quota", "quota")):
        if getattr(args, option):
            found[field] = getattr(args, option)
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
        if number:
            found["period"], found["quota"] = _PERIOD, round(number * _PERIOD)
    return found


def _refused(option: str, value: object, expected: str) -> InvalidArgument:
    return InvalidArgument(f"option --{option} cannot be '{value}'", hint=f"it must be {expected}")
