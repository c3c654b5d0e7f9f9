"""Messages to conmon arrive, the last one counts, and nobody waits for a conmon that does not read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import ConmonFailed
from supervisor.conmon import control
from supervisor.conmon.attach import connect
from tests.conmon.monitors import PATIENCE, resume, stop

if TYPE_CHECKING:
    import socket

    from tests.conmon.monitors import Bench

only_runc = pytest.mark.oci_runtime("runc")

SHOW = "while read x; do stty size; done"
"""Says the size of its terminal when it is asked."""


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    connection.settimeout(PATIENCE)
    seen = b""
    while wanted not in seen:
        packet = connection.recv(1 << 16)
        assert packet, seen
        seen += packet[1:]
    return seen


async def test_the_terminal_takes_the_size(bench: Bench) -> None:
    container = bench.container("sh", "-c", SHOW, terminal=True)
    await container.create()
    with await connect("", container.id, container.request.bundle) as connection:
        await container.start()
        control.resize(container.request.bundle, 33, 101)
        connection.send(b"\r")
        await trio.to_thread.run_sync(read_until, connection, b"33 101\r\n")


@only_runc
async def test_of_many_sizes_in_a_row_the_last_one_is_taken(bench: Bench) -> None:
    container = bench.container("sh", "-c", SHOW, terminal=True)
    await container.create()
    with await connect("", container.id, container.request.bundle) as connection:
        await container.start()
        for rows in range(10, 30):
            for columns in range(1, 40):
                control.resize(container.request.bundle, rows, columns)
            control.resize(container.request.bundle, rows, 200)
            connection.send(b"\r")
            await trio.to_thread.run_sync(read_until, connection, f"{rows} 200\r\n".encode())


@only_runc
async def test_a_stopped_monitor_holds_nobody_up_and_gets_the_last_size(bench: Bench) -> None:
    container = bench.container("sh", "-c", SHOW, terminal=True)
    await container.create()
    assert container.monitor is not None
    with await connect("", container.id, container.request.bundle) as connection:
        await container.start()
        stop(container.monitor)
        before = time.monotonic()
        for columns in range(1, 500):
            control.resize(container.request.bundle, 24, columns)
            control.reopen_logs(container.request.bundle)
        assert time.monotonic() - before < 20
        connection.send(b"\r")
        resume(container.monitor)
        await trio.to_thread.run_sync(read_until, connection, b"24 499\r\n")


@only_runc
async def test_a_reopened_log_is_a_new_file_and_no_line_is_lost(bench: Bench) -> None:
    container = bench.container("sh", "-c", "read a; echo $a; read b; echo $b", stdin=True)
    await container.create()
    with await connect("", container.id, container.request.bundle) as connection:
        await container.start()
        connection.send(b"first\n")
        await trio.to_thread.run_sync(read_until, connection, b"first\n")
        old = container.log.with_suffix(".old")
        old.hardlink_to(container.log)
        control.reopen_logs(container.request.bundle)
        connection.send(b"second\n")
        await trio.to_thread.run_sync(read_until, connection, b"second\n")
    await container.wait()
    assert old.read_text().endswith(" F first\n")
    assert container.lines() == ["second"]


@only_runc
async def test_no_monitor_is_told(bench: Bench) -> None:
    container = bench.container("true", terminal=True)
    with pytest.raises(ConmonFailed, match="No such file"):
        control.resize(container.request.bundle, 24, 80)
    await container.create()
    await container.start()
    await container.wait()
    with pytest.raises(ConmonFailed, match="it has gone"):
        control.resize(container.request.bundle, 24, 80)
    with pytest.raises(ConmonFailed, match="it has gone"):
        control.reopen_logs(container.request.bundle)
