"""Signals by their numbers and names."""

from __future__ import annotations

import signal

import pytest

from pyman.errors import InvalidArgument
from supervisor.runtime.creation.defining import signal_number


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("64", 64), ("term", 15), (" SIGTERM ", 15), ("RTMIN+3", signal.SIGRTMIN + 3)],
)
def test_signals_have_numbers_and_names(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-1", "SIG", "X", "RTMIN+40", "RTMIN+", "1" * 5000, "RTMIN+" + "1" * 5000]
)
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot use the signal '"):
        signal_number(text)
