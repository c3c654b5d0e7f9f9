"""Points in time as people give them to filters."""

from __future__ import annotations

import re
import time
from datetime import datetime

from pyman.errors import InvalidArgument

__all__ = ["moment"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FAR = 1e15
"""Seconds; neither infinity nor what is no number at all is nearer."""


def moment(value: str) -> float:
    """Seconds since the epoch: a Unix time, an RFC 3339 time, or a duration before now. InvalidArgument."""
    found = _seconds(value)
    if found is None or not abs(found) < _FAR:
        raise InvalidArgument(f"cannot filter by time '{value}'", hint="give 10m, a date or a Unix time")
    return found


def _seconds(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    parts = _DURATION.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        return None
