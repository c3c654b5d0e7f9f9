"""What readers of a transfer's board are told."""

# ruff: noqa: ARG001 - the clock is a fixture that is only asked for

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from pyman.api.image import Progress
from supervisor.images.transfer.progress import Board

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


def at(count: int, digest: str = "sha256:a") -> Progress:
    return Progress(digest, "downloading", count, 1000)


async def everything(board: Board, told: list[Progress | str], pace: float = 0) -> None:
    async with aclosing(board.read()) as items:
        async for item in items:
            told.append(item)
            if pace:
                await trio.sleep(pace)


async def test_a_late_reader_sees_the_lines_and_the_present_state_first() -> None:
    board, told = Board(), list[Progress | str]()
    board.say("Trying")
    board.note(at(1))
    board.note(at(2))
    board.close()
    await everything(board, told)
    assert told == ["Trying", at(2)]


async def test_lines_and_blobs_are_told_in_their_order() -> None:
    board, told = Board(), list[Progress | str]()
    board.say("Trying")
    board.note(at(1, "sha256:b"))
    board.note(at(1))
    board.say("Writing")
    board.note(at(2, "sha256:b"))
    board.close()
    await everything(board, told)
    assert told == ["Trying", at(1), "Writing", at(2, "sha256:b")]


async def test_a_slow_reader_gets_the_latest_state_and_no_backlog(autojump_clock: MockClock) -> None:
    board, told = Board(), list[Progress | str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(everything, board, told, 5.0)
        for count in range(1000):
            board.note(at(count))
            await trio.sleep(0.01)
        board.close()
    assert told[-1] == at(999)
    assert len(told) <= 4


async def test_a_blob_is_told_at_most_ten_times_a_second(autojump_clock: MockClock) -> None:
    board, told = Board(), list[Progress | str]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(everything, board, told)
        for count in range(1000):
            board.note(at(count))
            await trio.sleep(0.001)
        board.close()
    assert 8 <= len(told) <= 13
    assert told[-1] == at(999)


async def test_many_readers_all_get_every_line_and_the_last_state(autojump_clock: MockClock) -> None:
    board = Board()
    readers: list[list[Progress | str]] = [[] for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for number, told in enumerate(readers):
            nursery.start_soon(everything, board, told, 0.01 * number)
        for count in range(50):
            board.note(at(count))
            board.note(at(count, "sha256:b"))
            board.say(f"line {count}")
            await trio.sleep(0.03)
        board.close()
    for told in readers:
        assert [item for item in told if isinstance(item, str)] == [f"line {n}" for n in range(50)]
        last = {item.digest: item for item in told if isinstance(item, Progress)}
        assert last == {"sha256:a": at(49), "sha256:b": at(49, "sha256:b")}


async def test_a_reader_that_leaves_does_not_disturb_the_others(autojump_clock: MockClock) -> None:
    board, told = Board(), list[Progress | str]()
    leave: list[Callable[[], None]] = []

    async def leaving() -> None:
        with trio.CancelScope() as scope:
            leave.append(scope.cancel)
            await everything(board, [])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaving)
        nursery.start_soon(everything, board, told)
        await trio.sleep(1)
        leave[0]()
        board.note(at(7))
        await trio.sleep(1)
        board.close()
    assert told == [at(7)]
