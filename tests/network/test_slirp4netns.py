"""The options of slirp4netns, and the real program in an ordinary user's namespaces."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pyman.errors import InvalidArgument, NetworkFailed, PortInUse
from supervisor.network.plans import Port
from supervisor.network.user_mode import duplicates, slirp4netns
from tests.network.user_box import UserBox
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.hosts import Machine

needs_slirp4netns = pytest.mark.skipif(not shutil.which("slirp4netns"), reason="there is no slirp4netns")
HANDLER = "port_handler=slirp4netns"


def test_without_options_it_is_what_podman_begins() -> None:
    words = slirp4netns.arguments(slirp4netns.parse([]), 7, exit_fd=None, forwards=False)
    assert words == [
        *("--configure", "--mtu=65520", "--enable-sandbox", "--enable-seccomp", "--cidr=10.0.2.0/24"),
        *("--disable-host-loopback", "--enable-ipv6", "--netns-type=path", "/proc/self/fd/7", "tap0"),
    ]


def test_every_option_reaches_it() -> None:
    options = slirp4netns.parse(
        [
            *("mtu=1500", "mtu=1400", "cidr=10.5.0.0/16", "allow_host_loopback=true", "enable_ipv6=true"),
            *("outbound_addr=lo", "outbound_addr6=::1", HANDLER),
        ]
    )
    assert slirp4netns.arguments(options, 7, exit_fd=8, forwards=True) == [
        *("--configure", "--mtu=1400", "--enable-sandbox", "--enable-seccomp", "--cidr=10.5.0.0/16"),
        *("--enable-ipv6", "--outbound-addr=lo", "--outbound-addr6=::1", "--exit-fd=8"),
        *("--api-socket=slirp4netns.sock", "--netns-type=path", "/proc/self/fd/7", "tap0"),
    ]
    assert (options.own, options.gateway, options.server) == ("10.5.0.100", "10.5.0.2", "10.5.0.3")
    assert options.port_handler == "slirp4netns"


@pytest.mark.parametrize(
    "word",
    [
        *("", "cidr", "cidr=", "cidr=10.0.2.0", "cidr=10.0.2.0/26", "cidr=fd00::/64", "cidr=0.0.0.0/0"),
        *("mtu=67", "mtu=65522", "mtu=x", "mtu=-1", "enable_ipv6=yes", "allow_host_loopback="),
        *("port_handler=docker", "outbound_addr=nothing0", "outbound_addr=::1", "outbound_addr6=127.0.0.1"),
        *("nonsense=1", "enable_ipv6"),
    ],
)
def test_an_option_that_is_none_is_named(word: str) -> None:
    with pytest.raises(InvalidArgument, match="of slirp4netns"):
        slirp4netns.parse([word])


def test_an_address_of_ipv6_needs_ipv6() -> None:
    with pytest.raises(InvalidArgument, match="enable_ipv6=true"):
        slirp4netns.parse(["enable_ipv6=false", "outbound_addr6=::1"])


def test_ports_that_it_cannot_forward_are_refused() -> None:
    own, other = slirp4netns.parse([HANDLER]), slirp4netns.parse([])
    slirp4netns.check_ports(other, [Port(1, 1, host_ip="::1"), Port(1, 1, "udp")])
    with pytest.raises(InvalidArgument, match="IPv4 alone"):
        slirp4netns.check_ports(own, [Port(1, 1, host_ip="::1")])
    with pytest.raises(InvalidArgument, match="tcp and udp alone"):
        slirp4netns.check_ports(other, [Port(1, 1, "sctp")])


# ------------------------------------------------------------------ the program itself


@pytest.fixture
def box(host: Machine) -> Iterator[UserBox]:
    with UserBox(host) as made:
        yield made


def begin(box: UserBox, *words: str, exit_fd: int | None = None, forwards: bool = False) -> int:
    """Its pid; it is ready."""
    options = slirp4netns.parse(words)
    readable, ready = os.pipe()
    try:
        passed = [box.netns, ready] if exit_fd is None else [box.netns, ready, exit_fd]
        arguments = slirp4netns.arguments(options, box.netns, exit_fd=exit_fd, forwards=forwards)
        former = duplicates.search_no_more(box.netns)
        program = box.begins("slirp4netns", slirp4netns.READY, str(ready), *arguments, pass_fds=passed)
        os.close(ready)
        assert os.read(readable, 1) == b"1"
        duplicates.search_again(box.netns, former)
    finally:
        os.close(readable)
    return program.pid


@needs_slirp4netns
def test_a_container_reaches_others_from_the_hosts_address(box: UserBox, outside: Machine) -> None:
    begin(box)
    assert "10.0.2.100/24" in box.run("ip", "-4", "addr")
    outside.answers(7000, "hello", "192.0.2.2")
    outside.answers(7000, "hello", "192.0.2.2", kind="SOCK_DGRAM")
    assert box.asks("192.0.2.2", 7000) == "hello 192.0.2.1"
    assert box.asks("192.0.2.2", 7000, kind="SOCK_DGRAM") == "hello 192.0.2.1"


@needs_slirp4netns
def test_ipv6_is_there_unless_it_is_not_wanted(box: UserBox) -> None:
    begin(box, "enable_ipv6=false", "cidr=10.7.0.0/24", "mtu=1400")
    assert "inet6 fd" not in box.run("ip", "-6", "addr")
    assert "10.7.0.100/24" in box.run("ip", "-4", "addr")
    assert "mtu 1400" in box.run("ip", "link", "show", "tap0")


@needs_slirp4netns
def test_queries_reach_the_hosts_name_server(box: UserBox, outside: Machine) -> None:
    box.has_server(outside)
    begin(box)
    assert box.asks("10.0.2.3", 53, kind="SOCK_DGRAM").startswith("answer ")


@needs_slirp4netns
def test_the_hosts_loopback_is_reached_only_where_that_is_allowed(box: UserBox, host: Machine) -> None:
    host.answers(7001, "host", "127.0.0.1")
    begin(box, "allow_host_loopback=true")
    assert box.asks("10.0.2.2", 7001).startswith("host ")


@needs_slirp4netns
def test_the_hosts_loopback_is_closed_otherwise(box: UserBox, host: Machine) -> None:
    host.answers(7001, "host", "127.0.0.1")
    begin(box)
    assert box.asks("10.0.2.2", 7001, seconds=0.5) == ""


@needs_slirp4netns
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_ports_that_it_forwards_itself_keep_true_source_addresses(
    box: UserBox, outside: Machine, kind: str
) -> None:
    protocol = "tcp" if kind == "SOCK_STREAM" else "udp"
    begin(box, HANDLER, forwards=True)
    slirp4netns.forward(str(box.directory), [Port(8000, 80, protocol)])
    box.answers(80, "here", kind=kind)
    assert outside.asks("192.0.2.1", 8000, kind=kind) == "here 192.0.2.2"


@needs_slirp4netns
def test_a_port_that_somebody_has_is_named(box: UserBox, host: Machine) -> None:
    host.answers(8000, "mine")
    begin(box, HANDLER, forwards=True)
    with pytest.raises(PortInUse, match="8000/tcp"):
        slirp4netns.forward(str(box.directory), [Port(8000, 80)])


def test_ports_of_one_whose_directory_has_gone_are_no_bug(tmp_path: Path) -> None:
    with pytest.raises(NetworkFailed, match="cannot ask slirp4netns for a port"):
        slirp4netns.forward(str(tmp_path / "gone"), [Port(8000, 80)])


@needs_slirp4netns
def test_it_ends_with_whoever_has_the_other_end_of_its_pipe(box: UserBox) -> None:
    readable, writable = os.pipe()
    pid = begin(box, exit_fd=readable)
    os.close(readable)
    assert processes.alive(pid)
    os.close(writable)
    assert not processes.wait_gone([pid], 20)
