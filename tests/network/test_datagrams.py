"""Sessions of UDP: a client has one, the oldest makes room, an idle one ends."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.network.relay import datagrams
from supervisor.network.relay.datagrams import Receiver, Sessions
from supervisor.network.relay.relays import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.relay.datagrams import Client

LOCAL = ("127.0.0.1", 0)


class Clock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Port:
    """One that leads to a socket that stands for a container."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sessions = Sessions(idle=60, most=2)
        self.container = _bound()
        port = _bound()
        self.address = port.getsockname()
        self._receiver = Receiver(self.loop, self.sessions, port, self._connected)

    def _connected(self, client: Client) -> socket.socket:
        del client
        made = _bound()
        made.setblocking(False)
        made.connect(self.container.getsockname())
        return made

    def heard(self, by: socket.socket) -> tuple[bytes, Any]:
        """The next datagram that comes there, and from whom. The loop goes on until it does."""
        deadline = time.monotonic() + 20
        self.loop.tick = self._look
        while not select.select([by], [], [], 0)[0]:
            assert time.monotonic() < deadline, "nothing comes"
            self.loop.running = True
            self.loop.run()
        return by.recvfrom(100)

    def _look(self) -> float:
        """Once, and no longer than a moment."""
        self.sessions.expire()
        self.loop.stop()
        return 0.01

    def waits(self, clock: Clock) -> list[float | None]:
        """For how long the loop wants to sleep, each time that it has slept for so long; None: for ever."""
        found: list[float | None] = []

        def tick() -> float:
            found.append(left := self.sessions.expire())
            clock.now += left or 0
            self.loop.running = left is not None
            return 0

        self.loop.tick, self.loop.running = tick, True
        self.loop.run()
        return found

    def close(self) -> None:
        self._receiver.close()
        self.container.close()
        self.loop.close()


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(20)
    made.bind(LOCAL)
    return made


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made = [_bound() for _ in range(3)]
    yield made
    for each in made:
        each.close()


def test_each_client_is_somebody_to_the_container_and_gets_its_own_answer(
    port: Port, clients: list[socket.socket]
) -> None:
    heard = []
    for number, client in enumerate(clients[:2]):
        for _ in range(2):
            client.sendto(b"%d" % number, port.address)
        heard += [port.heard(port.container) for _ in range(2)]
    assert [data for data, _ in heard] == [b"0", b"0", b"1", b"1"]
    assert len({source for _, source in heard}) == len(port.sessions) == 2
    for data, source in reversed(heard):
        port.container.sendto(b"to " + data, source)
    for number, client in enumerate(clients[:2]):
        for _ in range(2):
            assert port.heard(client) == (b"to %d" % number, port.address)


def test_one_too_many_ends_the_one_that_was_idle_for_longest(
    port: Port, clients: list[socket.socket]
) -> None:
    sources = []
    for client in (clients[0], clients[1], clients[0], clients[2]):
        client.sendto(b"?", port.address)
        sources.append(port.heard(port.container)[1])
    assert len(port.sessions) == 2
    for source in dict.fromkeys(sources):
        port.container.sendto(b"!", source)
    for client in (clients[0], clients[2]):
        assert port.heard(client)[0] == b"!"
    clients[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[1].recv(1)


def test_an_idle_session_ends_and_the_loop_sleeps_again(
    port: Port, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(datagrams, "time", clock)
    clients[0].sendto(b"?", port.address)
    port.heard(port.container)
    clock.now += 50
    clients[0].sendto(b"?", port.address)
    port.heard(port.container)
    clock.now += 59
    assert port.sessions.expire() == 1
    assert len(port.sessions) == 1
    assert port.waits(clock) == [1, None]
    assert len(port.sessions) == 0


def test_a_port_that_is_closed_takes_its_sessions_with_it(port: Port, clients: list[socket.socket]) -> None:
    clients[0].sendto(b"?", port.address)
    port.heard(port.container)
    assert len(port.sessions) == 1
    port._receiver.close()
    assert len(port.sessions) == 0
