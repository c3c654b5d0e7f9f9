"""Times and sizes in the words that people read."""

from __future__ import annotations

__all__ = ["ago", "byte_size", "span"]


def span(seconds: float) -> str:
    """`3 seconds`, `About a minute`, `2 weeks`: the unit that tells most."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months")):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{int(seconds / 3600 / 24 / 365)} years"


def ago(seconds: float) -> str:
    return f"{span(seconds)} ago"


def byte_size(count: float) -> str:
    """`1.98MB`: three digits, powers of 1000."""
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    index = 0
    while count >= 1000 and index < len(units) - 1:
        count /= 1000
        index += 1
    return f"{count:.3g}{units[index]}"
