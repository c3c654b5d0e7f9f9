"""When the checks of all containers are due.

One task sleeps until the next one is; without checks it sleeps for good. Of a check there is never more than one under
way: one that falls due meanwhile is skipped and counted, and so are those that nobody could run in time. At most a set
number run at once.

A check is due at once when its container has started, then at a distance that spreads all checks of the same interval
over it, then every interval. The clock is Trio's.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

import outcome
import trio

from pyman.errors import PymanError
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Check", "Schedule"]

REMEMBERED = 1000
"""Delays of the last checks that are kept, for those who want to know."""


class Check:
    """Of one container. `work` runs it once; it is cancelled when the check is removed."""

    def __init__(self, name: str, interval: float, work: Callable[[], Awaitable[object]]) -> None:
        """`interval`: seconds."""
        self.name = name
        self.interval = interval
        self.due = 0.0
        self.begun_for = 0.0
        """When the one that is under way was due."""
        self._work = work
        self.busy = False
        self.skipped = 0
        """Since somebody has last taken this number."""
        self.spread = False
        """Its dues have their place among those of others."""
        self.ticket = -1
        """Of its place in the schedule; -1: it has none."""
        self.scope = trio.CancelScope()
        """Of the one that is under way."""

    def take_skipped(self) -> int:
        number, self.skipped = self.skipped, 0
        return number

    async def work(self) -> None:
        await self._work()


class Schedule:
    """`run` has to run."""

    def __init__(self, at_once: int) -> None:
        self._limiter = trio.CapacityLimiter(at_once)
        self._heap: list[tuple[float, int, Check]] = []
        self._checks: dict[int, Check] = {}
        self._tickets = itertools.count()
        self._changed = trio.Event()
        self.skipped = 0
        """Of all checks, since the beginning."""
        self.delays: deque[float] = deque(maxlen=REMEMBERED)
        """Seconds between due and started, of the last checks."""

    @property
    def armed(self) -> int:
        return len(self._checks)

    @property
    def under_way(self) -> int:
        return self._limiter.borrowed_tokens

    def set_most(self, at_once: int) -> None:
        self._limiter.total_tokens = at_once

    def add(self, check: Check, seconds: float, *, spread: bool) -> None:
        """Due in so many seconds. `spread`: it finds its place among others after that; else it keeps it."""
        check.spread = not spread
        check.due = trio.current_time() + max(0.0, seconds)
        self._push(check)

    def remove(self, check: Check) -> None:
        """Not due any more, and cancelled where it is under way."""
        self._checks.pop(check.ticket, None)
        check.ticket = -1
        check.scope.cancel()

    def started(self, check: Check) -> None:
        """What is to be done has begun."""
        self.delays.append(trio.current_time() - check.begun_for)

    def _push(self, check: Check) -> None:
        self._checks.pop(check.ticket, None)
        check.ticket = next(self._tickets)
        self._checks[check.ticket] = check
        heapq.heappush(self._heap, (check.due, check.ticket, check))
        if self._heap[0][1] == check.ticket:
            self._changed.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                while self._heap and self._heap[0][1] not in self._checks:
                    heapq.heappop(self._heap)
                self._changed = trio.Event()
                if not self._heap:
                    await self._changed.wait()
                    continue
                with trio.move_on_at(self._heap[0][0]):
                    await self._changed.wait()
                    continue
                now = trio.current_time()
                while self._heap and self._heap[0][0] <= now:
                    _due, ticket, check = heapq.heappop(self._heap)
                    if ticket in self._checks:
                        self._begin(nursery, check, now)

    def _begin(self, nursery: trio.Nursery, check: Check, now: float) -> None:
        due = check.due
        if check.busy:
            self._skip(check, 1)
        else:
            check.busy = True
            check.scope = trio.CancelScope()
            nursery.start_soon(self._one, check, due)
        if check.spread:
            missed = int((now - due) // check.interval)
            self._skip(check, missed)
            check.due = due + (missed + 1) * check.interval
        else:
            check.due = self._place(check, now)
            check.spread = True
        self._push(check)

    def _skip(self, check: Check, number: int) -> None:
        check.skipped += number
        self.skipped += number

    def _place(self, check: Check, now: float) -> float:
        """A time between half an interval and one and a half from now, in the middle of the widest gap between others."""
        interval = check.interval
        taken = sorted(
            other.due % interval
            for other in self._checks.values()
            if other.interval == interval and other.spread and other is not check
        )
        if not taken:
            return now + interval
        after = [*taken[1:], taken[0] + interval]
        width, begin = max((b - a, a) for a, b in zip(taken, after, strict=True))
        earliest = now + interval / 2
        return earliest + (begin + width / 2 - earliest) % interval

    async def _one(self, check: Check, due: float) -> None:
        try:
            with check.scope:
                async with self._limiter:
                    check.begun_for = due
                    done = await outcome.acapture(check.work)
                    if isinstance(done, outcome.Error) and isinstance(done.error, PymanError):
                        log.warning("health check", container=check.name, error=str(done.error))
                    elif isinstance(done, outcome.Error) and isinstance(done.error, Exception):
                        log.error("health check", container=check.name, exc_info=done.error)
                    else:
                        done.unwrap()
        finally:
            check.busy = False
