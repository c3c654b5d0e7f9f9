"""Connections that are led on, in a loop that the test turns."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.network.relay import relays
from supervisor.network.relay.relays import Acceptor, Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


class Port(socket.socket):
    """For which there may be no descriptors."""

    exhausted = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self.exhausted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setattr(relays, "_IDLE_PIPES", 0)
    made = Loop()
    yield made
    made.close()


def turn(loop: Loop) -> None:
    """What there is to do now, and what follows from it."""
    for _ in range(5):
        loop.running = True
        loop.again(loop.stop)
        loop.run()


def test_who_came_while_there_was_no_room_is_led_once_anybody_has_gone(loop: Loop) -> None:
    """Also if nobody of the same port has."""
    with Port() as port, socket.create_server(("127.0.0.1", 0)) as container, socket.socket() as gone:

        def connected(client: socket.socket) -> socket.socket:
            del client
            made = socket.create_connection(container.getsockname())
            made.setblocking(False)
            return made

        port.bind(("127.0.0.1", 0))
        acceptor = Acceptor(loop, port, connected)
        loop.add(gone.fileno(), lambda _: None)
        port.exhausted = True
        with socket.create_connection(port.getsockname()) as client:
            assert select.select([port], [], [], 20)[0]
            turn(loop)
            port.exhausted = False
            turn(loop)
            container.setblocking(False)
            with pytest.raises(BlockingIOError):
                container.accept()
            loop.discard(gone.fileno())
            turn(loop)
            container.settimeout(20)
            with container.accept()[0] as there:
                client.sendall(b"here")
                deadline = time.monotonic() + 20
                while not select.select([there], [], [], 0.01)[0]:
                    assert time.monotonic() < deadline, "nothing comes"
                    turn(loop)
                assert there.recv(10) == b"here"
        acceptor.close()
