"""What a container took while it lived is given back: memory, descriptors, tasks."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.api.spec import LogConfig
from supervisor.conmon import spawn
from supervisor.kernel import children
from supervisor.runtime.container import Container, ExecSession
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.worker import Worker
from tests.runtime.faults import wish

if TYPE_CHECKING:
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


def alive(*kinds: type) -> int:
    gc.collect()
    return sum(isinstance(thing, kinds) for thing in gc.get_objects())


async def test_a_container_that_was_leaves_nothing_in_the_engine(house: House) -> None:
    async with house.open() as engine:

        async def live() -> None:
            rotated = LogConfig(driver="k8s-file", size=8192)
            entry = await house.run("sleep", "1000", log_configuration=rotated)
            session = await engine.begin_exec(entry.container, wish("true", detach=True), None)
            assert await session.ended.get() == 0
            await entry.worker.ask(rq.Pause())
            await entry.worker.ask(rq.Remove(force=True, timeout=0))

        await live()
        await trio.testing.wait_all_tasks_blocked(0.05)
        tasks, descriptors = trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await live()
        # What goes in threads goes when these come to it.
        with trio.move_on_after(20):
            while (  # noqa: ASYNC110
                trio.lowlevel.current_statistics().tasks_living > tasks
                or len(os.listdir("/proc/self/fd")) > descriptors
                or engine.services.logs._watches  # until the kernel has told that they are over
            ):
                await trio.sleep(0.05)
        assert alive(Container, Worker, ExecSession) <= 3
        assert trio.lowlevel.current_statistics().tasks_living <= tasks
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert not spawn._kept
        assert not children._registered
        assert not engine.services.logs._logs
        assert not engine.services.logs._watches
        assert len(engine.registry) == 0
        assert not engine.locks.used
