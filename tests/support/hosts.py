"""A host of an engine's own: a network namespace in which its bridges, its packet filter and its helpers are.

So an engine has the addresses and names that it has by default, whatever the real host and other tests do; and whatever
is left there is its own. A wire leads to another host: 192.0.2.1 to 192.0.2.2, fd02::1 to fd02::2.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from supervisor.kernel import inside
from tests.support import processes
from tests.support.runtimes import Place
from tests.support.user import UserPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.user import User

__all__ = [
    "LONG",
    "HostPlace",
    "Machine",
    "UserHostPlace",
    "clear",
    "elements",
    "helpers",
    "inhabitants",
    "leftovers",
    "wired",
]

OWN = {"lo", "wire"}
T = TypeVar("T")
_PROGRAMS = ("aardvark-dns", "forwarder", "passt", "pasta", "slirp4netns")
PATIENCE = 20.0
"""Seconds in which the last traces have to go: what is idle goes by itself."""
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
            one.sendall(f"{word} {peer[0]}".encode())
            one.recv(100)
"""
_ASKING = """
import socket, sys, time
address, port, kind, seconds = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
deadline = time.monotonic() + float(seconds)
with socket.socket(family, getattr(socket, kind)) as one:
    one.settimeout(float(seconds) if kind == "SOCK_STREAM" else 0.25)
    while True:
        sent = time.monotonic()
        try:
            one.connect((address, int(port)))
            one.send(b"?")
            print(one.recv(100).decode(), end="")
            break
        except OSError:
            if kind == "SOCK_STREAM" or time.monotonic() > deadline:
                break
        time.sleep(max(0, sent + 0.25 - time.monotonic()))
"""
LONG = 10.0
"""Seconds in which whoever is there has answered, however much else a machine has to do."""


class Machine:
    """A network namespace. What runs in it ends with it."""

    def __init__(self, path: str = "") -> None:
        """`path`: where one is that somebody else has made."""
        self._stack = contextlib.ExitStack()
        self._path = path
        self.netns = -1
        self.pid = -1

    def __enter__(self) -> Self:
        argv = ["unshare", "--net", "--kill-child", "--fork", "sh", "-c", "echo up; exec sleep infinity"]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._stack.callback(self._end, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
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

    def words(self, *words: str) -> list[str]:
        return ["nsenter", f"--net={self._path or f'/proc/{self.pid}/ns/net'}", *words]

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=60, check=False)
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
        argv = self.words(_PYTHON, "-c", _ANSWERING, address, str(port), kind, word)
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._stack.callback(self._end, server)
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n", argv

    def asks(self, address: str, port: int, *, kind: str = "SOCK_STREAM", seconds: float = LONG) -> str:
        """What a port says; empty: it cannot be reached. A datagram that is lost is sent again."""
        return self.run(_PYTHON, "-c", _ASKING, address, str(port), kind, str(seconds))

    def links(self) -> list[str]:
        return [line.split(": ")[1].partition("@")[0] for line in self.run("ip", "-o", "link").splitlines()]


class HostPlace(Place):
    """Where programs run as on that host."""

    def __init__(self, host: Machine, around: Place) -> None:
        super().__init__(around.runtime, around.holder)
        self.host = host

    def prefix(self, cwd: str) -> list[str]:
        return [*self.host.words(), *super().prefix(cwd)]


class UserHostPlace(UserPlace):
    """The same for an ordinary user."""

    def __init__(self, host: Machine, user: User) -> None:
        super().__init__(user)
        self.host = host

    def prefix(self, cwd: str) -> list[str]:
        return [*self.host.words(), *super().prefix(cwd)]


@contextlib.contextmanager
def wired(host: Machine) -> Iterator[Machine]:
    """Another host, beside it on a wire."""
    with Machine() as outside:
        words = ("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire")
        host.run(*words, "netns", str(outside.pid))
        for machine, number in ((host, 1), (outside, 2)):
            machine.run("ip", "addr", "add", f"192.0.2.{number}/24", "dev", "wire")
            machine.run("ip", "addr", "add", f"fd02::{number}/64", "dev", "wire", "nodad")
            # At once also by the link's own addresses, which find out who is where.
            machine.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/wire/accept_dad")
            machine.run("ip", "link", "set", "wire", "up")
        yield outside


def inhabitants(host: Machine) -> set[int]:
    """Every process whose network the host's is."""
    return processes.inhabitants(host.netns, "net")


def elements(host: Machine) -> list[str]:
    """What is in the sets and maps of the packet filter: the networks and ports of containers."""
    told = host.run("nft", "--json", "list", "table", "inet", "pyman", check=False)
    tables = [
        table for entry in json.loads(told or '{"nftables": []}')["nftables"] for table in entry.items()
    ]
    return sorted(
        f"{table['name']}: {json.dumps(element)}"
        for kind, table in tables
        if kind in ("set", "map")
        for element in table.get("elem", [])
    )


def clear(host: Machine) -> None:
    """After a test that failed."""
    for name in set(host.links()) - OWN:
        host.run("ip", "link", "del", name, check=False)
    host.run("nft", "delete", "table", "inet", "pyman", check=False)


def leftovers(host: Machine, *directories: Path, idle: bool = False) -> list[str]:
    """What containers have left on a host: interfaces, elements of the packet filter, and helper programs whose command
    line names one of the directories. Waits for what is about to go. `idle`: bridges that nobody is on any more, and
    helper programs, may rest for longer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [f"interface {name}" for name in _strangers(host, idle=idle)]
        found += [f"packet filter: {element}" for element in elements(host)]
        if not idle:
            found += [f"helper {processes.describe(pid)}" for pid in helpers(*directories)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _strangers(host: Machine, *, idle: bool) -> list[str]:
    """Interfaces that are not the host's own. `idle`: without bridges that nobody is on."""
    links = json.loads(host.run("ip", "-json", "-details", "link"))
    used = {link.get("master") for link in links}
    return [
        link["ifname"]
        for link in links
        if link["ifname"] not in OWN
        and not (
            idle and link.get("linkinfo", {}).get("info_kind") == "bridge" and link["ifname"] not in used
        )
    ]


def helpers(*directories: Path) -> dict[int, str]:
    """Helper programs, by pid, whose command line or cgroup names one of the directories."""
    found = {}
    for pid in sorted(processes.mentions(map(str, directories))):
        if words := processes.words(pid):
            name = "forwarder" if "supervisor.network.relay.forwarder" in words else Path(words[0]).name
            if name.startswith(_PROGRAMS):
                found[pid] = name
    return found
