"""A second command in a container: nothing it prints is lost, its code is told, nothing of it stays."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from pyman.errors import ConmonFailed
from supervisor.conmon import execs, spawn
from supervisor.conmon.spawn import RuntimeRefused
from supervisor.kernel.process import open_pidfd
from tests.conmon.monitors import PATIENCE, process_spec
from tests.conmon.test_attach import read_all
from tests.support import processes

if TYPE_CHECKING:
    import socket

    from supervisor.conmon.exit import Exit
    from supervisor.conmon.spawn import MonitorRequest
    from supervisor.kernel.process import ProcessRef
    from tests.conmon.monitors import Bench, Container

only_runc = pytest.mark.oci_runtime("runc")


def session(container: Container, *command: str, **options: Any) -> MonitorRequest:
    exec_id = secrets.token_hex(32)
    directory = container.bundle / "exec" / exec_id
    (directory / "persist").mkdir(parents=True)
    specification = process_spec(list(command), terminal=options.get("terminal", False))
    (directory / "process.json").write_text(json.dumps(specification))
    return msgspec.structs.replace(
        container.request,
        exec_id=exec_id,
        bundle=str(directory),
        pid_file=str(directory / "pidfile"),
        conmon_pid_file=str(directory / "conmon.pid"),
        persist_dir=str(directory / "persist"),
        process_spec=str(directory / "process.json"),
        log_driver="none",
        log_path="",
        **options,
    )


async def ended(request: MonitorRequest, monitor: ProcessRef) -> Exit | None:
    pidfd = open_pidfd(monitor)
    if pidfd is not None:
        with pidfd, trio.fail_after(PATIENCE):
            await pidfd.wait()
    return execs.read_exit(request)


async def attached(bench: Bench, request: MonitorRequest) -> tuple[ProcessRef, socket.socket]:
    execs.make_fifos(request.bundle)
    monitor = await spawn.spawn_monitor(bench.conmon, request)
    connection = await execs.attach_exec(request, PATIENCE, monitor)
    connection.settimeout(PATIENCE)
    execs.release(request)
    assert await execs.read_sync(request, PATIENCE) > 0
    return monitor, connection


async def detached(bench: Bench, request: MonitorRequest) -> ProcessRef:
    execs.make_fifos(request.bundle)
    monitor = await spawn.spawn_monitor(bench.conmon, request)
    assert execs.release(request)
    assert await execs.read_sync(request, PATIENCE) > 0
    return monitor


async def test_an_attached_session_shows_everything_and_tells_its_code(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "sh", "-c", "echo out; echo err >&2; exit 4", attach=True)
    monitor, connection = await attached(bench, request)
    with connection:
        assert await trio.to_thread.run_sync(read_all, connection) == {2: b"out\n", 3: b"err\n"}
    end = await ended(request, monitor)
    assert end is not None
    assert end.code == 4
    assert not os.listdir(bench.exits), "the container has not ended"
    assert not (container.persist / "exit").exists()


async def test_a_session_takes_input(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "cat", attach=True, stdin=True)
    monitor, connection = await attached(bench, request)
    with connection:
        connection.send(b"through the pipe")
        connection.shutdown(1)
        assert await trio.to_thread.run_sync(read_all, connection) == {2: b"through the pipe"}
    assert (await ended(request, monitor) or pytest.fail("no exit")).code == 0


async def test_a_session_can_have_a_terminal(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "sh", "-c", "tty; exit 3", attach=True, terminal=True)
    monitor, connection = await attached(bench, request)
    with connection:
        assert await trio.to_thread.run_sync(read_all, connection) == {2: b"/dev/pts/0\r\n"}
    assert (await ended(request, monitor) or pytest.fail("no exit")).code == 3


async def test_a_detached_session_runs_by_itself(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "sh", "-c", "exit 9")
    monitor = await detached(bench, request)
    assert (await ended(request, monitor) or pytest.fail("no exit")).code == 9


@pytest.mark.parametrize("attach", [True, False])
async def test_a_command_that_is_not_there_is_told(bench: Bench, *, attach: bool) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "/no/such/command", attach=attach)
    execs.make_fifos(request.bundle)
    monitor = await spawn.spawn_monitor(bench.conmon, request)
    if attach:
        (await execs.attach_exec(request, PATIENCE)).close()
    execs.release(request)
    with pytest.raises(RuntimeRefused) as info:
        await execs.read_sync(request, PATIENCE)
    assert "/no/such/command" in info.value.message
    assert await ended(request, monitor) is None


@only_runc
async def test_a_session_outlives_no_container(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "sleep", "60")
    monitor = await detached(bench, request)
    os.kill(container.pid, 9)
    assert (await ended(request, monitor) or pytest.fail("no exit")).code == 137
    assert (await container.wait()).code == 137


@only_runc
async def test_a_session_whose_monitor_is_killed_before_it_began_is_told(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    request = session(container, "true", attach=True)
    execs.make_fifos(request.bundle)
    monitor = await spawn.spawn_monitor(bench.conmon, request)
    await spawn.end_monitor(request, monitor)
    with pytest.raises(ConmonFailed, match="cannot begin exec session"):
        await execs.attach_exec(request, PATIENCE, monitor)


async def test_many_sessions_at_once_keep_apart_and_leave_nothing(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    before = processes.children()
    seen: dict[int, tuple[bytes, int]] = {}

    async def one(number: int) -> None:
        request = session(container, "sh", "-c", f"echo {number}; exit {number}", attach=True)
        monitor, connection = await attached(bench, request)
        with connection:
            output = await trio.to_thread.run_sync(read_all, connection)
        end = await ended(request, monitor)
        assert end is not None
        seen[number] = output[2], end.code
        await trio.to_thread.run_sync(execs.remove_exec, request)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    assert seen == {number: (b"%d\n" % number, number) for number in range(20)}
    assert not os.listdir(container.bundle / "exec")
    assert not processes.wait_gone(processes.children() - before, 20)
    assert not spawn._kept


@only_runc
async def test_removing_a_session_takes_its_link_along_and_can_be_repeated(bench: Bench) -> None:
    links = bench.base / "links"
    links.mkdir()
    container = await bench.started("sleep", "60")
    request = session(container, "true", attach=True, socket_dir=str(links))
    monitor, connection = await attached(bench, request)
    connection.close()
    await ended(request, monitor)
    execs.remove_exec(request)
    execs.remove_exec(request)
    assert not os.listdir(links)
    assert not os.path.exists(request.bundle)
