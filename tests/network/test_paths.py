"""Links and the packet filter together: who reaches whom, and from which address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, links, nft
from supervisor.network.plans import Address, Attachment, NetworkPlan, Port, Route, Subnet
from tests.network.plans import FIRST, SECOND, connected, unless_the_kernel_cannot, with_

if TYPE_CHECKING:
    from tests.support.hosts import Machine


def test_containers_reach_one_another_and_the_host(host: Machine, one: Machine, two: Machine) -> None:
    connected(host, one, FIRST, 2)
    connected(host, two, FIRST, 3)
    two.answers(80, "two")
    assert one.asks("10.1.0.3", 80) == "two 10.1.0.2"
    host.answers(81, "host")
    assert one.asks("10.1.0.1", 81) == "host 10.1.0.2"
    two.answers(82, "six", "::")
    assert one.asks("fd01::3", 82) == "six fd01::2"


def test_what_goes_out_has_the_hosts_address_and_nobody_comes_in(
    host: Machine, one: Machine, outside: Machine
) -> None:
    connected(host, one, FIRST, 2)
    outside.answers(80, "outside")
    assert one.asks("192.0.2.2", 80) == "outside 192.0.2.1"
    outside.answers(81, "six", "::")
    assert one.asks("fd02::2", 81) == "six fd02::1"
    one.answers(80, "one")
    assert outside.asks("192.0.2.1", 80, seconds=0.5) == ""


def test_a_published_port_is_reached_from_everywhere(
    host: Machine, one: Machine, two: Machine, outside: Machine
) -> None:
    """From outside with the true source address; from the host itself, also by 127.0.0.1; from containers, and from the
    container itself."""
    ports = [Port(8080, 80), Port(8081, 80, host_ip="192.0.2.1"), Port(8082, 82)]
    connected(host, one, FIRST, 2, ports)
    connected(host, two, SECOND, 3)
    one.answers(80, "one")
    one.answers(82, "six", "::")
    assert outside.asks("192.0.2.1", 8080) == "one 192.0.2.2"
    assert outside.asks("192.0.2.1", 8081) == "one 192.0.2.2"
    assert outside.asks("fd02::1", 8082) == "six fd02::2"
    assert host.asks("127.0.0.1", 8080) == "one 10.1.0.1"
    assert host.asks("192.0.2.1", 8080).startswith("one ")
    assert host.asks("127.0.0.1", 8081) == ""
    assert two.asks("10.2.0.1", 8080).startswith("one ")
    assert one.asks("10.1.0.1", 8080).startswith("one ")
    assert one.asks("192.0.2.1", 8080).startswith("one ")


def test_ports_of_udp(host: Machine, one: Machine, outside: Machine) -> None:
    connected(host, one, FIRST, 2, [Port(5353, 53, "udp"), Port(5353, 80)])
    one.answers(80, "tcp")
    one.answers(53, "udp", kind="SOCK_DGRAM")
    assert outside.asks("192.0.2.1", 5353, kind="SOCK_DGRAM") == "udp 192.0.2.2"
    assert outside.asks("192.0.2.1", 5353) == "tcp 192.0.2.2"
    assert host.asks("127.0.0.1", 5353, kind="SOCK_DGRAM") == "udp 10.1.0.1"


def test_a_port_ends_with_its_container_and_the_next_one_has_it(
    host: Machine, one: Machine, two: Machine
) -> None:
    ports = [Port(8080, 80)]
    first = connected(host, one, FIRST, 2, ports)
    one.answers(80, "one")
    assert host.asks("127.0.0.1", 8080) == "one 10.1.0.1"
    host.does(lambda: firewall.unpublish([*ports, Port(9, 9)], [first]))
    assert host.asks("127.0.0.1", 8080, seconds=0.5) == ""
    host.does(lambda: firewall.publish(ports, [first]))
    # Nobody has told of its end.
    connected(host, two, FIRST, 3, ports)
    two.answers(80, "two")
    assert host.asks("127.0.0.1", 8080) == "two 10.1.0.1"


def test_the_hosts_own_loopback_is_closed_to_containers(host: Machine, one: Machine) -> None:
    """Though it is open for published ports."""
    connected(host, one, FIRST, 2, [Port(8080, 80)])
    host.answers(80, "host", "127.0.0.1")
    one.run("ip", "addr", "flush", "dev", "lo")
    one.run("ip", "link", "set", "lo", "down")
    one.run("ip", "route", "add", "127.0.0.0/8", "via", "10.1.0.1", check=False)
    one.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", check=False)
    assert one.asks("127.0.0.1", 80, seconds=0.5) == ""


def test_an_internal_network_has_no_way_out(
    host: Machine, one: Machine, two: Machine, outside: Machine
) -> None:
    network = with_(FIRST, internal=True)
    connected(host, one, network, 2)
    connected(host, two, network, 3)
    outside.answers(80, "outside")
    two.answers(80, "two")
    one.run("ip", "route", "add", "default", "via", "10.1.0.1")
    assert one.asks("192.0.2.2", 80, seconds=0.5) == ""
    assert one.asks("10.1.0.3", 80) == "two 10.1.0.2"


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ("", "", True),
        ("true", "", True),
        ("true", "true", False),
        ("strict", "", False),
        ("", "strict", False),
    ],
)
def test_networks_are_isolated_from_one_another(
    host: Machine, one: Machine, two: Machine, first: str, second: str, reached: bool
) -> None:
    connected(host, one, with_(FIRST, isolate=first), 2)
    connected(host, two, with_(SECOND, isolate=second), 3)
    two.answers(80, "two")
    assert one.asks("10.2.0.3", 80, seconds=2 if reached else 0.5) == ("two 10.1.0.2" if reached else "")


def test_two_networks_two_interfaces_and_routes(host: Machine, one: Machine, two: Machine) -> None:
    connected(host, one, FIRST, 2)
    routes = [Route("10.9.0.0/16", "10.2.0.7", 5)]
    second = connected(host, one, with_(SECOND, routes=routes, no_default_route=True), 2, interface="eth1")
    connected(host, two, SECOND, 3)
    two.answers(80, "two")
    assert one.asks("10.2.0.3", 80) == "two 10.2.0.2"
    told = one.run("ip", "route")
    assert "10.9.0.0/16 via 10.2.0.7 dev eth1 proto static metric 5" in told
    assert told.count("default") == 1
    host.does(lambda: links.detach_inside(one.netns, second))
    assert one.links() == ["lo", "eth0"]
    assert second.host_interface not in host.links()


def test_a_bridge_goes_and_comes_again(host: Machine, one: Machine) -> None:
    made = connected(host, one, with_(FIRST, mtu=1400), 2)
    assert [each.name for each in host.does(lambda: links.cleared(FIRST, "another"))] == [made.host_interface]
    assert "mtu 1400" in host.run("ip", "link", "show", "br1")
    assert "mtu 1400" in one.run("ip", "link", "show", "eth0")
    for _ in range(2):
        host.does(lambda: links.detach(made))
        host.does(lambda: links.remove_bridge(FIRST))
        host.does(lambda: firewall.remove_network(FIRST))
    assert host.links() == ["lo"]
    assert one.links() == ["lo"]
    connected(host, one, FIRST, 2)
    assert sorted(host.links()) == ["br1", "lo", made.host_interface]


def test_what_is_done_twice_is_done_once(host: Machine, one: Machine) -> None:
    for _ in range(2):
        connected(host, one, FIRST, 2, [Port(8080, 80)])
    assert one.links() == ["lo", "eth0"]
    assert len(host.links()) == 3


def test_half_of_it_is_undone(host: Machine, one: Machine) -> None:
    """The name of the interface is taken in the container."""
    one.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    with pytest.raises(NetworkFailed, match="cannot connect a container to network 'first': file exists"):
        connected(host, one, FIRST, 2)
    assert sorted(host.links()) == ["br1", "lo"]


@pytest.mark.parametrize(
    ("driver", "mode"), [("macvlan", ""), ("macvlan", "private"), ("ipvlan", ""), ("ipvlan", "l3")]
)
def test_networks_on_an_interface_of_the_host(
    host: Machine, one: Machine, outside: Machine, driver: str, mode: str
) -> None:
    network = NetworkPlan(
        "wired", "3" * 64, driver=driver, interface="wire", mode=mode, subnets=[Subnet("192.0.2.0/24")]
    )
    made = Attachment("wired", network.id, driver=driver, addresses=[Address("192.0.2.9", 24)])
    with pytest.raises(NetworkFailed, match="the host has no interface 'none'"):
        host.does(lambda: links.attach(one.netns, with_(network, interface="none"), made))
    with unless_the_kernel_cannot(host, "ip", "link", "add", "tried", "link", "wire", "type", driver):
        host.does(lambda: links.attach(one.netns, network, made))
        outside.answers(80, "outside")
        assert one.asks("192.0.2.2", 80) == "outside 192.0.2.9"


def test_a_network_in_a_vlan(host: Machine, one: Machine, two: Machine) -> None:
    tried = ("ip", "link", "add", "tried", "type", "bridge", "vlan_filtering", "1")
    with unless_the_kernel_cannot(host, *tried):
        connected(host, one, with_(FIRST, vlan=7), 2)
        connected(host, two, with_(FIRST, vlan=7), 3)
        two.answers(80, "two")
        assert one.asks("10.1.0.3", 80) == "two 10.1.0.2"
        assert '"vlan":7' in host.run("bridge", "-j", "vlan")


def test_the_table_is_made_anew_after_somebody_has_flushed_it(host: Machine, one: Machine) -> None:
    ports = [Port(8080, 80)]
    made = connected(host, one, FIRST, 2, ports)
    one.answers(80, "one")
    host.run("nft", "add", "table", "inet", "other")
    host.run("nft", "flush", "ruleset")
    host.run("nft", "add", "table", "inet", "other")
    assert not host.does(firewall.is_there)
    assert host.asks("127.0.0.1", 8080, seconds=0.5) == ""
    for _ in range(2):
        host.does(lambda: firewall.rebuild([FIRST], [(ports[0], [made])]))
        assert host.asks("127.0.0.1", 8080) == "one 10.1.0.1"
    assert "table inet other" in host.run("nft", "list", "tables")


def test_the_library_says_what_it_does_not_take(host: Machine) -> None:
    with pytest.raises(NetworkFailed, match=r"^cannot set up the packet filter: syntax error"):
        host.does(lambda: nft.run("add element what"))
    with pytest.raises(NetworkFailed, match="No such file"):
        host.does(lambda: nft.run("list table inet pyman"))
