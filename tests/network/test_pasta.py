"""What pasta is told, and the real program in an ordinary user's namespaces."""

from __future__ import annotations

import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from pyman.errors import InvalidArgument, NotSupported
from supervisor.network.plans import Port
from supervisor.network.user_mode import duplicates, pasta, programs
from tests.network.user_box import UserBox
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.hosts import Machine

needs_pasta = pytest.mark.skipif(not shutil.which("pasta"), reason="there is no pasta")


def arguments(*options: str, ports: Sequence[Port] = (), maps_guest: bool = True) -> list[str]:
    return pasta.set_up(options, ports, maps_guest=maps_guest).arguments


def test_nothing_is_forwarded_that_was_not_asked_for() -> None:
    assert arguments() == [
        *("--config-net", "--dns-forward", "169.254.1.1"),
        *("-t", "none", "-u", "none", "-T", "none", "-U", "none"),
        *("--no-map-gw", "--quiet", "--map-guest-addr", "169.254.1.2"),
    ]


def test_users_options_come_first_and_replace_what_the_engine_would_say() -> None:
    words = arguments(
        *("--map-gw", "-t", "auto", "--udp-ports=53", "-T", "5201", "--dns-forward", "10.0.2.3", "--debug"),
        maps_guest=False,
    )
    assert words == [
        *(
            "--config-net",
            "-t",
            "auto",
            "--udp-ports=53",
            "-T",
            "5201",
            "--dns-forward",
            "10.0.2.3",
            "--debug",
        ),
        *("-U", "none"),
    ]


def test_rows_of_ports_are_told_as_one() -> None:
    ports = [
        Port(8082, 82),
        Port(8080, 80),
        Port(8081, 81),
        Port(8081, 82, host_ip="127.0.0.1"),
        Port(53, 53, "udp"),
        Port(443, 443, host_ip="::1"),
    ]
    words = arguments(ports=ports)
    specs = [(flag, spec) for flag, spec in pairwise(words) if flag in ("-t", "-u")]
    assert specs == [
        ("-t", "8080-8082:80-82"),
        ("-t", "127.0.0.1/8081-8081:82-82"),
        ("-t", "::1/443-443:443-443"),
        ("-u", "53-53:53-53"),
    ]


def test_the_containers_address_is_the_one_asked_for() -> None:
    found = pasta.set_up(["-a", "10.0.2.0", "--ipv4-only"], [], maps_guest=True)
    assert (found.own, found.servers, found.host) == (["10.0.2.0"], ["169.254.1.1"], "169.254.1.2")
    found = pasta.set_up(["--address=fd00::5", "-6", "--dns-forward", "fd00::53"], [], maps_guest=True)
    assert (found.own, found.servers, found.host) == (["fd00::5"], ["fd00::53"], "")


@pytest.mark.parametrize(
    "options", [["--netns", "/x"], ["--pid=/x"], ["-P", "/x"], ["-f"], ["--runas=0"], [""], ["-4"] * 257]
)
def test_what_the_engine_decides_is_refused(options: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="of pasta"):
        pasta.check(options)


def test_other_options_are_left_to_pasta() -> None:
    pasta.check(["-T", "5201", "--mtu=1500", "--map-gw", "-a", "10.0.2.0"])


def test_pasta_forwards_no_sctp() -> None:
    pasta.check_ports([Port(1, 1), Port(1, 1, "udp")])
    with pytest.raises(InvalidArgument, match="tcp and udp alone"):
        pasta.check_ports([Port(80, 80, "sctp")])


# ------------------------------------------------------------------ the program itself


@pytest.fixture
def box(host: Machine, outside: Machine) -> Iterator[UserBox]:
    """On a host whose gateway is `outside`, which is 198.51.100.1 and fd51::1 for those behind it."""
    for gateway, peer, own in (("192.0.2.2", "198.51.100.1", "192.0.2.1"), ("fd02::2", "fd51::1", "fd02::1")):
        host.run("ip", "route", "add", "default", "via", gateway)
        outside.run("ip", "addr", "add", peer, "dev", "lo", *(["nodad"] if ":" in peer else []))
        outside.run("ip", "route", "add", own, "dev", "wire", "src", peer)
    with UserBox(host) as made:
        yield made


def begin(box: UserBox, *options: str, ports: Sequence[Port] = ()) -> int:
    """pasta's pid; it is ready."""
    box.outside("sh", "-c", f"touch netns; mount --bind /proc/{box.pid}/ns/net netns")
    help_text = box.outside("sh", "-c", "pasta --help 2>&1", check=False)
    setup = box.host_does(lambda: pasta.set_up(options, ports, maps_guest=pasta.GUEST_MAP in help_text))
    former = duplicates.search_no_more(box.netns)
    box.outside("pasta", *setup.arguments, "--pid", "pid", "--netns", f"{box.directory}/netns")
    duplicates.search_again(box.netns, former)
    pid = int((box.directory / "pid").read_text())
    box.ends(pid)
    return pid


@needs_pasta
def test_a_container_has_the_hosts_addresses_and_reaches_others(box: UserBox, outside: Machine) -> None:
    before = box.run("cat", "/proc/sys/net/ipv6/conf/default/accept_dad")
    begin(box)
    assert box.run("cat", "/proc/sys/net/ipv6/conf/default/accept_dad") == before != "0\n"
    assert "192.0.2.1/24" in box.run("ip", "-4", "addr")
    assert "fd02::1/64" in box.run("ip", "-6", "addr")
    outside.answers(7000, "hello", "198.51.100.1")
    outside.answers(7000, "six", "fd51::1")
    assert box.asks("198.51.100.1", 7000) == "hello 192.0.2.1"
    assert box.asks("fd51::1", 7000) == "six fd02::1"


@needs_pasta
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_published_port_is_reached_and_the_true_source_address_stays(
    box: UserBox, outside: Machine, host: Machine, kind: str
) -> None:
    protocol = "tcp" if kind == "SOCK_STREAM" else "udp"
    begin(box, ports=[Port(8000, 80, protocol), Port(8001, 8001, protocol, "127.0.0.1")])
    box.answers(80, "all", "::", kind=kind)
    box.answers(8001, "local", kind=kind)
    assert outside.asks("192.0.2.1", 8000, kind=kind) == "all ::ffff:198.51.100.1"
    assert outside.asks("fd02::1", 8000, kind=kind) == "all fd51::1"
    assert outside.asks("192.0.2.1", 8001, kind=kind, seconds=0.5) == ""
    assert host.asks("127.0.0.1", 8001, kind=kind).startswith("local ")


@needs_pasta
def test_queries_reach_the_hosts_name_server(box: UserBox, outside: Machine) -> None:
    box.has_server(outside)
    begin(box)
    assert box.asks("169.254.1.1", 53, kind="SOCK_DGRAM").startswith("answer ")


@needs_pasta
def test_the_gateway_is_the_host_only_where_that_is_asked_for(box: UserBox, host: Machine) -> None:
    host.answers(7001, "host", "127.0.0.1")
    begin(box, "--map-gw")
    assert box.asks("192.0.2.2", 7001).startswith("host ")


@needs_pasta
def test_it_ends_once_the_file_is_gone_that_names_the_namespace(box: UserBox) -> None:
    pid = begin(box)
    assert processes.alive(pid)
    box.outside("umount", "--lazy", "netns")
    box.outside("rm", "netns")
    assert not processes.wait_gone([pid], 20)


def test_where_it_is_not_installed_it_is_said_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)  # noqa: ARG005 - as it is called
    with pytest.raises(NotSupported, match="cannot find the program 'pasta'") as caught:
        programs.find(pasta.PROGRAM, [], package="passt", instead="--network slirp4netns")
    assert caught.value.hint == "install the package passt, or use --network slirp4netns"
