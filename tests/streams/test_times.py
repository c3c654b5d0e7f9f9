"""Times on the command line and in log files."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.cli.times import nanoseconds, show, since_time, until_time
from pyman.errors import InvalidArgument
from pyman.stamps import parse_stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000_000_000
HOUR = 3600 * 1_000_000_000
_EARLIEST, _LATEST = datetime.datetime(1900, 1, 1), datetime.datetime(2400, 1, 1)  # noqa: DTZ001 - the zone is drawn


@given(
    st.datetimes(_EARLIEST, _LATEST),
    st.integers(-14 * 60, 14 * 60),
)
def test_any_rfc_3339_time_is_read(when: datetime.datetime, offset: int) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=offset))
    stamp = when.replace(tzinfo=zone)
    since_epoch = stamp - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    expected = (since_epoch.days * 86400 + since_epoch.seconds) * 10**9 + since_epoch.microseconds * 1000
    assert parse_stamp(stamp.isoformat()) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2026-11-22", 1795305600_000000000),
        ("2026-11-22Z", 1795305600_000000000),
        ("2026-11-22+02:00", 1795298400_000000000),
        ("2026-11-22T11:01:22", 1795345282_000000000),
        ("2026-11-22T11:01:22.5", 1795345282_500000000),
        ("2026-11-22T11:01:22.123456789Z", 1795345282_123456789),
        ("2026-11-22t11:01:22z", 1795345282_000000000),
        ("1795345282", 1795345282_000000000),
        ("1795345282.000000001", 1795345282_000000001),
        ("0", 0),
        ("10", 10_000000000),
        ("1h30m", NOW - HOUR - HOUR // 2),
        ("1.5h", NOW - HOUR - HOUR // 2),
        ("-10m", NOW + HOUR // 6),
        ("1m0.000000001s", NOW - 60_000000001),
    ],
)
def test_since_takes_what_podman_takes(text: str, expected: int) -> None:
    assert since_time(text, NOW) == expected


def test_a_duration_lies_after_now_for_until_as_for_podman() -> None:
    assert until_time("1h", NOW) == NOW + HOUR
    assert until_time("-1h", NOW) == NOW - HOUR
    assert until_time("2026-11-22", NOW) == since_time("2026-11-22", NOW)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "1d", "2026-11", "11:00", "2026-11-22T11", "2026-11-22T11:01Z", "2026-11-22 11:01:22",
        "2026-13-01", "2026-02-30", "2026-11-22T25:00:00", "2026-11-22T11:01:22+0100", "1..5s", ".s", "-",
        "2026-11-22T11:01:22.Z", "١٢٣", "1.5.5", "--5",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="option --since cannot be"):
        since_time(text)


@pytest.mark.parametrize(
    "text, expected",
    [("0", 0), ("1ns", 1), ("1us", 1000), ("1µs", 1000), ("1ms", 10**6), ("1s", 10**9), (".5s", 5 * 10**8), ("", None)],
)  # fmt: skip
def test_durations_are_go_s(text: str, expected: int | None) -> None:
    assert nanoseconds(text) == expected


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("new_york")
def test_times_are_shown_as_go_shows_them_in_the_local_zone() -> None:
    assert show(1795345712_123456700) == "2026-11-22 06:08:32.1234567 -0500 EST"
    assert show(1795345712_000000000) == "2026-11-22 06:08:32 -0500 EST"
