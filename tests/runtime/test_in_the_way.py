"""Containers in the way of a removal by force."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from pyman.errors import PymanError, WrongState
from supervisor.runtime.in_the_way import remove_all

if TYPE_CHECKING:
    from trio.testing import MockClock


class User(NamedTuple):
    id: str


class Users:
    """Each takes ten seconds to stop; `needed`: by whom, first."""

    def __init__(self, *ids: str, **needed: str) -> None:
        self.there = list(ids)
        self.needed = needed

    def now(self) -> list[User]:
        return [User(id) for id in self.there]

    async def remove(self, id: str) -> None:
        if self.needed.get(id) in self.there:
            raise WrongState(f"cannot remove '{id}'", subject=id)
        await trio.sleep(10)
        self.there.remove(id)


async def test_they_are_stopped_side_by_side(autojump_clock: MockClock) -> None:
    users, begun = Users("a", "b", "c"), autojump_clock.current_time()
    await remove_all(users.now, users.remove)
    assert users.there == []
    assert autojump_clock.current_time() - begun == 10


async def test_one_that_others_of_them_need_goes_after_these(autojump_clock: MockClock) -> None:
    del autojump_clock
    users = Users("a", "b", "c", a="b", b="c")
    await remove_all(users.now, users.remove)
    assert users.there == []


async def test_one_that_cannot_be_removed_is_told_and_the_others_are_gone(autojump_clock: MockClock) -> None:
    del autojump_clock
    users = Users("a", "b", "other", a="other")

    def ours() -> list[User]:
        return [user for user in users.now() if user.id != "other"]

    with pytest.raises(PymanError, match="cannot remove 'a'"):
        await remove_all(ours, users.remove)
    assert users.there == ["a", "other"]


async def test_who_comes_meanwhile_stays(autojump_clock: MockClock) -> None:
    del autojump_clock
    users = Users("a")

    async def remove(id: str) -> None:
        users.there.append("late")
        await users.remove(id)

    await remove_all(users.now, remove)
    assert users.there == ["late"]
