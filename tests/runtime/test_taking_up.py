"""What fails in the middle is taken up again, as a next supervisor would take it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.runtime.faults import FullDisk

if TYPE_CHECKING:
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


async def test_an_end_that_cannot_be_recorded_is_recorded_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.run("sh", "-c", "exit 7")
        FullDisk(monkeypatch, lambda status: status == "died")
        with trio.fail_after(10):
            assert await entry.container.wait(frozenset({"exited"})) == 7
        assert (await house.statuses(entry)).count("died") == 1
