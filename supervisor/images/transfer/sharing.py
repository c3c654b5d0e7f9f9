"""Work that several callers want at the same time and that is done once.

Whoever asks for it while it goes on holds a lease on what goes on already. The last one who leaves before its end
cancels it, and waits until nothing of it is left. Work that has failed is nobody's any more: the next one begins anew.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from pyman.errors import EngineStopped, PymanError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable

__all__ = ["Sharing", "Work"]

T = TypeVar("T")


class Work(Generic[T]):
    """Made by `Sharing.lease`, which gives it a task of its own. `about`: what whoever has begun it has put there."""

    def __init__(self, run: Callable[[], Awaitable[T]], about: Any) -> None:
        self._run = run
        self.about = about
        self.users = 0
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self._outcome: outcome.Outcome[T] | None = None

    @property
    def failed(self) -> bool:
        return isinstance(self._outcome, outcome.Error)

    @property
    def done(self) -> bool:
        """It has come to its end, and that was none of errors."""
        return isinstance(self._outcome, outcome.Value)

    async def result(self) -> T:
        """What it comes to. Raises what it raised, a copy for each who asks."""
        await self.ended.wait()
        if isinstance(self._outcome, outcome.Value):
            value: T = self._outcome.value
            return value
        error = self._outcome.error if isinstance(self._outcome, outcome.Error) else None
        if isinstance(error, PymanError):
            raise type(error)(error.message, subject=error.subject, hint=error.hint)
        if isinstance(error, Exception):
            raise error
        raise EngineStopped("cannot finish: the runtime is stopped")

    async def live(self) -> None:
        """Its task. Its errors are those of whoever waits for it, also if they are bugs."""
        try:
            with self.scope:
                done = await outcome.acapture(self._run)
                if isinstance(done, outcome.Error) and not isinstance(done.error, Exception):
                    done.unwrap()
                self._outcome = done
        finally:
            self.ended.set()


class Sharing(Generic[T]):
    """`nursery`: where the work lives, longer than any caller."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._works: dict[Hashable, Work[T]] = {}

    def __len__(self) -> int:
        return len(self._works)

    @property
    def works(self) -> list[Work[T]]:
        return list(self._works.values())

    @asynccontextmanager
    async def lease(
        self, key: Hashable, make: Callable[[], Awaitable[T]], about: Any = None
    ) -> AsyncGenerator[Work[T], None]:
        """The work of this key: what goes on, or what `make` does. It goes on at least while somebody holds it, and
        when nobody does it has ended."""
        work = self._works.get(key)
        if work is None or work.failed:
            work = self._works[key] = Work(make, about)
            self._nursery.start_soon(work.live)
        work.users += 1
        try:
            yield work
        finally:
            work.users -= 1
            if not work.users:
                if self._works.get(key) is work:
                    del self._works[key]
                work.scope.cancel()
                with trio.CancelScope(shield=True):
                    await work.ended.wait()
