"""Processes started through the client: their streams and their end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio
import pytest

import pyman
from pyman.errors import CommandNotFound, EngineUnavailable, NotSupported
from tests.sdk.backends import on_both
from tests.sdk.fake import ID

if TYPE_CHECKING:
    from tests.sdk.fake import FakeEngine


@on_both
async def test_a_run_gives_its_output_and_its_exit_code(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        async with await engine.containers.run(name="web", command=["both"]) as session:
            assert (session.id, session.name, session.warnings) == (ID, "web", ["beware"])
            assert [packet async for packet in session] == [
                ("stdout", b"to stdout"),
                ("stderr", b"to stderr"),
            ]
            assert await session.wait() == 3
            assert await session.wait() == 3
            assert session.exit_code == 3
        output = await (await engine.containers.run(command=["both"])).collect()
        assert (output.stdout, output.stderr, output.exit_code) == (b"to stdout", b"to stderr", 3)


@on_both
async def test_standard_input_reaches_the_process_up_to_its_end(fake: FakeEngine) -> None:
    data = os.urandom(300_000)
    async with pyman.connect(fake.path) as engine, anyio.create_task_group() as tasks:
        session = await engine.containers.run(command=["cat"], stdin=True)
        assert fake.requests[-1].spec.stdin
        assert fake.requests[-1].attach_stdin

        async def feed() -> None:
            await session.send(data)
            await session.send_eof()

        tasks.start_soon(feed)
        output = await session.collect()
    assert output.stdout == data


@on_both
async def test_waiting_throws_output_away_that_nobody_reads(fake: FakeEngine) -> None:
    """Otherwise a process that writes much would never end."""
    async with pyman.connect(fake.path) as engine:
        session = await engine.containers.run(command=["fill", "2000"])
        assert await session.wait() == 3


@on_both
async def test_waiting_leaves_the_output_to_a_reader(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine, anyio.create_task_group() as tasks:
        session = await engine.containers.run(command=["cat"], stdin=True)
        seen: list[bytes] = []

        async def read() -> None:
            async for _, data in session:
                seen.append(data)

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(session.wait)
        await anyio.wait_all_tasks_blocked()
        await session.send(b"for the reader")
        await session.send_eof()
    assert seen == [b"for the reader"]
    assert session.exit_code == 3


@on_both
async def test_without_streams_there_is_only_an_end(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        session = await engine.containers.run(command=["exit", "5"], attach=False)
        assert [packet async for packet in session] == []
        with pytest.raises(NotSupported):
            await session.send(b"x")
        assert await session.wait() == 5


@on_both
async def test_descriptors_can_become_the_containers_own_streams(fake: FakeEngine) -> None:
    reading, writing = os.pipe()
    async with pyman.connect(fake.path) as engine:
        session = await engine.containers.run(
            command=["exit", "0"], attach=False, stdio=(writing, writing, writing)
        )
        assert await session.wait() == 0
    os.close(writing)
    assert os.read(reading, 100) == b"given" * 3
    os.close(reading)


@on_both
async def test_descriptors_are_passed_on_by_their_numbers(fake: FakeEngine) -> None:
    reading, writing = os.pipe()
    async with pyman.connect(fake.path) as engine:
        session = await engine.containers.run(
            command=["exit", "0"], attach=False, preserve={3: writing, 9: writing}
        )
        assert await session.wait() == 0
    os.close(writing)
    assert os.read(reading, 100) == b"given" * 2
    os.close(reading)


@on_both
async def test_what_keeps_it_from_starting_is_raised(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        with pytest.raises(CommandNotFound):
            await engine.containers.run(command=["nowhere"])


@on_both
async def test_leaving_the_block_early_gives_up_the_streams(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        async with await engine.containers.run(command=["sleep"]) as session:
            assert session.id == ID
        assert not engine._pool._all
        async with await engine.containers.run(command=["sleep"]) as session:
            with anyio.move_on_after(0.02) as scope:
                await session.wait()
            assert scope.cancelled_caught


@on_both
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_end_is_learnt_from_the_next_supervisor(fake: FakeEngine, how: str) -> None:
    async with pyman.connect(fake.path) as engine, anyio.create_task_group() as tasks:
        session = await engine.containers.run(command=["sleep"])
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await session.wait())

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(getattr(fake, how))
        fake.emit(status="died", attributes={"containerExitCode": "9"}, time=time.time_ns())
        await anyio.to_thread.run_sync(fake.start)
    assert codes == [9]


@on_both
async def test_closing_the_client_ends_the_wait(fake: FakeEngine) -> None:
    engine = pyman.connect(fake.path)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(EngineUnavailable, match="the client was closed"):
                await session.wait()
            await session.aclose()

        async with engine:
            session = await engine.containers.run(command=["sleep"])
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()


@on_both
async def test_the_end_of_a_detached_process_is_an_event(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        session = await engine.containers.run(command=["exit", "0"], detach=True)
        executed = await engine.containers.exec("web", ["true"], detach=True)
        assert executed.exec_id == "e1"
        now = time.time_ns()
        for exec_id, code in (("e0", "1"), ("e1", "2")):
            attributes = {"execID": exec_id, "containerExitCode": code}
            fake.emit(status="exec_died", attributes=attributes, time=now)
        fake.emit(status="died", attributes={"containerExitCode": "4"}, time=now)
        assert await session.wait() == 4
        assert await executed.wait() == 2


@on_both
async def test_attach_and_exec_have_the_same_streams(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        async with await engine.containers.attach("web") as attached:
            assert (await attached.collect()).stdout == b"attached\n"
        async with await engine.containers.exec("web", ["echo", "a", "b"], env={"X": "y"}) as run:
            assert run.exec_id == "e1"
            await run.resize(24, 80)
            output = await run.collect()
        assert (output.stdout, output.exit_code) == (b"a b\n", 3)
        assert (fake.resized[-1].exec_id, fake.resized[-1].rows, fake.resized[-1].columns) == ("e1", 24, 80)
