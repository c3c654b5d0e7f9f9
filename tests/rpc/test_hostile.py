"""What a client that breaks the protocol, floods or falls asleep gets: an error or a disconnect, alone."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from pyman.api import Access
from supervisor.kernel import idmaps
from supervisor.kernel.idmaps import IdRange
from supervisor.rpc.framing import encode_reply
from supervisor.rpc.peer import Admission, Peer
from supervisor.rpc.server import Limits, Listener, serve
from tests.rpc.client import Client
from tests.rpc.contract import INTERFACE, NAME, Echo, Trial, listening_socket
from tests.support.logs import captured_logs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.rpc.client import Service

PROTOCOL = "io.pyman.ProtocolError"
DEEP = 200_000


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"hello",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"method":5}',
        b'{"method":null}',
        b'{"method":"a.b","parameters":{}}{}',
        b'{"method":"a.b","more":"yes"}',
        b'{"method":"a.b","parms":{}}',
        b'{"method":"a.b","descriptors":-1}',
        b'{"method":"a.b","descriptors":"1"}',
        b'{"method":"a\xffb"}',
        b"[" * DEEP,
        b'{"method":' + b'{"a":' * DEEP,
        b'{"method":"a.b","descriptors":' + b"9" * 5000 + b"}",
    ],
    ids=lambda message: repr(message[:30]),
)
async def test_a_message_that_is_no_call_ends_the_connection(service: Service, message: bytes) -> None:
    async with await service.connect() as client:
        await client.send_bytes(message + b"\0")
        assert (await client.reply())["error"] == PROTOCOL
        assert await client.ended()
    assert await service.alive()


@pytest.mark.parametrize(
    "parameters",
    [
        b"[]",
        b"5",
        b'"x"',
        b'{"text":"\xff"}',
        b'{"text":"\\ud800"}',
        b'{"text":1e999}',
        b"[" * DEEP + b"]" * DEEP,
        b'{"text":' + b'{"a":' * 100000 + b"1" + b"}" * 100001,
    ],
    ids=lambda parameters: repr(parameters[:30]),
)
async def test_parameters_that_cannot_be_read_are_refused(service: Service, parameters: bytes) -> None:
    async with await service.connect() as client:
        await client.send_bytes(b'{"method":"io.pyman.Trial.Echo","parameters":' + parameters + b"}\0")
        assert (await client.reply())["error"] in (PROTOCOL, "org.varlink.service.InvalidParameter")
    assert await service.alive()


async def test_a_flood_of_nuls_ends_the_connection_at_the_first(service: Service) -> None:
    async with await service.connect() as client:
        await client.send_bytes(b"\0" * 50_000)
        assert (await client.reply())["error"] == PROTOCOL
        assert await client.ended()
    assert await service.alive()


async def test_a_message_of_64_megabytes_is_refused_without_being_stored(service: Service) -> None:
    chunk = b"x" * (1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with await service.connect() as client:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await client.send_until_refused(chunk, times=64)
        reply = await client.reply()
        assert reply["error"] == "io.pyman.MessageTooLarge"
        assert await client.ended()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10
    assert await service.alive()


async def test_a_message_at_the_limit_is_answered(service: Service) -> None:
    head, tail = b'{"method":"io.pyman.Trial.Echo","parameters":{"text":"', b'"}}'
    async with await service.connect() as client:
        text = b"x" * ((1 << 20) - len(head) - len(tail))
        await client.send_bytes(head + text + tail + b"\0")
        assert len((await client.reply())["parameters"]["text"]) == len(text)
        await client.send_bytes(head + text + b"x" + tail + b"\0")
        assert (await client.reply())["error"] == "io.pyman.MessageTooLarge"


async def test_half_a_message_costs_only_its_own_connection(service: Service) -> None:
    async with await service.connect() as client:
        await client.send_bytes(b'{"method":"io.pyman.Trial.Who"')
        assert await service.alive()
        await client.send_bytes(b"}\0")
        assert "pid" in (await client.reply())["parameters"]
        await client.send_bytes(b'{"method":"io.')
    assert await service.alive()
    await trio.testing.wait_all_tasks_blocked()
    assert service.server.connections == 0


async def test_a_message_byte_by_byte_is_understood(service: Service) -> None:
    async with await service.connect() as client:
        for byte in b'{"method":"io.pyman.Trial.Change"}\0':
            await client.send_bytes(bytes([byte]))
            await trio.lowlevel.checkpoint()
        assert await client.reply() == {"parameters": {}}


async def test_a_client_that_stops_reading_holds_up_nobody_and_is_bounded(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Flood", {"number": 1, "padding": "x" * 10_000}, more=True)
        await service.trial.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        stuck_at = service.trial.flooded
        assert stuck_at < 200
        for _ in range(20):
            assert await service.alive()
        assert service.trial.flooded == stuck_at
    await service.trial.ended.wait()


async def test_a_server_that_ends_does_not_wait_for_a_client_that_stopped_reading(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Flood", {"number": 1, "padding": "x" * 10_000}, more=True)
        await service.trial.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        service.stop()
        await service.trial.ended.wait()


async def test_a_reader_that_comes_back_finds_every_message_whole(service: Service) -> None:
    async with await service.connect() as client:
        await client.send(f"{NAME}.Stream", {"number": 300, "padding": "x" * 5_000}, more=True)
        await trio.testing.wait_all_tasks_blocked()
        numbers = [(await client.reply())["parameters"]["number"] for _ in range(301)]
    assert numbers == list(range(301))


async def test_with_500_idle_connections_calls_are_answered_fast(service: Service) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    clients = [await service.connect() for _ in range(500)]
    try:
        async with await service.connect() as client:
            await client.call(f"{NAME}.Who")
            medians = list[float]()
            while not medians or medians[-1] >= 0.005:  # a busy machine may take longer, but not each time
                assert len(medians) < 10, medians
                times = []
                for _ in range(50):
                    started = time.perf_counter()
                    await client.call(f"{NAME}.Who")
                    times.append(time.perf_counter() - started)
                medians.append(statistics.median(times))
        assert service.server.connections >= 500
    finally:
        for idle in clients:
            idle.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with trio.fail_after(20):
        while service.server.connections:
            await trio.testing.wait_all_tasks_blocked()


async def test_an_idle_server_has_no_timer(service: Service) -> None:
    async with await service.connect() as client:
        await client.call(f"{NAME}.Who")
        await trio.testing.wait_all_tasks_blocked()
        # This task's own time-out is the only one.
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")


async def test_at_its_bound_the_server_lets_further_clients_wait(short_path: Path) -> None:
    path = str(short_path / "s")
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[object]) -> None:
            await serve(
                [Listener(listening_socket(path), Access.OWNER)],
                Trial().handlers(),
                interfaces=[INTERFACE],
                limits=Limits(connections=2),
                complete=False,
                task_status=task_status,
            )

        await nursery.start(run)
        first, second, third = [await Client.connect(path) for _ in range(3)]
        for client in (first, second):
            await client.call(f"{NAME}.Who")
        await third.send(f"{NAME}.Who")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.05) as too_early:
            await third.reply()
        assert too_early.cancelled_caught
        first.close()
        assert "pid" in (await third.reply())["parameters"]
        second.close()
        third.close()
        nursery.cancel_scope.cancel()


async def test_without_a_free_descriptor_accepting_pauses_and_then_goes_on(service: Service) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with await service.connect() as first:
        await first.call(f"{NAME}.Who")
        waiting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        taken = [os.dup(0) for _ in range(highest)]
        limit = max(taken) + 1
        with captured_logs() as logs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                await waiting.connect(service.paths["owner"])
                second = Client(waiting)
                await second.send(f"{NAME}.Who")
                await trio.testing.wait_all_tasks_blocked(0.05)
                # Connections there are go on.
                await first.call(f"{NAME}.Who")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in taken:
                    os.close(descriptor)
        assert [entry["event"] for entry in logs] == ["cannot accept a connection"]
        assert "pid" in (await second.reply())["parameters"]
        second.close()


# Clients that end badly


CHURN = """
import os, random, socket, sys
path, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
messages = [
    b'{"method":"io.pyman.Trial.Who"}\\0',
    b'{"method":"io.pyman.Trial.Wait"}\\0',
    b'{"method":"io.pyman.Trial.Flood","parameters":{"number":1},"more":true}\\0',
    b'{"method":"io.pyman.Trial.Pass","parameters":{"number":2},"more":true,"descriptors":1}\\0',
]
while True:
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    for _ in range(rng.randrange(4)):
        message = rng.choice(messages)
        cut = rng.choice([len(message), rng.randrange(1, len(message))])
        fds = [0] if b"descriptors" in message else []
        try:
            socket.send_fds(s, [message[:cut]], fds)
        except OSError:
            break
    if rng.random() < 0.3:
        s.settimeout(0.01)
        try:
            s.recv(1000)
        except OSError:
            pass
    s.close()
"""


async def kill(process: trio.Process) -> None:
    process.kill()


async def test_clients_killed_at_random_instants_leave_nothing_behind(service: Service) -> None:
    rng = random.Random(4)
    descriptors = len(os.listdir("/proc/self/fd"))
    for seed in range(6):
        with trio.move_on_after(0.15 + rng.random() / 10):
            await trio.run_process(
                [sys.executable, "-c", CHURN, service.paths["owner"], str(seed)],
                stdin=subprocess.DEVNULL,
                deliver_cancel=kill,
            )
        assert await service.alive()
    with trio.fail_after(20):
        while service.server.connections:
            await trio.testing.wait_all_tasks_blocked()
    assert len(os.listdir("/proc/self/fd")) == descriptors


# Other users


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_disconnected(service: Service, short_path: Path) -> None:
    short_path.chmod(0o777)
    for path in service.paths.values():
        os.chmod(path, 0o777)
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.settimeout(10); sys.exit(0 if s.recv(1) == b'' else 1)"
    )
    for user in (1234, 65534):
        with captured_logs() as logs:
            done = await trio.run_process(
                [sys.executable, "-c", program, service.paths["owner"]], user=user, group=user, cwd="/"
            )
        assert done.returncode == 0
        assert [(entry["event"], entry["level"]) for entry in logs] == [
            ("connection of another user refused", "warning")
        ]


def admission(owner: int, uid_map: str) -> Admission:
    ranges = idmaps.parse(uid_map)
    return Admission(owner, ranges, ranges)


@pytest.mark.parametrize(
    "owner, uid, admitted", [(1000, 1000, True), (1000, 0, True), (1000, 1001, False), (1000, 65534, False)]
)
def test_the_owner_and_root_are_admitted(owner: int, uid: int, admitted: bool) -> None:
    assert admission(owner, "0 0 4294967295").admits(Peer(1, uid, uid)) is admitted


def test_nobody_is_refused_even_as_the_owner() -> None:
    assert not admission(65534, "0 0 4294967295").admits(Peer(1, 65534, 65534))


class _Socket:
    """Stands for a connection: tells credentials as seen inside a user namespace."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def getsockopt(self, *_: object) -> bytes:
        return b"".join(number.to_bytes(4, "little") for number in (42, self._uid, self._uid))


@pytest.mark.parametrize(
    "inside, outside", [(0, 1000), (1, 100000), (1000, 100999), (65534, 65534), (70000, 65534)]
)
def test_ids_seen_in_a_user_namespace_are_the_hosts(inside: int, outside: int) -> None:
    rule = admission(1000, "         0       1000          1\n         1     100000      65536\n")
    peer: Any = rule.peer(_Socket(inside))  # type: ignore[arg-type]
    assert peer == Peer(42, outside, outside)
    assert rule.admits(peer) is (outside == 1000)


def test_an_id_map_is_parsed() -> None:
    assert idmaps.parse("0 1000 1\n1 100000 65536\n") == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))


def test_a_nul_in_a_text_does_not_end_its_message() -> None:
    message = encode_reply(Echo("a\0b"))
    assert message.count(0) == 1
    assert json.loads(message[:-1])["parameters"]["text"] == "a\0b"
