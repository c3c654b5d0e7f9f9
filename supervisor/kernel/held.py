"""A lock that a child goes on holding when the supervisor that started it is killed.

It is flock(2), which belongs to the open file: a child that has got the descriptor holds it until it ends. So a next
supervisor can wait for what an earlier one's child may still be doing.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["held"]


@asynccontextmanager
async def held(path: str, deadline: float) -> AsyncIterator[int]:
    """The descriptor to pass on. `deadline`: seconds for whoever has it. DeadlineExceeded; OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait = partial(fcntl.flock, descriptor, fcntl.LOCK_EX)
            with trio.move_on_after(deadline) as scope:
                await trio.to_thread.run_sync(wait, abandon_on_cancel=True)
            if scope.cancelled_caught:
                raise DeadlineExceeded(
                    f"cannot wait any longer for '{path}': an earlier call holds it", subject=path
                ) from None
        yield descriptor
    finally:
        os.close(descriptor)
