"""Times and sizes in the words that people read."""

from __future__ import annotations

__all__ = ["ago", "binary_size", "byte_size", "span"]


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


def byte_size(count: float, digits: int = 3) -> str:
    """`1.98MB`: three digits, powers of 1000."""
    return _sized(count, digits, 1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def binary_size(count: float) -> str:
    """`1.983MiB`: four digits, powers of 1024."""
    return _sized(count, 4, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def _sized(count: float, digits: int, step: int, units: tuple[str, ...]) -> str:
    index = 0
    while count >= step and index < len(units) - 1:
        count /= step
        index += 1
    return f"{count:.{digits}g}{units[index]}"
