"""Programs that work for pulls and the like stand still while a container starts or ends.

Whoever starts a container waits for milliseconds, whoever pulls an image for seconds. A low priority does not do it: the
least share of a processor, and what the other has in the caches, still cost a start 100 ms on two processors. A program is
stopped (SIGSTOP) where the kernel holds no lock for it, and need not know of it. It ends with its parent, and is
killed, all the same.

Nobody starves. Of any stretch of time programs get a fifth at least, however many containers come and go.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.kernel.children import Child

__all__ = ["Background", "background"]

STRETCH = 0.4
"""Seconds that programs stand still without a break, at most."""
BREAK = 0.1
"""Seconds of the break; and a while without containers makes up for a standstill of as many times its length as
`STRETCH` is longer than this."""


class Background:
    """`run` has to run, or nothing is ever stopped. Not to be shared by threads."""

    def __init__(self, stretch: float = STRETCH, rest: float = BREAK) -> None:
        self._stretch = stretch
        self._rest = rest
        self._programs: set[Child] = set()
        self._ahead = 0
        """Pieces of work that go first and are under way."""
        self._serving = False
        self._still = False
        self._resting = False
        self._left = stretch
        self._since = 0.0
        self._changed = trio.Event()

    @contextmanager
    def program(self, child: Child) -> Iterator[None]:
        """It gives way, for as long as this lasts."""
        self._programs.add(child)
        if self._still:
            child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._programs.discard(child)
            if self._still:
                child.send_signal(signal.SIGCONT)

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """What is done in here goes first. It may wait for a program: that goes on after a while, in any case."""
        self._ahead += 1
        if self._serving and not (self._still or self._resting):
            self._stop()
        try:
            yield
        finally:
            self._ahead -= 1
            if self._still and not self._ahead:
                self._go_on()

    async def run(self) -> None:
        """See to it that nothing stands still for too long; for ever."""
        self._serving = True
        # By this loop's clock: another one's may have been ahead of it.
        self._left, self._since = self._stretch, trio.current_time()
        try:
            while True:
                await self._until(still=True)
                with trio.move_on_after(self._left):
                    await self._until(still=False)
                    continue
                self._go_on()
                self._resting = True
                await trio.sleep(self._rest)
                self._resting = False
                self._left = self._stretch
                self._since = trio.current_time()
                if self._ahead:
                    self._stop()
        finally:
            self._serving = self._resting = False
            if self._still:
                self._go_on()

    async def _until(self, *, still: bool) -> None:
        while self._still is not still:
            await self._changed.wait()

    def _stop(self) -> None:
        now = trio.current_time()
        earned = (now - self._since) * self._stretch / self._rest
        self._left = min(self._stretch, self._left + earned)
        self._turn(now, signal.SIGSTOP)

    def _go_on(self) -> None:
        now = trio.current_time()
        self._left = max(0.0, self._left - (now - self._since))
        self._turn(now, signal.SIGCONT)

    def _turn(self, now: float, number: signal.Signals) -> None:
        self._since = now
        self._still = number is signal.SIGSTOP
        self._changed.set()
        self._changed = trio.Event()
        for child in self._programs:
            child.send_signal(number)


background = Background()
"""Of this process."""
