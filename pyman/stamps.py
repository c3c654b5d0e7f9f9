"""RFC 3339 by whole numbers: log files and the command line read many times, and a float has too few digits.

(`datetime` has no nanoseconds, and importing it costs more than this module.)
"""

from __future__ import annotations

__all__ = ["NANO", "is_decimal", "nano_fraction", "parse_stamp"]

NANO = 1_000_000_000
_LONGEST = 40


def parse_stamp(text: str) -> int | None:
    """RFC 3339 with any fraction, the same without a zone (UTC), a date, a date with a zone; none otherwise."""
    date, rest = text[:10], text[10:]
    if len(date) != 10 or date[4] != "-" or date[7] != "-":
        return None
    parts = (date[:4], date[5:7], date[8:10])
    if not all(map(is_decimal, parts)):
        return None
    year, month, day = map(int, parts)
    if not 1 <= month <= 12 or not 1 <= day <= _days(year, month):
        return None
    seconds = fraction = 0
    if rest[:1] in ("T", "t"):
        clock = rest[1:9]
        if len(clock) != 8 or clock[2] != ":" or clock[5] != ":":
            return None
        fields = (clock[:2], clock[3:5], clock[6:8])
        if not all(map(is_decimal, fields)):
            return None
        hour, minute, second = map(int, fields)
        if hour > 23 or minute > 59 or second > 60:
            return None
        seconds, rest = (hour * 60 + minute) * 60 + second, rest[9:]
        if rest[:1] in (".", ","):
            end = 1
            while end < len(rest) and rest[end] in "0123456789":
                end += 1
            if end == 1:
                return None
            fraction, rest = nano_fraction(rest[1:end]), rest[end:]
    offset = _offset(rest)
    if offset is None:
        return None
    return (_day_number(year, month, day) * 86400 + seconds - offset) * NANO + fraction


def _offset(zone: str) -> int | None:
    """Seconds east of Greenwich."""
    if zone in ("", "Z", "z"):
        return 0
    if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":" or not is_decimal(zone[1:3] + zone[4:6]):
        return None
    seconds = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -seconds if zone[0] == "-" else seconds


def is_decimal(text: str) -> bool:
    """A whole number, and no longer than anybody means one: Python refuses to read thousands of digits."""
    return text.isascii() and text.isdigit() and len(text) < _LONGEST


def nano_fraction(digits: str) -> int:
    """Nanoseconds of the digits after the point."""
    return int(digits[:9].ljust(9, "0")) if digits else 0


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _day_number(year: int, month: int, day: int) -> int:
    """Days since 1 January 1970 in the Gregorian calendar; years are counted from March on."""
    if month <= 2:
        year -= 1
    shifted = (month + 9) % 12
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * shifted + 2) // 5 + day - 719469
