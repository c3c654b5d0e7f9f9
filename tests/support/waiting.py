"""Waiting for what no event tells of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["until"]


def until(holds: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Look again and again. `what`: what is said if it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
