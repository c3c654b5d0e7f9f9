"""Servers in containers on the host's own network, the ports and addresses for them, and asking them.

Other workers, and other runs, are on that network too: each process of tests has a number of its own, and what it uses there
follows from that.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.engine import Engine

__all__ = ["NUMBER", "PORT", "PREFIX", "SERVE", "SLEEP", "asked", "heard"]

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
SERVE = ["sh", "-c", "while :; do echo here | nc -l -p 80; done"]
MOST = 64


def _take_number() -> int:
    """Until this process ends."""
    for number in itertools.count():
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(f"/tmp/pyman-tests-number-{number}.lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            break
    assert number < MOST, "too many tests on one host"
    return number


NUMBER = _take_number()
PORT = 18000 + 64 * NUMBER
"""The first of 64."""
PREFIX = f"10.{128 + NUMBER}."
"""Of addresses."""


def asked(port: int, host: str = "127.0.0.1") -> str:
    """What a server says, once it is up."""
    until = time.monotonic() + 30
    while True:
        try:
            with (
                socket.create_connection((host, port), timeout=5) as connection,
                connection.makefile() as file,
            ):
                if said := file.read().strip():
                    return said
        except (ConnectionError, TimeoutError):
            pass
        assert time.monotonic() < until, "nobody answers"
        time.sleep(0.02)


def heard(engine: Engine, name: str, host: str, server: socket.socket) -> str:
    """What a container hears from a server of this process, which has that address for it."""
    server.settimeout(30)
    port = str(server.getsockname()[1])
    with engine.spawn("exec", name, "nc", "-w", "30", host, port) as client:
        with server.accept()[0] as connection:
            connection.sendall(b"said")
        return client.communicate(timeout=30)[0].decode()
