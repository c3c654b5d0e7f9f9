"""What fails in the middle is taken up again, as a next supervisor would take it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.errors import DiskFull
from supervisor.state.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


class FullDisk:
    """Refuses commits whose events (or changes, by their text) fit, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: Callable[[str], bool], times: int = 1) -> None:
        self.left = times
        commit = Database.commit

        async def refuse(database: Database, changes: Any, events: Any = (), **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if self.left and any(fits(event.status) for event in events):
                self.left -= 1
                raise DiskFull("cannot write: the disk is full")
            return await commit(database, changes, events, **options)

        monkeypatch.setattr(Database, "commit", refuse)


async def test_an_end_that_cannot_be_recorded_is_recorded_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.run("sh", "-c", "exit 7")
        FullDisk(monkeypatch, lambda status: status == "died")
        with trio.fail_after(10):
            assert await entry.container.wait(frozenset({"exited"})) == 7
        assert (await house.statuses(entry)).count("died") == 1
