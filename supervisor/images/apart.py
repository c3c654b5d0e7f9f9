"""Large documents are worked on apart from the event loop: one of some megabytes takes longer than a step may."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LARGE", "apart"]

LARGE = 1 << 16
"""Bytes that are worked on at once."""
T = TypeVar("T")
_limiter = trio.CapacityLimiter(2)


async def apart(size: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises; in a thread if it is about more than `LARGE` bytes."""
    if size <= LARGE:
        return work()
    return await trio.to_thread.run_sync(work, limiter=_limiter)
