"""Lock files that others take, too: waited for, but not for ever, and by one of the engine at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DeadlineExceeded, StorageFailed
from supervisor.kernel.locks import OfdLock
from supervisor.runtime.locking import Locks, held

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.fixture
def locks() -> Iterator[Locks]:
    limiter = trio.CapacityLimiter(1)
    yield Locks(limiter, "the things")
    assert limiter.borrowed_tokens == 0


async def test_all_files_are_held_inside_and_none_outside(files: list[str], locks: Locks) -> None:
    async with locks.held(files, 5):
        for path in files:
            with OfdLock(path) as other:
                assert not other.try_acquire()
    for path in files:
        with OfdLock(path) as other:
            assert other.try_acquire()


async def test_many_have_their_turns_with_a_single_thread_for_all_files(
    files: list[str], locks: Locks
) -> None:
    done: list[int] = []

    async def use(number: int) -> None:
        async with locks.held(files, 5):
            done.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(use, number)
    assert sorted(done) == list(range(50))


async def test_a_turn_that_does_not_come_is_given_up(files: list[str], locks: Locks) -> None:
    """All who wait do so for their deadline, and not each for those of all before it."""
    late: list[str] = []

    async def use() -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            async with locks.held(files, 0.2):
                pass
        late.append(caught.value.message)

    async with locks.held(files, 20):
        with trio.fail_after(20):  # half of what they would wait one after the other
            async with trio.open_nursery() as nursery:
                for _ in range(200):
                    nursery.start_soon(use)
    assert set(late) == {"cannot use the things: others have used them for 0.2 s"}
    async with locks.held(files, 5):
        pass


async def test_what_goes_wrong_inside_is_not_the_locks_fault(files: list[str], locks: Locks) -> None:
    problem = FileNotFoundError(2, "No such file or directory", "/x")
    with pytest.raises(FileNotFoundError) as caught:
        async with locks.held(files, 5):
            raise problem
    assert caught.value is problem


async def test_a_file_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to("elsewhere")
    with pytest.raises(StorageFailed, match=f"cannot lock '{path}'"):
        async with held(str(path), trio.CapacityLimiter(1), 5, what="the things"):
            pass
