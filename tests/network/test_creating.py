"""What becomes of a wish for a network: Podman's rules, and refusals that name what is wrong."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.api.network import CreateNetworkRequest, Network, Route, Subnet, SubnetWish
from pyman.errors import InvalidArgument, NameInUse
from supervisor.network.definitions.creating import Surroundings, define
from supervisor.network.definitions.directory import default_network
from supervisor.network.definitions.live import Live
from supervisor.settings.model import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

ID = "ab" * 32
TIME = "2026-01-02T03:04:05Z"
SETTINGS = NetworkSettings()


def made(
    *networks: Network,
    interfaces: Sequence[str] = ("lo", "eth0"),
    host: Sequence[tuple[str, str]] = (("eth0", "192.0.2.0/24"),),
    ways: Sequence[str] = (),
    damaged: Sequence[str] = (),
    **wish: Any,
) -> Network:
    there = {each.name: each for each in (default_network(SETTINGS, TIME), *networks)}
    live = Live(
        tuple(interfaces),
        tuple((name, ip_network(text)) for name, text in host),
        tuple(map(ip_network, ways)),
    )
    around = Surroundings(there, damaged, live, SETTINGS.default_subnet_pools)
    return define(CreateNetworkRequest(**wish), around, ID, TIME)


def other(name: str, bridge: str, *subnets: str, **fields: Any) -> Network:
    return Network(name, "cd" * 32, network_interface=bridge, subnets=[*map(Subnet, subnets)], **fields)


def texts(network: Network) -> list[str]:
    return [each.subnet for each in network.subnets]


def test_a_network_that_says_nothing_gets_everything() -> None:
    assert made() == Network(
        name="podman1",
        id=ID,
        driver="bridge",
        network_interface="podman1",
        created=TIME,
        subnets=[Subnet("10.89.0.0/24", "10.89.0.1")],
        dns_enabled=True,
        ipam_options={"driver": "host-local"},
    )


def test_names_are_the_first_that_neither_a_network_nor_a_bridge_nor_an_interface_has() -> None:
    network = made(
        other("podman1", "br1"), other("x", "podman2"), interfaces=["podman3"], damaged=["podman4"]
    )
    assert (network.name, network.network_interface) == ("podman5", "podman5")
    assert made(name="mine").network_interface == "podman1"
    assert made(network_interface="br9").network_interface == "br9"


def test_a_chosen_subnet_keeps_clear_of_networks_the_host_and_its_routes() -> None:
    network = made(
        other("x", "br1", "10.89.0.0/24"),
        host=[("tun0", "10.89.1.0/24")],
        ways=["10.89.2.0/23"],
    )
    assert texts(network) == ["10.89.4.0/24"]
    # A route to all private networks leaves nothing else.
    assert texts(made(ways=["10.0.0.0/8"])) == ["10.89.0.0/24"]
    with pytest.raises(InvalidArgument, match="cannot find a free subnet"):
        made(host=[("eth0", "10.0.0.0/8")])


def test_dual_stack_adds_what_is_missing() -> None:
    both = made(ipv6_enabled=True)
    assert texts(both)[0] == "10.89.0.0/24"
    assert texts(both)[1].startswith("fd")
    assert [each.gateway for each in both.subnets][1].endswith("::1")
    six = made(ipv6_enabled=True, subnets=[SubnetWish("fd00::/64")])
    assert texts(six) == ["fd00::/64", "10.89.0.0/24"]
    four = made(ipv6_enabled=True, subnets=[SubnetWish("10.5.0.0/24")])
    assert len(four.subnets) == 2
    assert four.subnets[0].subnet == "10.5.0.0/24"
    alone = made(subnets=[SubnetWish("fd00::/64")])
    assert (texts(alone), alone.ipv6_enabled) == (["fd00::/64"], True)


def test_an_internal_network_without_names_has_no_gateway() -> None:
    assert made(internal=True).subnets[0].gateway == "10.89.0.1"
    assert made(internal=True, dns_enabled=False).subnets[0].gateway == ""
    wish = SubnetWish("10.5.0.0/24", gateway="10.5.0.9")
    assert made(internal=True, dns_enabled=False, subnets=[wish]).subnets[0].gateway == "10.5.0.9"


def test_options_are_written_as_netavark_reads_them() -> None:
    options = {
        "isolate": "1",
        "no_default_route": "T",
        "mtu": "1400",
        "metric": "7",
        "vlan": "5",
        "vrf": "blue",
    }
    assert made(options=options).options == {**options, "isolate": "true", "no_default_route": "true"}
    assert made(options={"isolate": "strict"}).options == {"isolate": "strict"}
    docker = made(options={"com.docker.network.driver.mtu": "9000", "com.docker.network.bridge.name": "br7"})
    assert (docker.options, docker.network_interface) == ({"mtu": "9000"}, "br7")


def test_macvlan_and_ipvlan_are_on_an_interface_of_the_host_and_have_no_names() -> None:
    network = made(driver="macvlan", options={"parent": "eth0", "mode": "vepa", "bclim": "-1"})
    assert (network.network_interface, network.dns_enabled) == ("eth0", False)
    assert network.options == {"mode": "vepa", "bclim": "-1"}
    assert (network.ipam_options, network.subnets) == ({"driver": "dhcp"}, [])
    given = made(driver="macvlan", subnets=[SubnetWish("192.0.2.0/24")])
    assert given.ipam_options == {"driver": "host-local"}
    # It is the host's own network: no bridge is in its way.
    assert given.subnets == [Subnet("192.0.2.0/24", "192.0.2.1")]
    ipvlan = made(driver="ipvlan", subnets=[SubnetWish("192.0.2.0/24")], options={"mode": "l3s"})
    assert (ipvlan.driver, ipvlan.options) == ("ipvlan", {"mode": "l3s"})
    assert made(driver="ipvlan", ipam_driver="none").ipam_options == {"driver": "none"}


def test_without_addresses_there_are_no_names() -> None:
    network = made(ipam_driver="none")
    assert (network.subnets, network.dns_enabled) == ([], False)
    assert made(ipam_driver="dhcp").subnets == []


def test_networks_that_differ_by_their_vlan_share_a_bridge() -> None:
    there = other("x", "br1")
    assert made(there, network_interface="br1", options={"vlan": "7"}).network_interface == "br1"
    with pytest.raises(InvalidArgument, match="it is that of network 'x'"):
        made(there, network_interface="br1")


@pytest.mark.parametrize(
    ("internal", "said"), [(True, "internal, and this"), (False, "not internal, and this")]
)
def test_networks_on_one_bridge_are_all_internal_or_none(*, internal: bool, said: str) -> None:
    """What the packet filter has of an internal bridge would cut off the other network."""
    there = msgspec.structs.replace(other("x", "br1"), internal=internal)
    wish: dict[str, Any] = {"network_interface": "br1", "options": {"vlan": "7"}}
    assert made(there, **wish, internal=internal).internal is internal
    with pytest.raises(InvalidArgument, match=f"'br1': it is that of network 'x', which is {said} one is"):
        made(there, **wish, internal=not internal)
    unmanaged = {"vlan": "7", "mode": "unmanaged"}
    with pytest.raises(InvalidArgument, match="it is that of network 'x'"):
        made(there, network_interface="br1", options=unmanaged, internal=not internal)
    theirs = msgspec.structs.replace(there, options=unmanaged)
    assert (
        made(theirs, network_interface="br1", options=unmanaged, internal=not internal).internal
        is not internal
    )


def test_a_bridge_that_somebody_else_manages_has_the_subnet_already() -> None:
    wish: dict[str, Any] = {"network_interface": "br0", "subnets": [SubnetWish("10.5.0.0/24")]}
    there: dict[str, Any] = {"interfaces": ["br0"], "host": [("br0", "10.5.0.0/24")]}
    assert texts(made(**there, **wish, options={"mode": "unmanaged"})) == ["10.5.0.0/24"]
    with pytest.raises(InvalidArgument, match="the host's interface 'br0' has"):
        made(**there, **wish)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"driver": "weave"}, "cannot use the network driver 'weave': there are bridge, macvlan, ipvlan"),
        ({"name": "-x"}, "cannot use the name '-x' for a network"),
        ({"name": "a/b"}, "cannot use the name 'a/b' for a network"),
        ({"name": "x" * 201}, "for a network"),
        ({"name": "host"}, "--network has another meaning for it"),
        ({"network_interface": "br/0"}, "cannot use the name of a bridge 'br/0'"),
        ({"network_interface": "sixteen-letters-"}, "cannot use the name of a bridge 'sixteen-letters-'"),
        ({"subnets": [SubnetWish("10.5.0.0")]}, "cannot use the subnet '10.5.0.0': it is not in CIDR notation"),
        ({"subnets": [SubnetWish("10.88.3.0/24")]}, "cannot use the subnet '10.88.3.0/24': network 'podman' has '10.88.0.0/16'"),
        ({"subnets": [SubnetWish("192.0.2.0/25")]}, "'192.0.2.0/25': the host's interface 'eth0' has '192.0.2.0/24'"),
        ({"subnets": [SubnetWish("10.5.0.0/16"), SubnetWish("10.5.3.0/24")]}, "overlaps the subnet '10.5.0.0/16' of the same"),
        ({"subnets": [SubnetWish("10.5.0.0/16"), SubnetWish("10.5.0.0/16")]}, "overlaps"),
        ({"subnets": [SubnetWish("10.5.0.0/24", "10.6.0.1")]}, "gateway '10.6.0.1': it is not in the subnet"),
        ({"subnets": [SubnetWish("10.5.0.0/24", ip_range="10.6.0.0/25")]}, "range's start '10.6.0.1': it is not in the subnet"),
        ({"subnets": [SubnetWish("10.5.0.0/24", ip_range="10.5.0.9-x")]}, "end of a range 'x'"),
        ({"routes": [Route("10.9.0.1/24", "10.89.0.2")]}, "'10.9.0.1/24': that is an address in the network '10.9.0.0/24'"),
        ({"routes": [Route("10.9.0.0/24", "")]}, "cannot use the gateway of a route ''"),
        ({"routes": [Route("10.9.0.0/24", "fd00::1")]}, "they are of different kinds"),
        ({"routes": [Route("10.9.0.0/24", "10.0.0.1", 1 << 32)]}, "cannot use the metric 4294967296"),
        ({"options": {"mtu": "67"}}, "'mtu=67' of a network: it is not a whole number from 68 to 65535"),
        ({"options": {"mtu": "x"}}, "'mtu=x'"),
        ({"options": {"vlan": "4095"}}, "'vlan=4095'"),
        ({"options": {"isolate": "yes"}}, "it is not true, false or strict"),
        ({"options": {"metric": "-1"}}, "'metric=-1'"),
        ({"options": {"no_default_route": ""}}, "it is not true or false"),
        ({"options": {"vrf": ""}}, "it is not the name of an interface"),
        ({"options": {"mode": "l2"}}, "it is not one of managed, unmanaged"),
        ({"options": {"bclim": "1"}}, "cannot use the option 'bclim' for a network of the driver bridge"),
        ({"options": {"parent": "eth0"}}, "cannot use the option 'parent'"),
        ({"options": {"com.docker.network.bridge.name": "a"}, "network_interface": "b"}, "cannot use both 'a' and 'b'"),
        ({"driver": "macvlan", "options": {"mode": "l2"}}, "it is not one of bridge, private, vepa, passthru"),
        ({"driver": "macvlan", "options": {"vlan": "2"}}, "cannot use the option 'vlan' for a network of the driver macvlan"),
        ({"driver": "macvlan", "options": {"bclim": "1.5"}}, "'bclim=1.5'"),
        ({"driver": "macvlan", "options": {"parent": "eth7"}}, "the host has no interface 'eth7'"),
        ({"driver": "macvlan", "ipam_driver": "host-local"}, "without a subnet"),
        ({"driver": "macvlan", "network_dns_servers": ["1.1.1.1"]}, "it has name servers, but no names"),
        ({"driver": "ipvlan"}, "cannot use the IPAM driver 'dhcp' for a network of the driver ipvlan"),
        ({"driver": "ipvlan", "options": {"bclim": "1"}}, "cannot use the option 'bclim'"),
        ({"ipam_driver": "x"}, "cannot use the IPAM driver 'x': there are host-local, dhcp and none"),
        ({"ipam_driver": "none", "subnets": [SubnetWish("10.5.0.0/24")]}, "'none' together with subnets"),
        ({"ipam_driver": "dhcp", "subnets": [SubnetWish("10.5.0.0/24")]}, "'dhcp' together with subnets"),
        ({"network_dns_servers": ["one"]}, "cannot use the name server 'one': it is not an IP address"),
        ({"network_dns_servers": ["1.1.1.1"], "dns_enabled": False}, "it has name servers, but no names"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        made(**wish)
    assert said in str(caught.value)


def test_a_name_is_had_by_one_network() -> None:
    with pytest.raises(NameInUse, match="cannot make network 'podman': there is one"):
        made(name="podman")
