"""Lengths of time as Go writes them, and Podman with it: `1m12.5s`."""

from __future__ import annotations

__all__ = ["go_duration"]

_NANO, _MICRO, _MILLI, _SECOND = 1, 1_000, 1_000_000, 1_000_000_000


def go_duration(nanoseconds: int) -> str:
    """`20.386825206s`, `1h2m12.5s`, `350ms`, `0s`."""
    if nanoseconds < 0:
        return f"-{go_duration(-nanoseconds)}"
    if nanoseconds < _SECOND:
        for unit, name in ((_MILLI, "ms"), (_MICRO, "µs"), (_NANO, "ns")):
            if nanoseconds >= unit:
                return f"{_decimal(nanoseconds, unit)}{name}"
        return "0s"
    minutes, rest = divmod(nanoseconds, 60 * _SECOND)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{before}{_decimal(rest, _SECOND)}s"


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
