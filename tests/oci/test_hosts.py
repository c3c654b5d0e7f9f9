"""The texts of /etc/hosts and /etc/resolv.conf, of a host that is made up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.spec import ContainerSpec, Namespace
from pyman.errors import InvalidArgument, StorageFailed
from supervisor.kernel import addresses
from supervisor.oci import hosts, resolver
from supervisor.oci.hosts import add_name
from supervisor.oci.imaged import ImageUse
from supervisor.oci.ports import exposed, rows
from supervisor.oci.request import Networking
from tests.oci.support import request, settings

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor.oci.request import BuildRequest


class Host:
    """Its files, and the address by which others find it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(hosts, "HOSTS", made.write("hosts", "127.0.0.1 localhost\n"))
    monkeypatch.setattr(hosts, "first_address", lambda: "192.0.2.99")
    monkeypatch.setattr(resolver, "RESOLV_CONF", f"{tmp_path}/resolv.conf")
    monkeypatch.setattr(resolver, "_NAMED", f"{tmp_path}/netns")
    real = {
        "127.0.0.53": f"{tmp_path}/systemd",
        "127.0.0.1": f"{tmp_path}/manager",
    }
    monkeypatch.setattr(resolver, "_REAL", real)
    return made


def of_hosts(asked: BuildRequest, network: str = "private") -> list[str]:
    return hosts.hosts(asked, network).splitlines()


def of_resolver(network: str, asked: BuildRequest | None = None) -> list[str]:
    return resolver.resolv_conf(asked or request(), network).splitlines()


@pytest.mark.usefixtures("host")
def test_the_container_and_the_host_are_told() -> None:
    assert of_hosts(request()) == [
        "127.0.0.1\tlocalhost",
        "192.0.2.99\thost.containers.internal host.docker.internal",
        "127.0.0.1\tboxhost box",
    ]
    assert of_hosts(request(), "host") == [
        "127.0.0.1\tlocalhost",
        "127.0.0.1\thost.containers.internal host.docker.internal",
    ]


def test_what_the_base_file_knows_stays_as_it_says(host: Host) -> None:
    host.write("hosts", "# all of it\n192.0.2.1 box  other\t# a box\n\n192.0.2.2\n")
    assert of_hosts(request())[:2] == ["192.0.2.1\tbox other", "127.0.0.1\tlocalhost"]
    assert of_hosts(request())[-1] == "127.0.0.1\tboxhost"


def test_a_host_without_an_address_is_not_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del host
    monkeypatch.setattr(hosts, "first_address", lambda: "")
    assert not any("host.containers" in line for line in of_hosts(request()))
    with pytest.raises(InvalidArgument, match="the address of the host is not known"):
        of_hosts(request(hostadd=["a:host-gateway"]))


@pytest.mark.parametrize("kind", ["directory", "fifo", "large", "missing"])
def test_a_base_file_that_is_none_is_told(host: Host, kind: str) -> None:
    path = host.directory / "base"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"\n" * ((1 << 20) + 1))
    with pytest.raises(StorageFailed, match=f"cannot read '{path}'"):
        of_hosts(request(base_hosts_file=str(path)))


def test_a_host_without_a_hosts_file_has_no_names(host: Host) -> None:
    (host.directory / "hosts").unlink()
    assert of_hosts(request())[:2] == ["127.0.0.1\tlocalhost", "::1\tlocalhost"]


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_name_is_added_to_the_file_of_another_one_once(host: Host, end: str) -> None:
    path = host.write("theirs", f"192.0.2.1\town{end}")
    for name in ("guest", "guest", "own"):
        add_name(path, name)
    assert (host.directory / "theirs").read_text() == "192.0.2.1\town\n127.0.0.1\tguest\n"


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver ::1\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", ["192.0.2.1"]),
        ("nameserver 127.3.2.1\nnameserver fe80::1%eth0\n", ["8.8.8.8", "8.8.4.4"]),
        ("# nameserver 192.0.2.1\nnameserver example.org\n", ["8.8.8.8", "8.8.4.4"]),
        ("", ["8.8.8.8", "8.8.4.4"]),
        ("nameserver 127.0.0.53\n", ["192.0.2.53"]),
        ("nameserver 127.0.0.1\n", ["8.8.8.8", "8.8.4.4"]),
    ],
)
def test_another_network_namespace_gets_servers_that_it_reaches(
    host: Host, text: str, wanted: list[str]
) -> None:
    host.write("resolv.conf", text)
    host.write("systemd", "nameserver 192.0.2.53\n")
    assert of_resolver("ns") == [f"nameserver {server}" for server in wanted]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("nameserver 2001:db8::1\n", ["2001:db8::1"]),
        ("nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver ::1\n", ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"]),
    ],
)
def test_who_has_ipv6_gets_servers_that_he_reaches_by_it(host: Host, text: str, wanted: list[str]) -> None:
    host.write("resolv.conf", text)
    asked = msgspec.structs.replace(request(), networking=Networking(ipv6=True))
    assert of_resolver("bridge", asked) == [f"nameserver {server}" for server in wanted]


def test_the_domains_of_networks_come_before_the_hosts(host: Host) -> None:
    host.write("resolv.conf", "search corp.example lab.example\nnameserver 192.0.2.1\n")
    told = Networking(servers=["10.89.0.1"], searches=["dns.podman"])
    for asked, first in (
        ([], ["search dns.podman corp.example lab.example"]),
        (["own.example"], ["search own.example"]),
        (["."], []),
    ):
        on = msgspec.structs.replace(request(dns_search=asked), networking=told)
        assert of_resolver("bridge", on) == [*first, "nameserver 10.89.0.1"]


def test_the_hosts_own_network_has_its_servers(host: Host) -> None:
    text = "nameserver 127.0.0.53\nnameserver fe80::1%eth0\n"
    host.write("resolv.conf", text)
    assert "".join(f"{line}\n" for line in of_resolver("host")) == text


def test_the_last_of_several_lines_counts(host: Host) -> None:
    text = "search one\nsearch two three\noptions a\noptions b c\nnameserver 192.0.2.1\n"
    host.write("resolv.conf", text)
    wanted = ["search two three", "nameserver 192.0.2.1", "options b c"]
    assert of_resolver("ns") == wanted
    assert of_resolver("ns", request(dns_search=["."])) == wanted[1:]


def test_a_named_namespace_has_servers_of_its_own(host: Host) -> None:
    host.write("resolv.conf", "nameserver 192.0.2.1\n")
    host.write("netns/blue/resolv.conf", "nameserver 192.0.2.2\n")
    for path, server in (("/run/netns/blue", 2), ("/run/netns/red", 1), ("/proc/1/ns/blue", 1)):
        asked = request(netns=Namespace("ns", path))
        assert of_resolver("ns", asked) == [f"nameserver 192.0.2.{server}"]


def test_nothing_of_the_host_is_read_where_all_is_given(host: Host) -> None:
    (host.directory / "resolv.conf").mkdir()
    given: dict[str, Any] = {"dns_server": ["192.0.2.1"], "dns_search": ["a"], "dns_option": ["b"]}
    assert of_resolver("ns", request(**given)) == ["search a", "nameserver 192.0.2.1", "options b"]
    with pytest.raises(StorageFailed):
        of_resolver("ns")


def test_configured_servers_do_without_the_word_none(host: Host) -> None:
    host.write("resolv.conf", "nameserver 192.0.2.1\n")
    chosen = settings(dns_servers=("none",))
    assert of_resolver("ns", request(chosen=chosen, dns_search=["a"])) == [
        "search a",
        "nameserver 192.0.2.1",
    ]


@pytest.mark.parametrize(
    "found, wanted",
    [
        (["127.0.0.1", "10.1.2.3"], "10.1.2.3"),
        (["169.254.1.1", "224.0.0.1", "192.0.2.5", "192.0.2.6"], "192.0.2.5"),
        ([], "2001:db8::7"),
    ],
)
def test_the_first_address_that_others_can_use_counts(
    monkeypatch: pytest.MonkeyPatch, found: list[str], wanted: str
) -> None:
    monkeypatch.setattr(addresses, "_ipv4", lambda: found)
    monkeypatch.setattr(addresses, "_ipv6", lambda: [("eth0", "2001:db8::7")])
    assert addresses.first_address() == wanted


def test_an_address_of_ipv6_is_told_without_zone_or_scope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (
        "00000000000000000000000000000001 01 80 10 80 lo\n"
        "20010db8000000000000000000000007 02 40 00 00 eth0\n"
        "fe80000000000000000000000000abcd 02 40 20 80 eth0\n"
    )
    (tmp_path / "if_inet6").write_text(lines)
    monkeypatch.setattr(addresses, "_IPV6", f"{tmp_path}/if_inet6")
    assert addresses._ipv6() == [("eth0", "2001:db8::7")]
    (tmp_path / "if_inet6").unlink()
    assert addresses._ipv6() == []


def test_an_address_that_is_the_containers_too_does_not_lead_to_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_ipv4", lambda: ["127.0.0.1", "192.0.2.2", "10.88.0.1"])
    monkeypatch.setattr(addresses, "_ipv6", lambda: [("eth0", "2001:db8::7")])
    assert addresses.first_address({"192.0.2.2"}) == "10.88.0.1"
    assert addresses.first_address({"192.0.2.2", "10.88.0.1"}) == "2001:db8::7"
    assert addresses.first_address({"192.0.2.2", "10.88.0.1", "2001:db8::7"}) == ""


def test_the_address_of_the_interface_with_the_default_route_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = "0" * 32
    (tmp_path / "ipv6_route").write_text(
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
        f"{zeros} 00 {zeros} 00 fe8{'0' * 28}1 00000400 00000002 00000000 00000003     eth1\n"
    )
    (tmp_path / "route").write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "docker0 00000A0A 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
    )
    monkeypatch.setattr(addresses, "_ROUTES", f"{tmp_path}/route")
    monkeypatch.setattr(addresses, "_ROUTES_IPV6", f"{tmp_path}/ipv6_route")
    monkeypatch.setattr(addresses, "_ipv6", lambda: [("eth0", "2001:db8::7"), ("eth1", "2001:db8::8")])
    assert addresses.outer_address(ipv6=True) == "2001:db8::8"
    assert addresses.outer_address(ipv6=True, interface="eth0") == "2001:db8::7"
    assert addresses.outer_address(ipv6=False) == ""
    assert addresses.outer_address(ipv6=False, interface="lo") == "127.0.0.1"
    assert addresses.outer_address(ipv6=False, interface="nothing0") == ""


def test_ports_of_an_image_may_be_ranges_and_what_is_none_is_left_out() -> None:
    asked = request(expose={"53": ",UDP"})
    image = msgspec.structs.replace(asked.image, ports=["80", "7000-7002/udp", "x/tcp", "0/tcp", "99999/tcp"])
    assert exposed(asked.spec, image) == ["53/tcp", "53/udp", "80/tcp", "7000/udp", "7001/udp", "7002/udp"]
    assert rows(asked.spec, image) == [("tcp", 53, 53), ("tcp", 80, 80), ("udp", 53, 53), ("udp", 7000, 7002)]
    everything = ImageUse(ports=["1-65535/tcp", "0-7/tcp", "80", "9-8"])
    assert rows(ContainerSpec(), everything) == [("tcp", 1, 65535)]


def networked(told: Networking, **asked: Any) -> BuildRequest:
    return msgspec.structs.replace(request(**asked), networking=told)


@pytest.mark.usefixtures("host")
def test_a_host_that_nothing_leads_to_is_not_told() -> None:
    lines = of_hosts(networked(Networking(["192.0.2.99"], host=None)), "pasta")
    assert lines == ["127.0.0.1\tlocalhost", "192.0.2.99\tboxhost box"]
    assert "169.254.1.2\thost.containers.internal host.docker.internal" in of_hosts(
        networked(Networking(["192.0.2.99"], host="169.254.1.2")), "pasta"
    )


def test_a_forwarder_comes_before_the_hosts_servers_and_not_before_ones_own(host: Host) -> None:
    host.write("resolv.conf", "nameserver 127.0.0.9\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    told = Networking(forwarders=["169.254.1.1"])
    assert of_resolver("pasta", networked(told)) == ["nameserver 169.254.1.1", "nameserver 192.0.2.53"]
    assert of_resolver("pasta", networked(Networking(forwarders=["169.254.1.1"], ipv6=True)))[1:] == [
        "nameserver 192.0.2.53",
        "nameserver 2001:db8::53",
    ]
    assert of_resolver("pasta", networked(told, dns_server=["192.0.2.1"])) == ["nameserver 192.0.2.1"]
    host.write("resolv.conf", "nameserver 127.0.0.9\n")
    assert of_resolver("pasta", networked(told)) == ["nameserver 169.254.1.1"]
