"""Exec sessions whose container, client, disk or supervisor goes away: nothing is lost, doubled or left."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.errors import InternalError, PymanError, StorageFailed
from supervisor.conmon import execs as monitors
from supervisor.rpc.container import ContainerHandlers
from supervisor.runtime.life import execs
from supervisor.runtime.life import requests as rq
from supervisor.runtime.recovery.leftovers import monitors as monitors_of
from tests.runtime.faults import FullDisk, call, sockets, wish

if TYPE_CHECKING:
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


async def test_a_client_that_goes_while_its_session_begins_leaves_no_descriptor(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        before = sockets()
        for number in range(3):
            async with trio.open_nursery() as client:
                asked = call()
                client.start_soon(ContainerHandlers(engine).exec, wish("sleep", "1001"), asked)
                while len(entry.container.execs) == number:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                asked.gone = True
                client.cancel_scope.cancel()
        await house.event(entry, "exec", number=3)
        await trio.testing.wait_all_tasks_blocked()
        assert len(entry.container.execs) == 3
        assert len(entry.container.attachments) == 0
        assert sockets() == before


async def test_what_a_session_printed_can_be_read_after_its_end(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        session = await engine.begin_exec(entry.container, wish("echo", "hello"), None)
        assert await session.ended.get() == 0
        descriptor = session.take_attachment()
        assert descriptor is not None
        assert os.read(descriptor, 100) == b"\2hello\n"
        os.close(descriptor)


async def test_sessions_of_a_container_that_is_removed_are_told_and_leave_no_record(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        asked = wish("sleep", "1001", detach=True)
        sessions = [await engine.begin_exec(entry.container, asked, None) for _ in range(10)]
        for session in sessions:
            await session.started.get()
        await entry.worker.ask(rq.Remove(force=True, timeout=0))
        statuses = await house.statuses(entry)
        assert statuses.count("exec") == statuses.count("exec_died") == 10
        assert statuses.count("remove") == 1
        assert not [r for r in engine.services.database.load().records if r.kind == "exec"]


async def test_a_client_that_does_not_read_holds_up_neither_its_session_nor_the_container(
    house: House,
) -> None:
    """conmon waits for it, and the kernel lets no container end before conmon has waited for the command."""
    async with house.open() as engine:
        entry = await house.run("sh", "-c", "exec sleep 1000", name="web")
        session = await engine.begin_exec(entry.container, wish("cat", "/dev/zero"), None)
        await session.started.get()
        unread = session.take_attachment()
        assert unread is not None
        with socket.socket(fileno=unread), trio.fail_after(15):
            await entry.worker.ask(rq.Stop(timeout=0))
            assert await session.ended.get() == 137
        assert "wedged" not in await house.statuses(entry)


async def test_a_session_whose_monitor_is_stopped_does_not_outlive_its_container(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        session = await engine.begin_exec(entry.container, wish("sleep", "1001", detach=True), None)
        await session.started.get()
        monitor = session.session.observed.monitor
        assert monitor is not None
        os.kill(monitor.pid, signal.SIGSTOP)
        with trio.fail_after(20):
            await entry.worker.ask(rq.Remove(force=True, timeout=0))
        statuses = await house.statuses(entry)
        assert "exec_died" in statuses
        assert "remove" in statuses


async def test_what_cannot_be_removed_after_a_session_costs_nobody_the_engine(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise StorageFailed("cannot remove: the directory is not empty")

    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        with monkeypatch.context() as patch:
            patch.setattr(monitors, "remove_exec", refuse)
            session = await engine.begin_exec(entry.container, wish("true", detach=True), None)
            assert await session.ended.get() == 0
            await trio.testing.wait_all_tasks_blocked(0.05)
        session = await engine.begin_exec(entry.container, wish("true", detach=True), None)
        assert await session.ended.get() == 0


async def test_a_bug_in_a_session_is_told_its_client_and_costs_nobody_the_engine(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*_: object) -> None:
        raise ZeroDivisionError

    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        with monkeypatch.context() as patch:
            patch.setattr(monitors, "read_exit", mistake)
            session = await engine.begin_exec(entry.container, wish("true", detach=True), None)
            with pytest.raises(InternalError):
                await session.ended.get()
        session = await engine.begin_exec(entry.container, wish("true", detach=True), None)
        assert await session.ended.get() == 0


async def test_a_session_that_comes_after_the_end_makes_nothing(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000", name="web")
        session, spec = await execs.begin(engine.services, entry.container, wish("true", detach=True), None)
        await entry.worker.ask(rq.Stop(timeout=0))
        await session.run(spec)
        with pytest.raises(PymanError):
            await session.started.get()
        assert not (house.path / "tmp/containers" / entry.container.id).exists()
        assert "exec" not in await house.statuses(entry)


async def test_an_end_that_cannot_be_recorded_is_told_by_the_next_supervisor(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open(leave=True) as engine:
        entry = await house.run("sleep", "1000", name="web")
        with monkeypatch.context() as patch:
            FullDisk(patch, lambda status: status == "exec_died")
            session = await engine.begin_exec(entry.container, wish("sh", "-c", "exit 5", detach=True), None)
            assert await session.ended.get() == 5
    async with house.open() as engine:
        died = await house.event(entry, "exec_died")
        assert died.attributes["containerExitCode"] == "5"
        assert (await house.statuses(entry)).count("exec_died") == 1


@pytest.mark.parametrize("attached", [False, True])
async def test_a_session_that_had_not_begun_is_cleared_away_by_the_next_supervisor(
    house: House, monkeypatch: pytest.MonkeyPatch, attached: bool
) -> None:
    class Killed(BaseException):
        """As if the daemon had been killed before the monitor was let go."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    async with house.open(leave=True) as engine:
        entry = await house.run("sleep", "1000", name="web")
        with monkeypatch.context() as patch:
            patch.setattr(monitors, "attach_exec" if attached else "release", kill)
            session, spec = await execs.begin(
                engine.services, entry.container, wish("touch", "/begun", detach=not attached), None
            )
            with pytest.raises(Killed):
                await session.run(spec)
    async with house.open() as engine:
        again = engine.view().find("web")
        with trio.fail_after(20):
            await again.container.execs_over()
        statuses = await house.statuses(again)
        assert not {"exec", "exec_died"} & set(statuses)
        assert [found.exec_id for found in monitors_of(engine.layout)] == [""]
        root = house.path / "tmp/containers" / entry.container.id / "rootfs"
        assert not (root / "begun").exists()
