"""A program for both ends of a connection: containers and hosts run its text by the system's Python.

serve NAME PORT …               TCP and UDP, IPv4 and IPv6: says `NAME ADDRESS`, the asker's address, then echoes
ask HOST PORT tcp|udp SECONDS   prints what is said; nothing where nobody answers. A datagram, or a question for the name,
                                that is lost is sent again meanwhile
keep HOST PORT                  begins a new connection each moment until its input ends, whatever becomes of the former
                                ones; then prints the longest time in which none was answered, how many were, how many
                                failed, and whether the last one was answered
hold HOST PORT                  sends lines over one connection until its input ends; then prints how many came
                                back, and whether the connection was there to the end
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAUSE = 0.02
AGAIN = 0.25
GIVE_UP = 10.0
"""Seconds after which a connection has failed that nobody has said anything on."""


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def serve(name: str, *ports: str) -> None:
    families = [(socket.AF_INET, "")]
    if os.path.exists("/proc/net/if_inet6"):
        families.append((socket.AF_INET6, "::"))
    selector = selectors.DefaultSelector()
    for port in map(int, ports):
        for family, address in families:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                one = socket.socket(family, kind)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    one.listen(100)
                selector.register(one, selectors.EVENT_READ, kind)
    say("up")
    while True:
        for key, _ in selector.select():
            server = key.fileobj
            assert isinstance(server, socket.socket)
            if key.data == socket.SOCK_DGRAM:
                _, peer = server.recvfrom(100)
                server.sendto(f"{name} {peer[0]}".encode(), peer)
            else:
                accepted, peer = server.accept()
                threading.Thread(target=echo, args=(accepted, f"{name} {peer[0]}\n"), daemon=True).start()


def echo(one: socket.socket, greeting: str) -> None:
    with one:
        try:
            one.sendall(greeting.encode())
            while data := one.recv(1000):
                one.sendall(data)
        except OSError:
            pass


def addresses(host: str, port: int, kind: socket.SocketKind, deadline: float) -> list[tuple[int, Any]]:
    """Families and addresses. OSError: there is no such name, or nobody has said so in time."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    while True:
        try:
            return [(family, address) for family, _, _, _, address in socket.getaddrinfo(host, port, 0, kind)]
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN or time.monotonic() > deadline:
                raise


def asked(host: str, port: str, kind: str, seconds: float) -> str:
    """The first address of the name counts."""
    wanted = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    deadline = time.monotonic() + seconds
    try:
        family, address = addresses(host, int(port), wanted, deadline)[0]
        with socket.socket(family, wanted) as one:
            one.settimeout(max(AGAIN, deadline - time.monotonic()))
            one.connect(address)
            if kind == "udp":
                return said_by_datagram(one, deadline)
            return one.recv(100).decode().strip()
    except OSError:
        return ""


def said_by_datagram(one: socket.socket, deadline: float) -> str:
    """A refusal may be of a way that is not there yet, as the loss of a datagram may. OSError: nobody has answered."""
    one.settimeout(AGAIN)
    while True:
        sent = time.monotonic()
        try:
            one.send(b"?")
            return one.recv(100).decode().strip()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(max(0.0, sent + AGAIN - time.monotonic()))


def ask(host: str, port: str, kind: str, seconds: str) -> None:
    say(asked(host, port, kind, float(seconds)))


def end_of_input() -> threading.Event:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    return over


class Kept:
    """Connections that are begun, and what has become of them."""

    def __init__(self, host: str, port: str) -> None:
        self._family, self._address = addresses(
            host, int(port), socket.SOCK_STREAM, time.monotonic() + GIVE_UP
        )[0]
        self._open: dict[socket.socket, float] = {}
        self._selector = selectors.DefaultSelector()
        self._newest: socket.socket | None = None
        self.answered = self.failed = 0
        self.last_was_answered = False

    def begin(self) -> None:
        one = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._open[one] = time.monotonic()
        self._newest = one
        self.last_was_answered = False
        error = one.connect_ex(self._address)
        if error in (0, errno.EINPROGRESS):
            self._selector.register(one, selectors.EVENT_READ)
        else:
            self._end(one, answered=False)

    def look(self, seconds: float) -> bool:
        """Whether one was answered within the time."""
        before = self.answered
        for key, _ in self._selector.select(seconds):
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                answered = bool(one.recv(100))
            except OSError:
                answered = False
            self._selector.unregister(one)
            self._end(one, answered=answered)
        while self._open and time.monotonic() - next(iter(self._open.values())) > GIVE_UP:
            one = next(iter(self._open))
            self._selector.unregister(one)
            self._end(one, answered=False)
        return self.answered > before

    def _end(self, one: socket.socket, *, answered: bool) -> None:
        del self._open[one]
        one.close()
        self.answered += answered
        self.failed += not answered
        if one is self._newest:
            self.last_was_answered = answered

    def wait(self) -> None:
        """Until something has become of all of them."""
        while self._open:
            self.look(PAUSE)


def keep(host: str, port: str) -> None:
    over, kept = end_of_input(), Kept(host, port)
    longest, last = 0.0, time.monotonic()
    say("up")
    while not over.is_set():
        kept.begin()
        next_one = time.monotonic() + PAUSE
        while (left := next_one - time.monotonic()) > 0:
            if kept.look(left):
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
    longest = max(longest, time.monotonic() - last)
    kept.begin()  # by then all is as it is to stay
    kept.wait()
    say(f"{longest:.3f}", kept.answered, kept.failed, int(kept.last_was_answered))


def hold(host: str, port: str) -> None:
    over = end_of_input()
    count, whole = 0, True
    with socket.create_connection((host, int(port)), GIVE_UP) as one, one.makefile("rwb") as file:
        file.readline()
        say("up")
        while whole and not over.wait(PAUSE):
            try:
                file.write(b"line\n")
                file.flush()
                whole = file.readline() == b"line\n"
            except OSError:
                whole = False
            count += whole
    say(count, int(whole))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
