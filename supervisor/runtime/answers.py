"""How one task waits for another's result without owning it.

An `Answer` is given once and may be read by any number of tasks. A reader that is cancelled changes
nothing for the giver: that is what lets a client vanish while the change it asked for is finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from pyman.errors import EngineStopped, PymanError
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Answer", "in_background", "with_beside"]

T = TypeVar("T")


class Answer(Generic[T]):
    """A result to come: a value or an error."""

    __slots__ = ("_error", "_event", "_value")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: T | None = None
        self._error: Exception | None = None

    @property
    def given(self) -> bool:
        return self._event.is_set()

    @property
    def failed(self) -> bool:
        """With an error."""
        return self._error is not None

    def give(self, value: T) -> None:
        """The first answer counts; later ones are ignored."""
        if not self.given:
            self._value = value
            self._event.set()

    def fail(self, error: Exception) -> None:
        if not self.given:
            self._error = error
            self._event.set()

    async def get(self) -> T:
        """The value, once it is there. Raises the error that was given instead."""
        await self._event.wait()
        if self._error is not None:
            error = self._error
            if isinstance(error, PymanError):
                # A copy: several readers would otherwise grow one traceback and context together.
                raise type(error)(error.message, subject=error.subject, hint=error.hint)
            raise error
        return self._value  # type: ignore[return-value]


async def with_beside(main: Callable[[], Awaitable[T]], beside: Callable[[], Awaitable[Any]]) -> T:
    """What `main` returns or raises, once `beside` is done as well; an error of that comes second, and is logged where
    both fail. Errors come as they are, not as a group."""
    other: outcome.Maybe[Any] = outcome.Value(None)

    async def run() -> None:
        nonlocal other
        other = await outcome.acapture(beside)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        done = await outcome.acapture(main)
    if isinstance(done, outcome.Error) and isinstance(other, outcome.Error):
        log.warning("something else failed as well", error=str(other.error))
    value = done.unwrap()
    other.unwrap()
    return value


def in_background(nursery: trio.Nursery, work: Callable[[], Awaitable[T]]) -> Answer[T]:
    """Run work in a nursery that outlives the caller; its answer can be awaited or abandoned."""
    answer: Answer[T] = Answer()

    async def run() -> None:
        done = await outcome.acapture(work)
        if isinstance(done, outcome.Value):
            answer.give(done.value)
        elif isinstance(done.error, Exception):
            # Also a bug: it belongs to the call that reads the answer, not to everybody.
            answer.fail(done.error)
        else:
            answer.fail(EngineStopped("cannot finish: the runtime is stopped"))
            done.unwrap()

    nursery.start_soon(run)
    return answer
