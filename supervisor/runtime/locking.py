"""Lock files that other engines take, too, waited for no longer than a deadline.

The wait is the kernel's, in a thread. One that is given up ends when the lock is free at last, and lets it go at once.
"""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import DeadlineExceeded
from supervisor.kernel import files
from supervisor.kernel.locks import OfdLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["held"]


class _Wait:
    def __init__(self, path: str, *, shared: bool) -> None:
        self._path = path
        self._shared = shared
        self._guard = threading.Lock()
        self._given_up = False
        self._lock: OfdLock | None = None

    def acquire(self) -> None:
        lock = OfdLock(self._path)
        try:
            lock.acquire(shared=self._shared)
        except OSError:
            lock.close()
            raise
        with self._guard:
            if not self._given_up:
                self._lock = lock
                return
        _let_go(lock)

    def end(self) -> None:
        with self._guard:
            self._given_up = True
            lock, self._lock = self._lock, None
        if lock is not None:
            _let_go(lock)


def _let_go(lock: OfdLock) -> None:
    with suppress(OSError):
        lock.release()  # a child that was just started has the descriptor until it executes its program
    lock.close()


@asynccontextmanager
async def held(
    path: str, limiter: trio.CapacityLimiter, deadline: float, *, what: str, shared: bool = False
) -> AsyncIterator[None]:
    """Hold the lock of a file, which is made if it is missing. `what`: that it protects, for the message. `deadline`:
    seconds. DeadlineExceeded, StorageFailed."""
    wait = _Wait(path, shared=shared)
    try:
        with trio.move_on_after(deadline) as scope:
            await trio.to_thread.run_sync(wait.acquire, limiter=limiter, abandon_on_cancel=True)
        if scope.cancelled_caught:
            raise DeadlineExceeded(
                f"cannot use {what}: another program has held '{path}' for {deadline:g} s", subject=path
            )
        yield
    except OSError as error:
        raise files.storage_error(error, "lock", path) from error
    finally:
        wait.end()
