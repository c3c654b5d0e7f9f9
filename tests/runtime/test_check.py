"""`system check` on an engine that works meanwhile: it takes nothing new for something left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.names import State
from supervisor.kernel import process
from supervisor.runtime.life import requests as rq
from supervisor.runtime.recovery import leftovers
from supervisor.runtime.recovery.check import check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, work: Callable[[], Awaitable[Any]]
) -> None:
    """Do something in the loop while the check's thread looks around, every time."""
    look = getattr(module, name)

    def first(*arguments: Any) -> Any:
        trio.from_thread.run(work)
        return look(*arguments)

    monkeypatch.setattr(module, name, first)


async def test_a_container_that_starts_during_a_repair_keeps_its_monitor_and_files(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open() as engine:
        started: list[Any] = []

        async def start() -> None:
            started.append(await house.run("sleep", "1000"))

        (house.path / "tmp/containers" / ("0" * 64)).mkdir()
        meanwhile(monkeypatch, leftovers, "monitors", start)
        reply = await check(engine, repair=True)
        entry = started[0]
        assert [problem.repaired for problem in reply.problems] == [True]
        observed = entry.container.observed
        assert observed.state is State.RUNNING
        assert process.ref_of(observed.monitor.pid) == observed.monitor
        await entry.worker.ask(rq.Stop(timeout=0))
        assert "monitor-lost" not in await house.statuses(entry)


async def test_a_container_that_restarts_during_a_repair_keeps_its_monitor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000")
        (house.path / "tmp/containers" / ("0" * 64)).mkdir()

        async def restart() -> None:
            await entry.worker.ask(rq.Restart(timeout=0))

        meanwhile(monkeypatch, leftovers, "monitors", restart)
        await check(engine, repair=True)
        await entry.worker.ask(rq.Stop(timeout=0))
        assert "monitor-lost" not in await house.statuses(entry)


async def test_what_belongs_to_nobody_is_named_and_removed_on_request(house: House) -> None:
    async with house.open() as engine:
        stray = house.path / "root/pyman/containers" / ("0" * 64)
        stray.mkdir()
        told = await check(engine, repair=False)
        assert [(problem.subject, problem.repaired) for problem in told.problems] == [(str(stray), False)]
        told = await check(engine, repair=True)
        assert [(problem.subject, problem.repaired) for problem in told.problems] == [(str(stray), True)]
        assert (await check(engine, repair=False)).problems == []
