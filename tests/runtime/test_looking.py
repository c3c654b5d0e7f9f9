"""A root filesystem that does not answer costs its own container alone."""

from __future__ import annotations

import threading

import pytest
import trio

from pyman.errors import DeadlineExceeded
from supervisor.runtime.rootfs import looking
from supervisor.runtime.rootfs.looking import look_into


@pytest.fixture
def answer() -> threading.Event:
    return threading.Event()


async def test_what_is_found_or_fails_comes_back() -> None:
    assert await look_into("/a", lambda: 5, 1) == 5
    with pytest.raises(ZeroDivisionError):
        await look_into("/a", lambda: 1 // 0, 1)


async def test_a_root_filesystem_that_does_not_answer_holds_a_few_threads_and_nobody_else(
    answer: threading.Event,
) -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        answer.wait()

    for _ in range(looking.AT_ONCE + 2):
        with pytest.raises(DeadlineExceeded, match=r"'/gone': no answer within 0.05 s"):
            await look_into("/gone", look, 0.05)
    with trio.fail_after(20):
        while looks < looking.AT_ONCE:  # noqa: ASYNC110 - a thread may come late
            await trio.sleep(0.01)
    assert looks == looking.AT_ONCE
    assert await look_into("/here", lambda: 5, 20) == 5
    answer.set()
    assert await look_into("/gone", lambda: 6, 20) == 6


async def test_what_else_does_not_answer_is_named(answer: threading.Event) -> None:
    with pytest.raises(DeadlineExceeded, match="cannot look into what is to be mounted, '/slow': no answer"):
        await look_into("/slow", answer.wait, 0.05, "what is to be mounted,")
    answer.set()


async def test_whoever_leaves_leaves_the_others_room(answer: threading.Event) -> None:
    with trio.move_on_after(0.05):
        await look_into("/slow", answer.wait, 60)
    assert await look_into("/slow", lambda: 6, 20) == 6
    answer.set()
