"""The forwarder: ports of one network namespace lead into another one, which it cannot reach."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed
from supervisor.network import sandbox
from supervisor.network.relay import forwarding
from tests.support.served import PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hosts import Machine


class Led:
    """A forwarder into a namespace; the ports are this machine's own loopback."""

    def __init__(self, host: Machine, directory: Path, *, transparent: bool = False) -> None:
        self.path = str(directory / "control")
        with forwarding.listen(self.path) as control:
            argv = forwarding.command(self.path, control.fileno(), transparent=transparent)
            self.process = host.does(lambda: subprocess.Popen(argv, pass_fds=[control.fileno()]))

    def lead(
        self, key: str, target: tuple[str, int], *, host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM
    ) -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as port:
            port.bind((host, 0))
            forwarding.lead(self.path, key, [port], [([target[0]], target[1])])
            return int(port.getsockname()[1])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def led(host: Machine, tmp_path: Path) -> Iterator[Led]:
    made = Led(host, tmp_path)
    yield made
    made.close()


def ask(port: int, host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as one:
        one.settimeout(20)
        one.connect((host, port))
        if kind == socket.SOCK_DGRAM:
            one.send(b"?")
        return one.recv(100).decode()


@pytest.fixture
def served(host: Machine) -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Serve one connection in the namespace by a function: the port."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def serve(work: Callable[[socket.socket], None]) -> int:
        listener = host.does(lambda: socket.create_server(("127.0.0.1", 0)))
        listeners.append(listener)

        def one() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                work(connection)

        thread = threading.Thread(target=one)
        thread.start()
        threads.append(thread)
        return int(listener.getsockname()[1])

    yield serve
    for listener in listeners:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_leads_into_the_namespace(led: Led, host: Machine, kind: str, address: str) -> None:
    host.answers(80, "inside", address, kind=kind)
    for outside in ("127.0.0.1", "::1"):
        port = led.lead("one", (address, 80), host=outside, kind=getattr(socket, kind))
        for _ in range(3):
            assert ask(port, outside, getattr(socket, kind)) == f"inside {address}"


def test_both_directions_carry_megabytes_and_half_a_close(
    led: Led, served: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    sent = os.urandom(1 << 16) * 80

    def echo(connection: socket.socket) -> None:
        received = bytearray()
        while chunk := connection.recv(1 << 16):
            received += chunk
        connection.sendall(received)

    port = led.lead("one", ("127.0.0.1", served(echo)))
    with socket.create_connection(("127.0.0.1", port), 20) as one:
        one.sendall(sent)
        one.shutdown(socket.SHUT_WR)
        received = bytearray()
        while chunk := one.recv(1 << 16):
            received += chunk
    assert received == sent


def test_one_that_does_not_read_holds_up_nobody(
    led: Led, host: Machine, served: Callable[[Callable[[socket.socket], None]], int]
) -> None:
    wait, ended = threading.Event(), threading.Event()

    def hold(_: socket.socket) -> None:
        wait.wait(60)
        ended.set()

    slow = led.lead("one", ("127.0.0.1", served(hold)))
    host.answers(80, "quick")
    quick = led.lead("two", ("127.0.0.1", 80))
    with socket.create_connection(("127.0.0.1", slow), 20) as one:
        try:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.send(bytes(1 << 20))
            assert ask(quick) == "quick 127.0.0.1"
            assert not ended.is_set()
        finally:
            wait.set()


def test_who_cannot_be_reached_is_a_broken_connection(led: Led) -> None:
    port = led.lead("one", ("127.0.0.1", 9))
    with pytest.raises(ConnectionResetError):
        ask(port)


def test_a_reset_is_passed_on(led: Led, served: Callable[[Callable[[socket.socket], None]], int]) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    port = led.lead("one", ("127.0.0.1", served(reset)))
    with socket.create_connection(("127.0.0.1", port), 20) as one:
        one.send(b"x")
        with pytest.raises(ConnectionResetError):
            one.recv(1)


def test_what_is_dropped_refuses_although_somebody_holds_the_socket(led: Led, host: Machine) -> None:
    host.answers(80, "inside")
    number = PORT + 63  # the kernel lets go of one that it has chosen itself as soon as nobody listens
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", number))
        forwarding.lead(led.path, "one", [port], [(["127.0.0.1"], 80)])
        assert forwarding.summary(led.path, "one") == forwarding.summary_of([(["127.0.0.1"], 80)])
        assert ask(number) == "inside 127.0.0.1"
        forwarding.drop(led.path, "one")
        assert forwarding.summary(led.path, "one") == (0, 0)
        with pytest.raises(ConnectionRefusedError):
            ask(number)
        # It is the same socket that is led again, as after a forwarder's end.
        forwarding.lead(led.path, "one", [port], [(["127.0.0.1"], 80)])
        assert ask(number) == "inside 127.0.0.1"


def test_who_connects_while_there_is_no_forwarder_waits_for_the_next(host: Machine, tmp_path: Path) -> None:
    host.answers(80, "inside")
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(socket.socket())
        port.bind(("127.0.0.1", 0))
        first = Led(host, tmp_path)
        stack.callback(first.close)
        forwarding.lead(first.path, "one", [port], [(["127.0.0.1"], 80)])
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        waiting = stack.enter_context(socket.create_connection(port.getsockname(), 20))
        with pytest.raises(NetworkFailed, match="does not answer"):
            forwarding.summary(first.path, "one")
        second = Led(host, tmp_path)
        stack.callback(second.close)
        forwarding.lead(second.path, "one", [port], [(["127.0.0.1"], 80)])
        assert waiting.recv(100) == b"inside 127.0.0.1"


def test_a_thousand_ports_are_led_at_once(led: Led, host: Machine) -> None:
    host.answers(80, "inside")
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(1000)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        forwarding.lead(led.path, "one", ports, [(["127.0.0.1"], 80)] * len(ports))
        numbers = [port.getsockname()[1] for port in ports]
    assert forwarding.summary(led.path, "one") == forwarding.summary_of([(["127.0.0.1"], 80)] * 1000)
    assert {ask(number) for number in numbers[::100]} == {"inside 127.0.0.1"}


def test_bad_messages_are_refused_and_harm_nobody(led: Led, host: Machine) -> None:
    host.answers(80, "inside")
    port = led.lead("one", ("127.0.0.1", 80))
    for message in (
        b"{",
        b"[]",
        b'{"do": "fly"}',
        b'{"do": "lead", "key": "x", "targets": [[["a"], 1]]}',
        b'{"do": "lead", "key": "x", "mark": 1, "targets": [[[], 1]]}',
        b'{"do": "lead", "key": "x", "mark": 1, "targets": [[["127.0.0.1"], 65536]]}',
        b'{"do": "lead", "key": "x", "mark": 1, "targets": [[["127.0.0.1"], "80"]]}',
        b"{}",
        b"[" * 100_000,
    ):
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller,
            bound(0, "127.0.0.1", socket.SOCK_STREAM) as free,
        ):
            caller.connect(led.path)
            socket.send_fds(caller, [message], [free.fileno()])
            assert b"error" in caller.recv(1000)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller,
        bound(0, "127.0.0.1", socket.SOCK_STREAM) as free,
        open(os.devnull, "rb") as file,  # which is no socket
    ):
        caller.connect(led.path)
        socket.send_fds(caller, [b"{}"], [free.fileno(), file.fileno(), free.fileno()])
        assert b"error" in caller.recv(1000)
    with socket.socket() as unbound, pytest.raises(NetworkFailed):
        forwarding.lead(led.path, "two", [unbound], [(["no address"], 1)])
    assert forwarding.summary(led.path, "one") == forwarding.summary_of([(["127.0.0.1"], 80)])
    assert ask(port) == "inside 127.0.0.1"


def test_it_has_no_rights(led: Led) -> None:
    forwarding.summary(led.path, "one")
    with open(f"/proc/{led.process.pid}/status", encoding="ascii") as file:
        status = dict(line.split(":\t") for line in file.read().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("family", ["4", "6"])
def test_a_container_sees_the_clients_own_address(
    host: Machine, outside: Machine, one: Machine, two: Machine, tmp_path: Path, kind: str, family: str
) -> None:
    """`two` is the sandbox, which knows neither `host` nor `outside`; `one` is a container in it."""
    two.run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "eth0", "netns", str(one.pid))
    for end, name, number in ((two, "br0", 1), (one, "eth0", 2)):
        end.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_dad")
        end.run("ip", "addr", "add", f"10.7.0.{number}/24", "dev", name)
        end.run("ip", "addr", "add", f"fd07::{number}/64", "dev", name, "nodad")
        end.run("ip", "link", "set", name, "up")
    one.run("ip", "route", "add", "default", "via", "10.7.0.1")
    one.run("ip", "-6", "route", "add", "default", "via", "fd07::1")
    inside, here, peer = (
        ("10.7.0.2", "192.0.2.1", "192.0.2.2") if family == "4" else ("fd07::2", "fd02::1", "fd02::2")
    )
    # Of the other family: of a container's addresses a client gets the one of its own.
    nowhere = ["fd07::9"] if family == "4" else ["10.7.0.9"]
    one.answers(80, "inside", inside, kind=kind)
    two.does(sandbox.lead_back)
    two.does(sandbox.lead_back)
    led = Led(two, tmp_path, transparent=True)
    try:
        for number, address in ((8080, "::"), (8081, here)):  # of both families, and of its own
            with host.does(lambda: bound(number, address, getattr(socket, kind))) as port:  # noqa: B023 - at once
                forwarding.lead(led.path, "one", [port], [([*nowhere, inside], 80)])
            for _ in range(2):
                assert outside.asks(here, number, kind=kind) == f"inside {peer}"
            # The host's loopback address is another machine's to the container: it sees the sandbox's.
            if (family, address) == ("4", "::"):
                assert host.asks("127.0.0.1", number, kind=kind) == "inside 10.7.0.1"
    finally:
        led.close()


def bound(number: int, address: str, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    if address == "::":
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((address, number))
    return made
