"""A program for both ends of a connection: containers and hosts run its text by the system's Python.

serve NAME PORT …               TCP and UDP, IPv4 and IPv6: says `NAME ADDRESS`, the asker's address, then echoes
ask HOST PORT tcp|udp SECONDS   prints what is said; nothing where nobody answers
keep HOST PORT                  asks again and again until its input ends; then prints the longest time without an
                                answer, how many there were, and whether the last question had one
hold HOST PORT                  sends lines over one connection until its input ends; then prints how many came
                                back, and whether the connection was there to the end
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
import time

PAUSE = 0.01


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


def asked(host: str, port: str, kind: str, seconds: float) -> str:
    """The first address of the name counts."""
    wanted = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), 0, wanted)[0]
        with socket.socket(family, wanted) as one:
            one.settimeout(seconds)
            one.connect(address)
            if kind == "udp":
                one.send(b"?")
            return one.recv(100).decode().strip()
    except OSError:
        return ""


def ask(host: str, port: str, kind: str, seconds: str) -> None:
    say(asked(host, port, kind, float(seconds)))


def end_of_input() -> threading.Event:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    return over


def keep(host: str, port: str) -> None:
    over = end_of_input()
    count, answered = 0, False
    longest, last = 0.0, time.monotonic()
    say("up")
    while not over.wait(PAUSE):
        if answered := bool(asked(host, port, "tcp", 0.2)):
            count += 1
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
    say(f"{max(longest, time.monotonic() - last):.3f}", count, int(answered))


def hold(host: str, port: str) -> None:
    over = end_of_input()
    count, whole = 0, True
    with socket.create_connection((host, int(port)), 2) as one, one.makefile("rwb") as file:
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
