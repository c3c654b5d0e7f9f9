"""Hosts and containers as network namespaces, each held by a process that sleeps."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import pytest

from supervisor.kernel import inside
from supervisor.network import elements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Machine:
    """A network namespace. What runs in it ends with it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.netns = -1
        self.pid = -1

    def __enter__(self) -> Self:
        argv = ["unshare", "--net", "--kill-child", "--fork", "sh", "-c", "echo up; exec sleep infinity"]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._stack.callback(self._end, holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        (self.pid,) = map(int, Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split())
        self.netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        self._stack.callback(os.close, self.netns)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _end(holder: subprocess.Popen[str]) -> None:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()

    def does(self, work: Callable[[], T]) -> T:
        """In a thread that is in it."""
        return inside.joined(self.netns, "network", work)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *words]

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(self._words(words), capture_output=True, text=True, timeout=20, check=False)
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def answers(
        self,
        port: int,
        word: str,
        address: str = "0.0.0.0",  # noqa: S104
        *,
        kind: str = "SOCK_STREAM",
    ) -> None:
        """Whoever connects to the port gets a word, and is told his address."""
        argv = self._words((_PYTHON, "-c", _ANSWERING, address, str(port), kind, word))
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        self._stack.callback(self._end, server)

    def asks(self, address: str, port: int, *, kind: str = "SOCK_STREAM", seconds: float = 2.0) -> str:
        """What a port says; empty: it cannot be reached."""
        return self.run(_PYTHON, "-c", _ASKING, address, str(port), kind, str(seconds))

    def links(self) -> list[str]:
        return [line.split(": ")[1].partition("@")[0] for line in self.run("ip", "-o", "link").splitlines()]


_PYTHON = "/usr/bin/python3"
_ANSWERING = """
import socket, sys
address, port, kind, word = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, getattr(socket, kind)) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, int(port)))
    if kind == "SOCK_STREAM":
        server.listen()
    print("up", flush=True)
    while True:
        if kind == "SOCK_DGRAM":
            _, peer = server.recvfrom(100)
            server.sendto(f"{word} {peer[0]}".encode(), peer)
            continue
        one, peer = server.accept()
        with one:
            one.recv(100)
            one.sendall(f"{word} {peer[0]}".encode())
"""
_ASKING = """
import socket, sys
address, port, kind, seconds = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, getattr(socket, kind)) as one:
    one.settimeout(float(seconds))
    try:
        one.connect((address, int(port)))
        one.send(b"?")
        print(one.recv(100).decode(), end="")
    except OSError:
        pass
"""


@pytest.fixture(autouse=True)
def _wires() -> Iterator[None]:
    """None is kept open from one test to the next."""
    yield
    elements.close()


@pytest.fixture
def host() -> Iterator[Machine]:
    """On which the bridges and the packet filter are."""
    with Machine() as machine:
        yield machine


@pytest.fixture
def one() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture
def two() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


@pytest.fixture
def outside(host: Machine) -> Iterator[Machine]:
    """Another host on the same wire: 192.0.2.2, and 192.0.2.1 is `host`; fd02::2 and fd02::1."""
    with Machine() as machine:
        host.run(
            "ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(machine.pid)
        )
        for end, number in ((host, 1), (machine, 2)):
            end.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "wire")
            end.run("ip", "addr", "add", f"fd02::{number}/64", "dev", "wire", "nodad")
            # At once also by the link's own addresses, which find out who is where.
            end.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/wire/accept_dad")
            end.run("ip", "link", "set", "wire", "up")
        yield machine
