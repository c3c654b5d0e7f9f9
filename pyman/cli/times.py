"""Points in time on the command line: what `--since` and `--until` take, and how Podman prints them.

Taken are Unix timestamps (with a fraction), RFC 3339, dates and local forms without a zone (which are UTC,
as Podman has it), and durations such as `1h30m`: before now for `--since`, after now for `--until`, so
that `--until 30s` ends a follower; `--until=-10m` is ten minutes ago. Everything is nanoseconds since the
epoch, by whole numbers: a float has not enough digits. (`datetime` costs more than this module.)
"""

from __future__ import annotations

import time

from pyman.errors import InvalidArgument
from pyman.stamps import NANO, is_decimal, nano_fraction, parse_stamp

__all__ = ["nanoseconds", "show", "since_time", "until_time"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NANO,
    "m": 60 * NANO,
    "h": 3600 * NANO,
}


def since_time(text: str, now: int | None = None) -> int | None:
    """Nanoseconds since the epoch; none for an empty text. Raises InvalidArgument."""
    return _point(text, "--since", -1, now)


def until_time(text: str, now: int | None = None) -> int | None:
    """As `since_time`, but a duration leads into the future."""
    return _point(text, "--until", 1, now)


def _point(text: str, option: str, direction: int, now: int | None) -> int | None:
    if not text:
        return None
    number = _unix(text)
    if number is None:
        number = parse_stamp(text)
    if number is None:
        length = nanoseconds(text)
        if length is not None:
            return (time.time_ns() if now is None else now) + direction * length
    if number is None:
        raise InvalidArgument(
            f"option {option} cannot be '{text}'",
            subject=option,
            hint="it must be a time such as 2006-01-02T15:04:05Z, a Unix timestamp, or a duration such as 1h30m",
        )
    return number


def _unix(text: str) -> int | None:
    whole, _, fraction = text.partition(".")
    digits = whole.removeprefix("-")
    if not is_decimal(digits) or (fraction and not is_decimal(fraction)):
        return None
    number = int(digits) * NANO + nano_fraction(fraction)
    return -number if whole[:1] == "-" else number


def nanoseconds(text: str) -> int | None:
    """The length of Go's durations (`1h30m`, `-1.5s`, `0`); none: not a duration."""
    sign = -1 if text[:1] == "-" else 1
    rest = text[1:] if text[:1] in ("-", "+") and text else text
    if rest == "0":
        return 0
    total = 0
    while rest:
        end = 0
        while end < len(rest) and (rest[end] in "0123456789."):
            end += 1
        stop = end
        while stop < len(rest) and rest[stop] not in "0123456789.":
            stop += 1
        unit = _UNITS.get(rest[end:stop])
        whole, dot, fraction = rest[:end].partition(".")
        if (
            unit is None
            or not (whole or fraction)
            or not is_decimal(whole + fraction)
            or (dot and "." in fraction)
        ):
            return None
        total += int(whole or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        rest = rest[stop:]
    return sign * total if text.strip("+-") else None


def show(stamp: int) -> str:
    """As Go prints a time: `2006-01-02 15:04:05.999999999 -0700 MST`, in the local zone."""
    seconds, fraction = divmod(stamp, NANO)
    local = time.localtime(seconds)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + digits + time.strftime(" %z %Z", local)
