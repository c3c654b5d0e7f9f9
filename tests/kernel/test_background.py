"""What works in the background stands still while something goes first, and never for long."""

from __future__ import annotations

import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from supervisor.kernel import children
from supervisor.kernel.background import Background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from trio.testing import MockClock

    from supervisor.kernel.children import Child


def state(child: Child) -> str:
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def becomes(child: Child, *states: str) -> None:
    """Its signal has arrived."""
    for _ in range(2000):
        if state(child) in states:
            return
        time.sleep(0.005)  # noqa: ASYNC251 - the process is the kernel's, not the loop's
    raise AssertionError(f"it is {state(child)}, not one of {states}")


RUNS = ("R", "S", "D")


@asynccontextmanager
async def sleeping() -> AsyncIterator[Child]:
    child = await children.spawn(["sleep", "1000"])
    try:
        yield child
    finally:
        await child.kill()


@asynccontextmanager
async def kept(stretch: float = 1000.0, rest: float = 1.0) -> AsyncIterator[Background]:
    made = Background(stretch, rest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def test_a_program_stands_still_until_the_last_one_that_goes_first_has_ended() -> None:
    async with kept() as background, sleeping() as child:
        with background.program(child):
            with background.ahead():
                await becomes(child, "T")
                with background.ahead():
                    pass
                assert state(child) == "T"
            await becomes(child, *RUNS)


async def test_what_starts_meanwhile_stands_still_too() -> None:
    async with kept() as background, sleeping() as child:
        with background.ahead():
            assert state(child) in RUNS
            with background.program(child):
                await becomes(child, "T")
            await becomes(child, *RUNS)


async def test_nothing_is_stopped_where_nobody_keeps_the_time() -> None:
    background = Background()
    async with sleeping() as child:
        with background.program(child), background.ahead():
            await trio.sleep(0.05)
            assert state(child) in RUNS


async def test_whatever_happens_everything_goes_on_when_the_keeper_of_time_ends() -> None:
    async with sleeping() as child:
        async with kept() as background:
            with background.program(child), background.ahead():
                await becomes(child, "T")
        await becomes(child, *RUNS)


async def test_a_program_that_was_killed_while_it_stood_still_is_waited_for() -> None:
    async with kept() as background, sleeping() as child:
        with background.program(child), background.ahead():
            await becomes(child, "T")
            child.send_signal(signal.SIGKILL)
            with trio.fail_after(20):
                assert await child.wait() == -signal.SIGKILL


class Recorded:
    """In a child's place where the clock is made: when it was told to stand still, and for how long."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self.stops: list[tuple[float, float]] = []
        self._since = -1.0

    def send_signal(self, number: int) -> bool:
        now = self._clock.current_time()
        if number == signal.SIGSTOP:
            assert self._since < 0
            self._since = now
        elif self._since >= 0:
            self.stops.append((self._since, now))
            self._since = -1.0
        return True


def recorded(background: Background, clock: MockClock) -> tuple[Recorded, AbstractContextManager[None]]:
    made = Recorded(clock)
    return made, background.program(cast("Child", made))


async def test_nobody_stands_still_for_longer_than_a_stretch_and_then_gets_a_break(
    autojump_clock: MockClock,
) -> None:
    async with kept(stretch=0.4, rest=0.1) as background:
        child, program = recorded(background, autojump_clock)
        began = trio.current_time()
        with program, background.ahead():
            await trio.sleep(1.2)
    assert [(round(start - began, 3), round(end - began, 3)) for start, end in child.stops] == [
        (0, 0.4),
        (0.5, 0.9),
        (1.0, 1.2),
    ]


async def test_what_comes_during_a_break_waits_for_its_end(autojump_clock: MockClock) -> None:
    async with kept(stretch=0.4, rest=0.1) as background:
        child, program = recorded(background, autojump_clock)
        with program:
            with background.ahead():
                await trio.sleep(0.45)
            began = trio.current_time()
            with background.ahead():
                await trio.sleep(0.2)
    start, end = child.stops[-1]
    assert (round(start - began, 3), round(end - began, 3)) == (0.05, 0.2)


@pytest.mark.parametrize("pause", [0.0, 0.0001, 0.001, 0.01])
async def test_however_many_go_first_one_after_the_other_a_fifth_is_left(
    autojump_clock: MockClock, pause: float
) -> None:
    async with kept(stretch=0.4, rest=0.1) as background:
        child, program = recorded(background, autojump_clock)
        began = trio.current_time()
        with program:
            while trio.current_time() < began + 10:
                with background.ahead():
                    await trio.sleep(0.09)
                await trio.sleep(pause)
        elapsed = trio.current_time() - began
    stood = sum(end - start for start, end in child.stops)
    assert stood <= 0.8 * elapsed + 0.4


async def test_containers_now_and_then_never_get_a_break_in_their_way(autojump_clock: MockClock) -> None:
    async with kept(stretch=0.4, rest=0.1) as background:
        child, program = recorded(background, autojump_clock)
        with program:
            for _ in range(50):
                with background.ahead():
                    await trio.sleep(0.09)
                await trio.sleep(0.03)
    assert len(child.stops) == 50
    assert all(round(end - start, 3) == 0.09 for start, end in child.stops)


def test_the_next_loop_goes_by_its_own_clock() -> None:
    background = Background()

    async def serve(now: float) -> None:
        clock.jump(now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background.run)
            await trio.testing.wait_all_tasks_blocked()
            with background.ahead():
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    for now in (1000.0, 0.0):
        clock = trio.testing.MockClock()
        trio.run(serve, now, clock=clock)
