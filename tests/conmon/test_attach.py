"""An attached client sees everything, can end its input, and can hold nobody up."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import ConmonFailed, DeadlineExceeded
from supervisor.conmon.attach import Attachments, connect
from tests.conmon.monitors import PATIENCE, resume, stop

if TYPE_CHECKING:
    from tests.conmon.monitors import Bench, Container

only_runc = pytest.mark.oci_runtime("runc")


async def attach(container: Container) -> socket.socket:
    connection = await connect("", container.id, container.request.bundle)
    assert connection.getblocking()
    connection.settimeout(PATIENCE)
    return connection


async def fill_queue(container: Container, made: list[socket.socket]) -> None:
    while True:
        made.append(await connect("", container.id, container.request.bundle, deadline=1.0))


def read_all(connection: socket.socket) -> dict[int, bytes]:
    """What came on each stream until the other side ended."""
    found: dict[int, bytes] = {}
    while packet := connection.recv(1 << 16):
        found[packet[0]] = found.get(packet[0], b"") + packet[1:]
    return found


async def test_a_connection_made_before_the_start_sees_everything(bench: Bench) -> None:
    container = bench.container("sh", "-c", "echo out; echo err >&2")
    await container.create()
    with await attach(container) as connection:
        await container.start()
        seen = await trio.to_thread.run_sync(read_all, connection)
    assert seen == {2: b"out\n", 3: b"err\n"}
    await container.wait()


async def test_input_reaches_the_command_and_its_end_too(bench: Bench) -> None:
    container = bench.container("cat", stdin=True)
    await container.create()
    with await attach(container) as connection:
        await container.start()
        connection.send(b"one ")
        connection.send(b"two")
        connection.shutdown(socket.SHUT_WR)
        seen = await trio.to_thread.run_sync(read_all, connection)
    assert seen == {2: b"one two"}
    assert (await container.wait()).code == 0


@only_runc
async def test_input_can_outlive_a_client(bench: Bench) -> None:
    container = bench.container("cat", stdin=True, leave_stdin_open=True)
    await container.create()
    with await attach(container) as first:
        await container.start()
        first.send(b"one\n")
        assert await trio.to_thread.run_sync(first.recv, 100) == b"\2one\n"
    with await attach(container) as second:
        second.send(b"two\n")
        assert await trio.to_thread.run_sync(second.recv, 100) == b"\2two\n"


@only_runc
async def test_on_a_terminal_the_next_client_goes_on_typing(bench: Bench) -> None:
    container = bench.container("cat", stdin=True, terminal=True)
    await container.create()
    await container.start()
    for word in (b"one", b"two"):
        with await attach(container) as connection:
            connection.send(word + b"\r")
            seen = b""
            while seen.count(word) < 2:
                seen += (await trio.to_thread.run_sync(connection.recv, 100))[1:]


@only_runc
async def test_a_client_that_does_not_read_is_shut_down_and_the_container_ends(bench: Bench) -> None:
    container = bench.container("sh", "-c", "head -c 3000000 /dev/zero; exit 6")
    await container.create()
    attachments = Attachments()
    with await attach(container) as connection:
        attachments.add(connection.fileno())
        await container.start()
        monitor = await container.watch()
        with monitor:
            with trio.move_on_after(1):
                await monitor.wait()
            assert not monitor.exited(), "conmon waits for the reader"
            attachments.shut_all()
            with trio.fail_after(PATIENCE):
                await monitor.wait()
    assert len(attachments) == 0
    assert (await container.wait()).code == 6


@only_runc
async def test_who_has_not_read_all_is_behind(bench: Bench) -> None:
    script = 'while read x; do [ "$x" = end ] && exit 3; echo one; done'
    container = bench.container("sh", "-c", script, stdin=True)
    await container.create()
    attachments = Attachments()
    with await attach(container) as connection, await attach(container) as other:
        first, second = attachments.add(connection.fileno(), 7), attachments.add(other.fileno(), 8)
        assert attachments.behind() == []
        await container.start()
        asked, told = 0, b""
        with trio.fail_after(PATIENCE):
            while sorted(attachments.behind()) != [7, 8]:  # conmon accepts them one by one
                asked += connection.send(b"\n")
                await trio.sleep(0.05)
            while told.count(b"one\n") < asked:
                told += (await trio.to_thread.run_sync(connection.recv, 100))[1:]
        assert attachments.behind() == attachments.behind(second) == [8]
        assert attachments.behind(first) == []
        connection.send(b"end\n")
        assert (await container.wait()).code == 3
        assert attachments.behind() == [8]
        attachments.drop(second)
        assert attachments.behind() == attachments.behind(second) == []
    attachments.shut_all()


@only_runc
async def test_dropping_an_attachment_ends_it_for_client_and_container(bench: Bench) -> None:
    container = bench.container("cat", stdin=True)
    await container.create()
    attachments = Attachments()
    connection = await attach(container)
    handle = attachments.add(connection.fileno())
    await container.start()
    connection.close()
    monitor = await container.watch()
    with monitor:
        with trio.move_on_after(0.3):
            await monitor.wait()
        assert not monitor.exited(), "the duplicate keeps it open"
        attachments.drop(handle)
        attachments.drop(handle)
        with trio.fail_after(PATIENCE):
            await monitor.wait()
    assert (await container.wait()).code == 0


@only_runc
async def test_a_path_longer_than_a_socket_address_works(bench: Bench) -> None:
    container = bench.container("echo", "hello", bundle="deep/" + "y" * 100)
    assert len(container.request.bundle) > 150
    await container.create()
    with await attach(container) as connection:
        await container.start()
        assert await trio.to_thread.run_sync(read_all, connection) == {2: b"hello\n"}


@only_runc
async def test_the_link_in_the_socket_directory_leads_there_too(bench: Bench) -> None:
    links = bench.base / "links"
    links.mkdir()
    container = bench.container("echo", "hello", socket_dir=str(links))
    await container.create()
    assert os.readlink(links / container.id) == container.request.bundle
    with await connect(str(links), container.id, "") as connection:
        await container.start()
        assert await trio.to_thread.run_sync(read_all, connection) == {2: b"hello\n"}


@only_runc
async def test_nobody_to_attach_to_is_told(bench: Bench) -> None:
    container = bench.container("true")
    with pytest.raises(ConmonFailed, match="cannot attach to"):
        await attach(container)
    await container.create()
    await container.start()
    await container.wait()
    with pytest.raises(ConmonFailed, match="cannot attach to"):
        await attach(container)
    with pytest.raises(ConmonFailed, match="No such file"):
        await connect("", container.id, "/no/such/bundle")


@only_runc
async def test_a_stopped_monitor_is_given_up_on(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    assert container.monitor is not None
    stop(container.monitor)
    made: list[socket.socket] = []
    try:
        with pytest.raises(DeadlineExceeded, match=r"accepted nobody for 1 s"):
            await fill_queue(container, made)
        assert len(made) >= 10
    finally:
        resume(container.monitor)
        for connection in made:
            connection.close()
    with await attach(container) as connection:
        assert select.select([], [connection], [], 20)[1]
