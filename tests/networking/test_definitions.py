"""What a network's definition says, as its containers see it: addresses, routes, sizes of packets, names, drivers."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, HOST6, OUTSIDE, OUTSIDE6, ask

if TYPE_CHECKING:
    from tests.networking.conftest import Net

IDLE = True
CONFIG = """\
[containers]
netns = "private"
[network]
default_subnet = "10.91.0.0/24"
"""
IMPATIENT = ("--dns-option", "timeout:1", "--dns-option", "attempts:1")
"""For who is to find out that a name server does not answer."""


def resolver(net: Net, name: str) -> list[str]:
    return net.engine.out("exec", name, "cat", "/etc/resolv.conf").splitlines()


def test_the_default_network_is_as_configured(net: Net) -> None:
    net.run("a", "--network", "bridge")
    assert net.address("a").startswith("10.91.0.")


def test_private_is_a_network_of_ones_own(net: Net) -> None:
    net.run("a", "--network", "private")
    mode = net.engine.inspect("a")["HostConfig"]["NetworkMode"]
    assert mode == ("pasta" if net.rootless else "bridge")
    assert net.asks("a", OUTSIDE, 7).startswith("outside ")


def test_without_names_containers_have_the_hosts_name_servers_and_reach_one_another(net: Net) -> None:
    net.engine.cli("network", "create", "--disable-dns", "plain")
    net.serve("web", "--network", "plain", "--network-alias", "www")
    net.run("b", "--network", "plain", *IMPATIENT)
    assert net.asks("b", net.address("web")) == f"web {net.address('b')}"
    for name in ("web", "www"):
        assert net.asks("b", name, seconds=1.0) == ""
    gateway = net.address("b").rpartition(".")[0] + ".1"
    assert f"nameserver {gateway}" not in resolver(net, "b")
    assert "search dns.podman" not in resolver(net, "b")


def test_packets_and_routes_are_as_said(net: Net) -> None:
    options = ("--subnet", "10.90.20.0/24", "--route", "10.99.0.0/16,10.90.20.9,7", "--opt", "mtu=1400")
    net.engine.cli("network", "create", *options, "--opt", "metric=30", "n")
    net.serve("a", "--network", "n")
    net.run("b", "--network", "n")
    assert net.engine.out("exec", "a", "cat", "/sys/class/net/eth0/mtu") == "1400"
    routes = [line.strip() for line in net.inside("a", "ip", "route").splitlines()]
    assert "default via 10.90.20.1 dev eth0 proto static metric 30" in routes
    assert "10.99.0.0/16 via 10.90.20.9 dev eth0 proto static metric 7" in routes
    assert net.asks("b", net.address("a")).startswith("a ")
    assert net.asks("b", OUTSIDE, 7).startswith("outside ")


def test_a_network_without_a_default_route_leaves_that_to_another_one(net: Net) -> None:
    net.engine.cli("network", "create", "--opt", "no_default_route=true", "first")
    net.engine.cli("network", "create", "--subnet", "10.90.21.0/24", "second")
    net.run("a", "--network", "first")
    assert "default" not in net.inside("a", "ip", "route")
    net.run("both", "--network", "first", "--network", "second")
    assert net.inside("both", "ip", "route", "show", "default").startswith("default via 10.90.21.1 dev eth1")
    assert net.asks("both", OUTSIDE, 7).startswith("outside ")


def test_addresses_are_of_the_range_and_the_gateway_is_the_one_that_is_said(net: Net) -> None:
    subnet = ("--subnet", "10.90.22.0/24", "--gateway", "10.90.22.200", "--ip-range", "10.90.22.64/30")
    net.engine.cli("network", "create", *subnet, "--subnet", "10.90.23.0/24", "n")
    names = ("a", "b", "c")
    for name in names:
        net.run(name, "--network", "n")
    told = [net.inside(name, "ip", "-4", "-o", "addr", "show", "eth0").split() for name in names]
    addresses = {word for words in told for word in words if "/24" in word}
    assert {each for each in addresses if each.startswith("10.90.22.")} == {
        f"10.90.22.{number}/24" for number in (65, 66, 67)
    }
    assert len(addresses) == 2 * len(names)  # one of each subnet
    assert "default via 10.90.22.200 " in net.inside("a", "ip", "route")
    assert net.asks("a", OUTSIDE, 7).startswith("outside ")
    taken = "network 'n': every address of 10.90.22.0/24 from 10.90.22.65 to 10.90.22.67 is taken"
    assert taken in net.refused("--network", "n")
    net.run("d", "--network", "n:ip=10.90.22.9")  # whoever asks for it has one outside of the range


def test_an_internal_network_has_names_and_asks_nobody_else(net: Net) -> None:
    options = ("--internal", "--ipv6", "--subnet", "10.90.24.0/24", "--subnet", "fd90:24::/64")
    net.engine.cli("network", "create", *options, "inner")
    net.engine.cli("network", "create", "other")
    net.serve("web", "--network", "inner")
    net.run("b", "--network", "inner")
    net.serve("c", "--network", "other")
    assert net.asks("b", "web").startswith("web ")
    assert net.asks("b", net.address("web", family=6)).startswith("web fd90:24::")
    for address in (OUTSIDE, OUTSIDE6, HOST, HOST6):
        assert net.asks("b", address, 7, seconds=0.3) == ""
    assert net.asks("b", net.address("c"), seconds=0.3) == ""


def test_isolation_is_of_ipv6_as_well(net: Net) -> None:
    for number, name in (("1", "first"), ("2", "second")):
        subnets = ("--subnet", f"10.90.3{number}.0/24", "--subnet", f"fd90:3{number}::/64")
        net.engine.cli("network", "create", "--ipv6", "--opt", "isolate=true", *subnets, name)
    net.run("a", "--network", "first")
    net.serve("b", "--network", "second")
    net.run("near", "--network", "second")
    six = net.address("b", family=6)
    assert net.asks("near", six).startswith("b ")
    assert net.asks("a", six, seconds=0.5) == ""
    assert net.asks("a", OUTSIDE6, 7).startswith("outside ")


def test_name_servers_domains_and_options_of_a_container_are_its_own(net: Net) -> None:
    """Those of its networks' containers are still found first."""
    net.engine.cli("network", "create", "n")
    options = ("--dns", "192.0.2.53", "--dns-search", "one.example", "--dns-option", "ndots:3", *IMPATIENT)
    net.serve("web", "--network", "n")
    net.run("a", "--network", "n", *options)
    lines = resolver(net, "a")
    assert lines[0].split()[:2] == ["search", "one.example"]
    assert "options ndots:3 timeout:1 attempts:1" in lines
    assert net.asks("a", "web").startswith("web ")
    net.run("plain", "--network", "bridge", *options)
    assert [line for line in resolver(net, "plain") if line.startswith(("search", "nameserver"))] == [
        "search one.example",
        "nameserver 192.0.2.53",
    ]


def test_a_name_for_the_host_leads_to_it(net: Net) -> None:
    for name, mode in (("bridged", "bridge"), ("programs", "slirp4netns:allow_host_loopback=true")):
        net.run(name, "--network", mode, "--add-host", "gate:host-gateway")
        assert net.asks(name, "gate", 7).startswith("host "), mode


def test_a_port_at_an_address_of_ipv6_is_there_alone(net: Net) -> None:
    subnets = ("--subnet", "10.90.25.0/24", "--subnet", "fd90:25::/64")
    net.engine.cli("network", "create", "--ipv6", *subnets, "dual")
    net.serve("web", "--network", "dual", "-p", f"[{HOST6}]:8080:80", "-p", f"[{HOST6}]:8081:80/udp")
    assert ask(net.outside, HOST6, 8080) == f"web {OUTSIDE6}"
    assert ask(net.outside, HOST6, 8081, "udp") == f"web {OUTSIDE6}"
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    assert net.engine.out("port", "web", "80/tcp") == f"{HOST6}:8080"  # as with Podman


def test_the_way_to_the_host_is_of_udp_as_well(net: Net) -> None:
    net.engine.cli("network", "create", "second")
    for name, network in (("near", "bridge"), ("far", "second")):
        net.run(name, "--network", network)
        assert net.asks(name, "host.containers.internal", 7, "udp").startswith("host "), name


def test_a_container_with_ids_of_its_own_is_on_networks_as_others_are(net: Net) -> None:
    """Its network namespace belongs to its user namespace."""
    own = (
        ("--userns", "keep-id")
        if net.rootless
        else ("--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000")
    )
    net.serve("web", "--network", "bridge", "--user", "0", "-p", "8080:80", *own)
    net.run("b", "--network", "bridge")
    assert net.asks("b", net.address("web")).startswith("web ")
    assert ask(net.outside, HOST, 8080).startswith("web ")
    assert net.asks("web", OUTSIDE, 7).startswith("outside ")
    net.engine.cli("network", "create", "n")
    net.engine.cli("network", "connect", "n", "web")
    net.run("c", "--network", "n")
    assert net.asks("c", "web").startswith("web ")
    net.engine.cli("network", "disconnect", "n", "web")
    assert "eth1" not in net.inside("web", "ip", "-br", "link")


def test_a_guest_that_ends_leaves_the_network_to_its_owner(net: Net) -> None:
    net.serve("owner", "--network", "bridge", "-p", "8080:80")
    for _ in range(2):
        net.engine.cli("run", "--rm", "--network", "container:owner", *net.root, "true")
    net.run("guest", "--network", "container:owner")
    net.engine.cli("rm", "--force", "guest")
    assert ask(net.outside, HOST, 8080).startswith("owner ")
    assert net.asks("owner", OUTSIDE, 7).startswith("outside ")


@pytest.mark.parametrize("module_net", ["user"], indirect=True)
def test_an_ordinary_users_macvlan_is_within_the_sandbox(net: Net) -> None:
    """On no network of the host's, though the interface is called as the host's one."""
    options = ("--driver", "macvlan", "--opt", "parent=wire", "--subnet", "10.90.27.0/24")
    net.engine.cli("network", "create", *options, "lan")
    net.serve("a", "--network", "lan")
    net.run("b", "--network", "lan")
    assert net.asks("b", net.address("a")) == f"a {net.address('b')}"
    assert set(net.host.links()) == {"lo", "wire"}
    net.outside.run("ip", "route", "add", "10.90.27.0/24", "dev", "wire")
    try:
        assert ask(net.outside, net.address("a"), 80, seconds=0.5) == ""
    finally:
        net.outside.run("ip", "route", "del", "10.90.27.0/24")


def test_ports_lead_to_a_bridge_whatever_network_comes_before_it(net: Net) -> None:
    options = ("--driver", "macvlan", "--opt", "parent=wire", "--subnet", "10.90.28.0/24")
    net.engine.cli("network", "create", *options, "--opt", "no_default_route=true", "lan")
    net.serve("a", "--network", "lan", "--network", "podman", "--publish", "8080:80")
    net.serve("b", "--network", "lan", "--publish", "8081:80")
    assert ask(net.outside, HOST, 8080).startswith("a ")
    assert ask(net.outside, HOST, 8081) == ""
    net.engine.cli("network", "disconnect", "podman", "a")
    assert ask(net.outside, HOST, 8080) == ""
    net.engine.cli("network", "connect", "podman", "a")
    assert ask(net.outside, HOST, 8080).startswith("a ")


@pytest.mark.parametrize("module_net", ["user"], indirect=True)
def test_no_server_gives_addresses_in_the_sandbox(net: Net) -> None:
    net.engine.cli("network", "create", "--driver", "macvlan", "--opt", "parent=wire", "lan")
    assert "a DHCP server, and in an ordinary user's sandbox there is none" in net.refused("--network", "lan")


@pytest.mark.parametrize("module_net", ["root"], indirect=True)
class TestRoot:
    """What an ordinary user has nothing for."""

    def test_a_container_on_the_hosts_own_wire(self, net: Net) -> None:
        """With macvlan: it is reached at its own address, and its ports are."""
        options = ("--driver", "macvlan", "--opt", "parent=wire", "--subnet", "192.0.2.0/24")
        net.engine.cli("network", "create", *options, "--gateway", OUTSIDE, "lan")
        net.serve("a", "--network", "lan:ip=192.0.2.77,mac=92:d0:c6:0a:29:34")
        assert ask(net.outside, "192.0.2.77", 80) == f"a {OUTSIDE}"
        assert ask(net.outside, "192.0.2.77", 80, "udp") == f"a {OUTSIDE}"
        assert net.asks("a", OUTSIDE, 7) == "outside 192.0.2.77"
        assert net.engine.out("exec", "a", "cat", "/sys/class/net/eth0/address") == "92:d0:c6:0a:29:34"
        net.engine.cli("restart", "--time", "0", "a")
        net.await_up("a", 2)
        assert ask(net.outside, "192.0.2.77", 80) == f"a {OUTSIDE}"

    @pytest.mark.parametrize(
        ("options", "tried"),
        [
            (
                ("--driver", "ipvlan", "--opt", "parent=wire", "--subnet", "192.0.2.0/24"),
                ("link", "wire", "type", "ipvlan"),
            ),
            (
                ("--subnet", "10.90.26.0/24", "--opt", "vlan=7"),
                ("type", "bridge", "vlan_filtering", "1"),
            ),
        ],
        ids=["ipvlan", "vlan"],
    )
    def test_what_the_kernel_may_not_have_is_used_or_refused_by_name(
        self, net: Net, options: tuple[str, ...], tried: tuple[str, ...]
    ) -> None:
        net.engine.cli("network", "create", *options, "n")
        words = net.host.words("ip", "link", "add", "tried", *tried)
        can = subprocess.run(words, capture_output=True, check=False).returncode == 0
        if not can:
            assert "operation not supported" in net.refused("--network", "n")
            return
        net.host.run("ip", "link", "del", "tried")
        net.serve("a", "--network", "n")
        if "ipvlan" in options:
            assert ask(net.outside, net.address("a"), 80) == f"a {OUTSIDE}"
        else:
            net.run("b", "--network", "n")
            assert net.asks("b", net.address("a")).startswith("a ")
            assert '"vlan":7' in net.host.run("bridge", "-j", "vlan")

    def test_a_port_of_sctp_leads_as_those_of_others_do(self, net: Net) -> None:
        """Looked at in the packet filter: kernels are built without it, and no client speaks it then."""
        net.serve("web", "--network", "bridge", "-p", "8080:80/sctp", "-p", "8080:81")
        told = net.host.run("nft", "list", "map", "inet", "pyman", "publish4")
        assert f"sctp . 8080 : {net.address('web')} . 80" in told
        assert f"tcp . 8080 : {net.address('web')} . 81" in told
        assert net.engine.out("port", "web", "80/sctp") == "0.0.0.0:8080"
        net.engine.cli("stop", "web")
        assert (
            "sctp"
            not in net.host.run("nft", "list", "map", "inet", "pyman", "publish4").partition("elements")[2]
        )
