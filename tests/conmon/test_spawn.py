"""A monitor is started in steps that any supervisor can take up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervisor.conmon.spawn import read_sync, release
from supervisor.kernel.process import ref_of
from tests.conmon.monitors import PATIENCE

if TYPE_CHECKING:
    from tests.conmon.monitors import Bench


async def test_a_container_lives_from_spawn_to_exit_code(bench: Bench) -> None:
    container = bench.container("sh", "-c", "echo to out; echo to err >&2; exit 7")
    pid = await container.create()
    assert ref_of(pid) is not None
    await container.start()
    end = await container.wait()
    assert end.code == 7
    assert not end.oom
    assert sorted(container.lines()) == ["to err", "to out"]


async def test_the_monitor_waits_for_its_start_byte(bench: Bench) -> None:
    container = bench.container("true")
    monitor = await container.spawn()
    assert ref_of(monitor.pid) == monitor
    assert (container.bundle / "conmon.pid").read_text() == str(monitor.pid)
    with trio.move_on_after(0.2) as scope:
        await read_sync(container.request, PATIENCE, monitor)
    assert scope.cancelled_caught
    assert release(container.request)
    assert await read_sync(container.request, PATIENCE, monitor) > 0
