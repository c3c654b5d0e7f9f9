"""A program that is begun before there is a loop is waited for by it, or ended: never left, never waited for twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DeadlineExceeded, InternalError
from supervisor.kernel import children
from supervisor.kernel.begun import begin
from tests.support import processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.conftest import Orphans


def test_the_loop_is_told_what_a_program_said_and_how_it_ended() -> None:
    program = begin(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # before there is a loop
    told: list[children.Completed] = []

    async def main() -> None:
        told.append(await children.collect(program, deadline=10))

    trio.run(main)
    assert told == [children.Completed(3, b"out\n", b"err\n")]


async def test_the_orphan_reaper_leaves_one_alone_that_is_waited_for(orphans: Orphans) -> None:
    program = begin(["/bin/sh", "-c", "sleep 0.1; exit 4"])
    assert (await children.collect(program, deadline=10)).returncode == 4
    assert not orphans.collected


async def test_it_is_waited_for_once() -> None:
    program = begin(["/bin/true"])
    await children.collect(program, deadline=10)
    with pytest.raises(InternalError, match="cannot wait twice for '/bin/true'"):
        await children.collect(program, deadline=10)
    program.abandon()


async def test_one_that_does_not_end_is_ended() -> None:
    program = begin(["/bin/sleep", "60"])
    with pytest.raises(DeadlineExceeded):
        await children.collect(program, deadline=0.05)
    assert not processes.wait_gone([program.pid], 20)


async def test_what_cannot_be_executed_says_so_when_it_is_waited_for(tmp_path: Path) -> None:
    program = begin([str(tmp_path / "absent")])
    program.abandon()
    with pytest.raises(FileNotFoundError):
        await children.collect(program, deadline=10)


def test_one_that_nobody_waits_for_is_gone_once_it_is_abandoned() -> None:
    program = begin(["/bin/sleep", "60"])
    program.abandon()
    assert not os.path.exists(f"/proc/{program.pid}")
    program.abandon()


async def test_one_that_the_orphan_reaper_has_found_can_still_be_abandoned(orphans: Orphans) -> None:
    program = begin(["/bin/true"])
    await orphans.wait_for(1)
    program.abandon()
    assert orphans.collected == {program.pid: 0}
