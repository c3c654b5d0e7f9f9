"""Waiting for what no event tells of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["quickly", "until"]


def until(holds: Callable[[], object], what: str | Callable[[], str], seconds: float = 20.0) -> None:
    """Look again and again. `what`: what is said if it does not come, or what says then how it is."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(0.005)


def quickly(attempt: Callable[[], float], seconds: float, tries: int = 5) -> None:
    """Of several attempts, each of which says how long it took, one takes less: what is slow takes long each time, what a
    busy machine delays does not."""
    taken: list[float] = []
    while not taken or taken[-1] >= seconds:
        assert len(taken) < tries, f"it takes {taken}"
        taken.append(attempt())
