"""When something is tried again, and how long is waited before. Pure functions."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LONGEST_DELAY", "TRANSIENT_STATUS", "delay_before", "retry_after"]

LONGEST_DELAY = 60.0
"""Seconds: whatever a registry wishes for, it is asked again after that, or no more."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def delay_before(attempt: int, delay: float | None, wished: float | None = None) -> float:
    """Seconds before repetition `attempt`, counted from 1: the delay asked for, else 1, 2, 4 …; but what the registry
    wishes for, if that is longer, up to LONGEST_DELAY."""
    own = delay if delay is not None else min(2.0 ** (attempt - 1), LONGEST_DELAY)
    return max(own, min(wished, LONGEST_DELAY)) if wished is not None else own


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the header Retry-After asks for, as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(
            0.0, email.utils.parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
        )
    except (ValueError, TypeError, OverflowError):
        return None
