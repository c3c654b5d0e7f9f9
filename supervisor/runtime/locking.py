"""Lock files that other engines take, too, waited for no longer than a deadline.

Who takes them for the same things takes them by turns (`Locks`): so one thread waits at a time, and nobody who has the
first file lacks a thread for the second.

The wait is the kernel's, in a thread. One that is given up ends when the lock is free at last, and lets it go at once.
"""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import DeadlineExceeded
from supervisor.kernel import files
from supervisor.kernel.locks import OfdLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

__all__ = ["Locks", "held"]


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
        try:
            with trio.move_on_after(deadline) as scope:
                await trio.to_thread.run_sync(wait.acquire, limiter=limiter, abandon_on_cancel=True)
        except OSError as error:
            raise files.storage_error(error, "lock", path) from error
        if scope.cancelled_caught:
            raise DeadlineExceeded(
                f"cannot use {what}: another program has held '{path}' for {deadline:g} s", subject=path
            )
        yield
    finally:
        wait.end()


class Locks:
    """Of the same things. `what`: they protect, for the message."""

    def __init__(self, limiter: trio.CapacityLimiter, what: str) -> None:
        self._limiter = limiter
        self._what = what
        self._turn = trio.Lock()
        """Held by whoever waits for a file, or has one."""

    @asynccontextmanager
    async def held(
        self, paths: Iterable[str], deadline: float, *, shared: bool = False
    ) -> AsyncIterator[None]:
        """Hold all of these files, in their order. `deadline`: seconds for the turn, and for each file. As `held`."""
        with trio.move_on_after(deadline) as scope:
            await self._turn.acquire()
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"cannot use {self._what}: others have used them for {deadline:g} s")
        try:
            async with AsyncExitStack() as stack:
                for path in paths:
                    lock = held(path, self._limiter, deadline, what=self._what, shared=shared)
                    await stack.enter_async_context(lock)
                yield
        finally:
            self._turn.release()
