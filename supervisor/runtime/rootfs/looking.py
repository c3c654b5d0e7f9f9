"""Root filesystems are looked into, and mounted, with care. They belong to somebody else and may lie on a server
that never answers.

Whoever waits for one gives up after a while. A few threads at most wait for the same root filesystem, and
nobody else waits for those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

import trio

from pyman.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["look_into"]

T = TypeVar("T")

AT_ONCE = 16
"""Threads that have to do with the same root filesystem."""
_limiters: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()
"""By root filesystem, while somebody looks into it or waits for that."""


async def look_into(root: str, work: Callable[[], T], seconds: float, what: str = "the root filesystem") -> T:
    """What `work` finds in the root filesystem, or `what` else lies there, or makes of it: in a thread.
    DeadlineExceeded; it may go on, or have never begun, then."""
    limiter = _limiters.get(root)
    if limiter is None:
        limiter = _limiters[root] = trio.CapacityLimiter(AT_ONCE)
    with trio.move_on_after(seconds):
        return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    raise DeadlineExceeded(
        f"cannot look into {what} '{root}': no answer within {seconds:g} s",
        subject=root,
        hint="is the server that has it there?",
    )
