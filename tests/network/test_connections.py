"""Those who go on sending by UDP reach who has the port now."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from supervisor.network.kernel import firewall, links
from supervisor.network.plans import Port
from tests.network.plans import FIRST, attachment, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.hosts import Machine

_ENDS = re.compile(r"(?:src|dst|sport|dport)=(\S+)")
PORTS = [Port(5353, 53, "udp")]


class Sender:
    """From one port, again and again."""

    def __init__(self, machine: Machine) -> None:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind(("0.0.0.0", 40000))  # noqa: S104
            return made

        self.socket = machine.does(make)

    def asks(self, address: str, port: int = 5353) -> str:
        """Once: what goes on is what has been sent already."""
        return self._asks(address, port, 20)

    def is_heard(self, address: str, port: int = 5353) -> bool:
        return bool(self._asks(address, port, 0.3))

    def _asks(self, address: str, port: int, seconds: float) -> str:
        self.socket.settimeout(seconds)
        self.socket.sendto(b"?", (address, port))
        try:
            return self.socket.recv(100).decode().split()[0]
        except OSError:
            return ""


@pytest.fixture
def sender(outside: Machine) -> Iterator[Sender]:
    made = Sender(outside)
    yield made
    made.socket.close()


@pytest.fixture
def own(host: Machine) -> Iterator[Sender]:
    made = Sender(host)
    yield made
    made.socket.close()


def test_a_sender_who_was_there_before_the_container(
    host: Machine, one: Machine, sender: Sender, own: Sender
) -> None:
    made = connected(host, one, FIRST, 2)
    one.answers(53, "one", kind="SOCK_DGRAM")
    assert not sender.is_heard("192.0.2.1")
    assert not own.is_heard("127.0.0.1")
    host.does(lambda: firewall.publish(PORTS, [made]))
    assert sender.asks("192.0.2.1") == "one"
    assert own.asks("127.0.0.1") == "one"


def test_a_sender_whose_container_is_followed_by_another_one(
    host: Machine, one: Machine, two: Machine, sender: Sender, own: Sender
) -> None:
    first = connected(host, one, FIRST, 2, PORTS)
    one.answers(53, "one", kind="SOCK_DGRAM")
    assert (sender.asks("192.0.2.1"), own.asks("127.0.0.1")) == ("one", "one")
    host.does(lambda: firewall.unpublish(PORTS, [first]))
    assert not sender.is_heard("192.0.2.1")
    assert not own.is_heard("127.0.0.1")
    host.does(lambda: links.detach(first))
    connected(host, two, FIRST, 3, PORTS)
    two.answers(53, "two", kind="SOCK_DGRAM")
    assert (sender.asks("192.0.2.1"), own.asks("127.0.0.1")) == ("two", "two")


def test_others_are_not_forgotten(
    host: Machine, one: Machine, two: Machine, outside: Machine, sender: Sender
) -> None:
    """Neither who talks to the same port elsewhere, nor who is led where he should be, nor other ports."""
    connected(host, one, FIRST, 2, PORTS)
    made = connected(host, two, FIRST, 3, [Port(5354, 53, "udp")])
    one.answers(53, "one", kind="SOCK_DGRAM")
    two.answers(53, "two", kind="SOCK_DGRAM")
    outside.answers(5353, "outside", kind="SOCK_DGRAM")
    assert one.asks("192.0.2.2", 5353, kind="SOCK_DGRAM") == "outside 192.0.2.1"
    assert (sender.asks("192.0.2.1"), sender.asks("192.0.2.1", 5354)) == ("one", "two")

    def known() -> set[tuple[str, ...]]:
        """Of UDP: from where to where, and from which port to which."""
        lines = host.run("cat", "/proc/net/nf_conntrack").splitlines()
        return {tuple(_ENDS.findall(line)[:4]) for line in lines if " udp " in line}

    before = known()
    assert len(before) == 3
    host.does(lambda: firewall.publish(PORTS, [attachment(FIRST, 2)]))
    assert known() == before
    host.does(lambda: firewall.unpublish([Port(5354, 53, "udp")], [made]))
    assert before - known() == {("192.0.2.2", "192.0.2.1", "40000", "5354")}
    assert sender.asks("192.0.2.1") == "one"
    host.does(lambda: firewall.unpublish(PORTS, [attachment(FIRST, 7)]))  # which had the port before
    assert ("192.0.2.2", "192.0.2.1", "40000", "5353") in known()
    assert sender.asks("192.0.2.1") == "one"
