"""Clients that go away at the wrong moment, and what they must not leave in the engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api.container import AttachRequest, RunRequest
from pyman.api.spec import ContainerSpec, LogConfig
from pyman.errors import CommandNotFound, PymanError, RuntimeFailed
from supervisor.rpc.container import ContainerHandlers
from supervisor.runtime.engine import Engine
from supervisor.runtime.launch import Launch, StartAttached
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.body import Body
from supervisor.runtime.life.preparing import Preparing
from supervisor.runtime.life.stopping import Stopping
from tests.runtime.faults import call, sockets

if TYPE_CHECKING:
    from supervisor.conmon.spawn import Passed
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


class Instant:
    """Has the shape of a worker whose answer comes in the very step in which the client leaves."""

    def __init__(self, entry: Entry, leave: trio.CancelScope) -> None:
        self._entry = entry
        self._leave = leave

    async def ask(self, request: rq.Start) -> rq.Started:
        started: rq.Started = await self._entry.worker.ask(request)
        self._leave.cancel()
        return started


async def test_a_client_that_leaves_in_the_step_of_the_answer_leaves_no_connection(house: House) -> None:
    async with house.open() as engine:
        entry = await house.create("sleep", "1000")
        before = sockets()
        start = StartAttached(entry, rq.Start(attach=True))
        with trio.CancelScope() as leave:
            start._entry = type(entry)(entry.container, Instant(entry, leave))  # type: ignore[arg-type]
            answer = engine.background(start.run)
            with start.abandoned_if_cancelled():
                await answer.get()
        await trio.testing.wait_all_tasks_blocked()
        assert len(entry.container.attachments) == 0
        assert sockets() == before


async def test_a_bug_in_the_making_of_a_container_is_an_answer_and_no_silence(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "create", broken)
    async with house.open() as engine:
        with trio.fail_after(20), pytest.raises(ZeroDivisionError):
            await ContainerHandlers(engine).run(RunRequest(spec=ContainerSpec()), call())


async def test_attaching_from_a_terminal_to_what_has_none_is_no_failure(house: House) -> None:
    async with house.open() as engine:
        await house.run("sleep", "1000", name="web")
        before = sockets()
        async with trio.open_nursery() as client:
            request = AttachRequest("web", rows=24, columns=80)
            asked = call()
            client.start_soon(ContainerHandlers(engine).attach, request, asked)
            await trio.testing.wait_all_tasks_blocked(0.05)
            asked.gone = True
            client.cancel_scope.cancel()
        assert sockets() == before


async def test_why_a_start_failed_is_told_also_where_the_removal_fails_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RuntimeFailed("cannot remove: no")

    async with house.open() as engine:
        spec = ContainerSpec(rootfs=str(house.rootfs), rootfs_overlay=True, command=["/no"], remove=True)
        with monkeypatch.context() as patch:
            patch.setattr(Stopping, "remove_now", refuse)
            with pytest.raises(CommandNotFound):
                await ContainerHandlers(engine).run(RunRequest(spec=spec), call())


async def test_descriptors_that_are_passed_through_stay_open_until_the_start_is_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Preparing.prepare
    prepares, ends = trio.Event(), trio.Event()
    seen: list[bool] = []

    async def slowly(preparing: Preparing) -> None:
        prepares.set()
        with trio.CancelScope(shield=True):
            await ends.wait()
        await prepare(preparing)

    def look(_: Body, passed: Passed | None = None) -> Any:
        stdio, preserved = passed or ((), ())
        given = [*(stdio or ()), *(descriptor for _, descriptor in preserved)]
        seen.extend(os.path.exists(f"/proc/self/fd/{descriptor}") for descriptor in given)
        raise RuntimeFailed("cannot go on: seen enough")

    monkeypatch.setattr(Preparing, "prepare", slowly)
    monkeypatch.setattr(Body, "monitor_request", look)
    streams = [os.open("/dev/null", os.O_RDWR) for _ in range(5)]
    async with house.open() as engine:
        spec = ContainerSpec(
            rootfs=str(house.rootfs),
            rootfs_overlay=True,
            command=["true"],
            preserve_fd=[3, 9],
            log_configuration=LogConfig(driver="passthrough"),
        )
        launch = Launch(engine, RunRequest(spec=spec), None, streams)  # type: ignore[arg-type]

        async def run() -> None:
            with pytest.raises(PymanError):
                await launch.run()

        async with trio.open_nursery() as ending:
            ending.start_soon(run)
            await prepares.wait()
            ending.cancel_scope.cancel()
            ends.set()
    assert seen == [True] * 5
    assert streams == []
