"""Ports of the host: whose they are, while a container has them and after."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed, PermissionDenied, PortInUse
from supervisor.network import ports
from supervisor.network.plans import Port

if TYPE_CHECKING:
    from tests.support.hosts import Machine


def listening(port: int, address: str = "0.0.0.0", protocol: str = "tcp") -> socket.socket:  # noqa: S104
    """As any server does it."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        if protocol == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if protocol == "tcp":
            made.listen()
    except OSError:
        made.close()
        raise
    return made


@pytest.mark.parametrize(
    ("server", "wanted", "named"),
    [
        (("0.0.0.0", "tcp"), Port(80, 1), "80/tcp"),  # noqa: S104
        (("127.0.0.1", "tcp"), Port(80, 1), "80/tcp"),
        (("::1", "tcp"), Port(80, 1), "80/tcp"),
        (("::", "tcp"), Port(80, 1, host_ip="::1"), r"\[::1\]:80/tcp"),
        (("127.0.0.1", "tcp"), Port(80, 1, host_ip="127.0.0.1"), "127.0.0.1:80/tcp"),
        (("127.0.0.1", "udp"), Port(80, 1, "udp"), "80/udp"),
    ],
)
def test_a_port_in_use_is_refused_and_named(
    host: Machine, server: tuple[str, str], wanted: Port, named: str
) -> None:
    def work() -> None:
        with (
            listening(80, *server),
            pytest.raises(PortInUse, match=f"^cannot publish port {named}: it is in use"),
        ):
            ports.claim([Port(81, 1), wanted])
        for held in ports.claim([wanted, Port(81, 1)]):
            held.close()

    host.does(work)
    assert PortInUse.exit_status == 126


@pytest.mark.parametrize("wanted", [Port(80, 1), Port(80, 1, host_ip="127.0.0.1"), Port(80, 1, "udp")])
def test_nobody_else_has_a_port_that_is_held(host: Machine, wanted: Port) -> None:
    def work() -> None:
        (held,) = ports.claim([wanted])
        with held:
            with pytest.raises(OSError, match="in use"):
                listening(80, "127.0.0.1", wanted.protocol)
            for _ in range(2):
                with pytest.raises(PortInUse):
                    ports.claim([wanted])
        listening(80, "127.0.0.1", wanted.protocol).close()

    host.does(work)


def test_different_addresses_protocols_and_families_do_not_meet(host: Machine) -> None:
    wanted = [
        *(Port(80, 1, host_ip=address) for address in ("0.0.0.0", "::")),  # noqa: S104
        *(Port(81, 1, host_ip=address) for address in ("127.0.0.1", "127.0.0.2", "::1")),
        *(Port(82, 1, protocol) for protocol in ("tcp", "udp", "sctp")),
    ]

    def work() -> None:
        with ExitStack() as stack:
            for held in ports.claim(wanted):
                stack.enter_context(held)
            listening(80, "127.0.0.1", "udp").close()
            listening(81, "127.0.0.3").close()

    host.does(work)


def test_connections_that_have_ended_keep_nobody_out_and_a_held_port_refuses_new_ones(host: Machine) -> None:
    def work() -> None:
        with listening(80) as server, socket.create_connection(("127.0.0.1", 80)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
        (held,) = ports.claim([Port(80, 1)])
        with held:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 80))
            with pytest.raises(OSError, match="in use"):
                listening(80)

    host.does(work)


def test_what_comes_to_a_held_port_takes_no_memory(host: Machine) -> None:
    def work() -> None:
        (held,) = ports.claim([Port(80, 1, "udp")])
        with held, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(100):
                client.sendto(bytes(1000), ("127.0.0.1", 80))
            held.setblocking(False)
            came = []
            with suppress(BlockingIOError):
                while True:
                    came.append(held.recv(2000))
            assert len(came) <= 4

    host.does(work)


def test_an_address_that_the_host_does_not_have_is_refused_and_named(host: Machine) -> None:
    with pytest.raises(NetworkFailed, match=r"port 192\.0\.2\.7:80/tcp: the host does not have that address"):
        host.does(lambda: ports.claim([Port(80, 1, host_ip="192.0.2.7")]))


def test_no_more_than_a_bounded_number_is_held_and_all_are_looked_at(host: Machine) -> None:
    wanted = [Port(number, number) for number in range(1000, 1000 + ports.MOST_HELD + 5)]

    def work() -> None:
        with ExitStack() as stack:
            held = [stack.enter_context(each) for each in ports.claim(wanted)]
            assert len(held) == ports.MOST_HELD
        with listening(wanted[-1].host_port), pytest.raises(PortInUse):
            ports.claim(wanted)

    host.does(work)


def test_a_free_port_is_chosen_and_rows_of_them(host: Machine) -> None:
    def work() -> None:
        seen: set[int] = set()
        for protocol in ("tcp", "udp", "sctp"):
            for count in (1, 20):
                first = ports.choose(protocol, "", count, seen.__contains__)
                ports.probe(Port(number, 1, protocol) for number in range(first, first + count))
                assert not seen & {*range(first, first + count)}
                seen |= {*range(first, first + count)}
        with pytest.raises(NetworkFailed, match="no port is free"):
            ports.choose("tcp", "", 1, lambda _number: True)
        with pytest.raises(NetworkFailed, match="no 60000 ports in a row are free"):
            ports.choose("udp", "", 60000, lambda _number: False)

    host.does(work)


def test_low_ports_are_for_root(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_self: object, _address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refusing)
    with pytest.raises(
        PermissionDenied, match=r"80/tcp: ports below 1024 are for root: .*unprivileged_port_start"
    ):
        host.does(lambda: ports.claim([Port(80, 1)]))
