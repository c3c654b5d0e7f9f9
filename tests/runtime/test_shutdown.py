"""The end of a supervisor that takes its containers along, and what the next one makes of them."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import EngineStopped
from pyman.names import STATES_WITH_PROCESS, State
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.body import Body

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.conmon.spawn import MonitorRequest
    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


def down(entry: Entry) -> bool:
    return entry.container.state not in STATES_WITH_PROCESS


async def test_what_is_just_being_restarted_is_not_left_running(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = trio.Event()
    renew = Body.renew

    async def tell(body: Body, request: MonitorRequest, forgotten: Callable[[], None]) -> ProcessRef | None:
        reached.set()
        return await renew(body, request, forgotten)

    monkeypatch.setattr(Body, "renew", tell)
    async with house.open(leave=True) as engine:
        entry = await house.run("sleep", "1000", restart_policy="always")
        init = entry.container.observed.init
        assert init is not None
        os.kill(init.pid, signal.SIGKILL)
        await reached.wait()
        await engine.shutdown("stop")
        assert down(entry)
        assert entry.container.observed.restart_at > 0
        with pytest.raises(EngineStopped):
            await entry.worker.ask(rq.Start())
    async with house.open() as engine:
        again = engine.view().find(entry.container.id)
        with trio.fail_after(20):
            await again.container.wait(frozenset({"running"}))


async def test_a_start_under_way_is_stopped_as_well(house: House) -> None:
    async with house.open(leave=True) as engine:
        entry = await house.create("sleep", "1000", stop_timeout=0)
        async with trio.open_nursery() as clients:
            clients.start_soon(entry.worker.ask, rq.Start())
            await trio.sleep(0.01)
            await engine.shutdown("stop")
            assert down(entry)
    async with house.open() as engine:
        assert engine.view().find(entry.container.id).container.state is State.EXITED


async def test_what_was_only_initialized_is_not_started_by_its_policy(house: House) -> None:
    async with house.open(leave=True) as engine:
        entry = await house.create("sleep", "1000", restart_policy="always")
        await entry.worker.ask(rq.Init())
        await engine.shutdown("stop")
        assert down(entry)
    async with house.open() as engine:
        again = engine.view().find(entry.container.id)
        await trio.sleep(0.1)
        assert down(again)
        assert "start" not in await house.statuses(entry)


async def test_a_container_that_is_down_was_not_stopped_by_a_user(house: House) -> None:
    async with house.open(leave=True) as engine:
        entry = await house.create("true", restart_policy="on-failure")
        await entry.worker.ask(rq.Start())
        await entry.container.wait(frozenset({"exited"}))
        before = entry.container.observed
        await engine.shutdown("stop")
        assert entry.container.observed == before
        assert "stop" not in await house.statuses(entry)


async def test_an_initialized_container_that_is_killed_is_not_started_by_its_policy(house: House) -> None:
    async with house.open():
        entry = await house.create("sleep", "1000", restart_policy="always")
        await entry.worker.ask(rq.Init())
        init = entry.container.observed.init
        assert init is not None
        os.kill(init.pid, signal.SIGKILL)
        await house.event(entry, "cleanup")
        assert down(entry)
        assert entry.container.observed.restart_reason == "its command was never started"
