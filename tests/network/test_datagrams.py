"""Sessions of UDP: a client has one, the oldest makes room, an idle one ends."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.network.relay.datagrams import Receiver, Sessions
from supervisor.network.relay.relays import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.network.relay.datagrams import Client

LOCAL = ("127.0.0.1", 0)


class Port:
    """One that leads to a socket that stands for a container."""

    def __init__(self, *, idle: float, most: int) -> None:
        self.loop = Loop()
        self.sessions = Sessions(idle, most)
        self.loop.tick = self.sessions.expire
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

    def turn(self, seconds: float = 0.0) -> None:
        """Whatever is there to do within so many seconds is done."""
        self.loop.running = True
        deadline = time.monotonic() + seconds

        def tick() -> float:
            """The loop's own wait, until there has been nothing for once."""
            left = self.sessions.expire()
            self.loop.running = time.monotonic() < deadline
            return min(max(0.0, deadline - time.monotonic()), seconds if left is None else left)

        self.loop.tick = tick
        self.loop.run()

    def close(self) -> None:
        self._receiver.close()
        self.container.close()
        self.loop.close()


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(5)
    made.bind(LOCAL)
    return made


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    made = Port(idle=getattr(request, "param", 60.0), most=2)
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
    for number, client in enumerate(clients[:2]):
        for _ in range(2):
            client.sendto(b"%d" % number, port.address)
        port.turn()
    heard = [port.container.recvfrom(100) for _ in range(4)]
    assert [data for data, _ in heard] == [b"0", b"0", b"1", b"1"]
    assert len({source for _, source in heard}) == len(port.sessions) == 2
    for data, source in reversed(heard):
        port.container.sendto(b"to " + data, source)
    port.turn()
    for number, client in enumerate(clients[:2]):
        assert client.recvfrom(100) == (b"to %d" % number, port.address)


def test_one_too_many_ends_the_one_that_was_idle_for_longest(
    port: Port, clients: list[socket.socket]
) -> None:
    for client in (clients[0], clients[1], clients[0], clients[2]):
        client.sendto(b"?", port.address)
        port.turn()
    sources = [port.container.recvfrom(100)[1] for _ in range(4)]
    assert len(port.sessions) == 2
    for source in dict.fromkeys(sources):
        port.container.sendto(b"!", source)
    port.turn()
    assert clients[0].recv(1) == clients[2].recv(1) == b"!"
    clients[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[1].recv(1)


@pytest.mark.parametrize("port", [0.05], indirect=True)
def test_an_idle_session_ends_and_the_loop_sleeps_again(port: Port, clients: list[socket.socket]) -> None:
    clients[0].sendto(b"?", port.address)
    port.turn()
    assert len(port.sessions) == 1
    left = port.sessions.expire()
    assert left is not None
    assert 0 < left <= 0.05
    port.turn(0.2)
    assert len(port.sessions) == 0
    assert port.sessions.expire() is None


def test_a_port_that_is_closed_takes_its_sessions_with_it(port: Port, clients: list[socket.socket]) -> None:
    clients[0].sendto(b"?", port.address)
    port.turn()
    port._receiver.close()
    assert len(port.sessions) == 0
