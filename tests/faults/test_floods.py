"""More than anybody should send: the real engine with real containers answers others as before."""

from __future__ import annotations

import os
import socket
import statistics
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.conftest import Faulty

LIST = b'{"method": "io.pyman.Container.List", "parameters": {"all": true}}\0'


@pytest.fixture
def busy(faulty: Faulty, rootfs: Path) -> Faulty:
    """With a container that runs."""
    faulty.cli("run", "-d", "--name", "web", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    return faulty


def answer_times(engine: Faulty, count: int = 20) -> list[float]:
    """Seconds of so many List calls, each on a connection of its own."""
    times = []
    for _ in range(count):
        begun = time.monotonic()
        found = engine.call("io.pyman.Container.List", {"all": True})["containers"]
        times.append(time.monotonic() - begun)
        assert [container["Names"] for container in found] == [["web"]]
    return times


def unharmed(engine: Faulty, pid: int) -> None:
    assert engine.daemon == pid
    assert engine.out("ps", "--format", "{{.Names}}") == "web"
    assert engine.out("exec", "web", "echo", "works") == "works"


def sent(engine: Faulty, work: Callable[[socket.socket], None]) -> bytes:
    """What comes back for what `work` sends, until the engine ends the connection or has answered."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(engine.socket)
        with suppress(BrokenPipeError, ConnectionResetError):
            work(client)
        with suppress(ConnectionResetError):
            return client.recv(1 << 16)
        return b""


def test_a_message_of_64_megabytes_is_refused_and_not_kept(busy: Faulty) -> None:
    pid, memory = busy.daemon, resident(busy.daemon)
    text = b'{"method": "io.pyman.Container.Create", "parameters": {"spec": {"name": "'
    told = sent(busy, lambda client: client.sendall(text + b"x" * (64 << 20) + b'"}}}\0'))
    assert told == b"" or b"MessageTooLarge" in told
    until(lambda: resident(pid) < memory + (16 << 20), "it is kept")
    unharmed(busy, pid)


def resident(pid: int) -> int:
    """Bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_descriptors_is_closed_and_ends_its_connection_alone(busy: Faulty) -> None:
    pid = busy.daemon
    before = len(processes.descriptors(pid))

    def flood(client: socket.socket) -> None:
        with open(os.devnull) as null:
            for _ in range(200):
                socket.send_fds(client, [b" "], [null.fileno()] * 250)

    for _ in range(5):
        told = sent(busy, flood)
        assert told == b"" or b"ProtocolError" in told
    answer_times(busy, 1)
    until(lambda: len(processes.descriptors(pid)) <= before + 1, "descriptors stay")
    unharmed(busy, pid)


def test_descriptors_that_nobody_asked_for_are_closed(busy: Faulty) -> None:
    pid = busy.daemon
    before = len(processes.descriptors(pid))

    def surplus(client: socket.socket) -> None:
        with open(os.devnull) as null:
            socket.send_fds(client, [LIST], [null.fileno()] * 3)

    for _ in range(20):
        told = sent(busy, surplus)
        assert told == b"" or b"error" in told
    answer_times(busy, 1)
    until(lambda: len(processes.descriptors(pid)) <= before + 1, "descriptors stay")
    unharmed(busy, pid)


def test_500_idle_connections_cost_the_others_nothing(busy: Faulty) -> None:
    pid = busy.daemon
    alone = statistics.median(answer_times(busy))
    with ExitStack() as stack:
        for number in range(500):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(busy.socket)
            if number % 2:
                client.sendall(b'{"method": "io.pyman.')  # …and half of these have begun to speak
        quickly(lambda: statistics.median(answer_times(busy)), 2 * alone + 0.005)
        unharmed(busy, pid)
    answer_times(busy, 1)


def test_subscribers_that_stop_reading_delay_no_event_and_no_container(busy: Faulty, rootfs: Path) -> None:
    pid = busy.daemon
    subscribe = b'{"method": "io.pyman.Event.Subscribe", "parameters": {"since_seq": 0}, "more": true}\0'
    with ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(busy.socket)
            client.sendall(subscribe)
        seq = busy.events()[-1]["Seq"]
        names = [f"c{number}" for number in range(5)]
        for name in names:
            busy.cli("run", "--rm", "--name", name, "--rootfs", f"{rootfs}:O", "true")
        seen = [event["Name"] for event in busy.events(seq, event=["died"])]
        assert seen == names
        unharmed(busy, pid)


def test_a_storm_of_connections_that_leave_at_once_is_over_when_it_is_over(busy: Faulty) -> None:
    pid = busy.daemon
    before = len(processes.descriptors(pid))
    for number in range(2000):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(busy.socket)
            if number % 3:
                client.sendall(LIST[: number % len(LIST)])
    answer_times(busy)
    until(lambda: len(processes.descriptors(pid)) <= before + 1, "descriptors stay")
    unharmed(busy, pid)
