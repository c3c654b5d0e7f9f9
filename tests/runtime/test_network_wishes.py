"""What a create request says of networks and ports: what is settled of it, and what is refused before anything is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyman.api.network import Network, Subnet
from pyman.api.spec import ContainerSpec, Namespace, NetworkWish, PortMapping
from pyman.errors import InvalidArgument, NoSuchNetwork, NotSupported, StorageFailed
from supervisor.network.definitions.directory import Networks
from supervisor.runtime.networks.creation import choosing, publishing, wishes

if TYPE_CHECKING:
    from pyman.errors import PymanError
    from supervisor.runtime.container import Container
    from supervisor.runtime.services import Services

WEB = Network("web", "a" * 64, network_interface="podman1", subnets=[Subnet("10.89.1.0/24", "10.89.1.1")])
DUAL = Network(
    "dual",
    "b" * 64,
    network_interface="podman2",
    subnets=[Subnet("10.89.2.0/24", "10.89.2.1"), Subnet("fd00:2::/64", "fd00:2::1")],
)
VLAN = Network("vlan", "c" * 64, "macvlan", "eth0")
SHARED = Network("shared", "d" * 64, "ipvlan", "eth0", subnets=[Subnet("10.89.3.0/24")])
ODD = Network("odd", "e" * 64, "plugged")
LEASED = Network("leased", "9" * 64, "macvlan", "eth0", ipam_options={"driver": "dhcp"})
UNWIRED = Network("unwired", "8" * 64, network_interface="podman3", ipam_options={"driver": "dhcp"})
ALIKE = Network("alike", "7" * 64, "ipvlan", "eth0", ipam_options={"driver": "dhcp"})
KNOWN = Networks(
    {
        each.name: each
        for each in (
            Network("podman", "f" * 64),
            WEB,
            DUAL,
            VLAN,
            SHARED,
            ODD,
            LEASED,
            UNWIRED,
            ALIKE,
        )
    },
    {"damaged": StorageFailed("cannot use the file of a network '/x'")},
)


def services(
    *, rootless: bool = False, netns: str = "private", command: str = "pasta", interface_name: str = ""
) -> Services:
    """As far as wishes are concerned."""

    async def known() -> Networks:
        return KNOWN

    settings = SimpleNamespace(
        rootless=rootless,
        containers=SimpleNamespace(netns=netns, interface_name=interface_name),
        network=SimpleNamespace(
            default_network="podman",
            default_rootless_network_cmd=command,
            default_host_ips=(),
            pasta_options=(),
        ),
        engine=SimpleNamespace(network_cmd_options=()),
    )
    return cast("Services", SimpleNamespace(settings=settings, networks=SimpleNamespace(known=known)))


def asked(mode: str = "", value: str = "", **fields: Any) -> ContainerSpec:
    return ContainerSpec(netns=Namespace(mode, value), **fields)


async def settled(spec: ContainerSpec, **engine: Any) -> ContainerSpec:
    return await wishes.settle(services(**engine), spec, ["80/tcp"])


async def test_a_mode_that_is_left_open_is_the_users_kind() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("private", {}, "bridge"),
        ("private", {"rootless": True}, "pasta"),
        ("private", {"rootless": True, "command": "slirp4netns"}, "slirp4netns"),
        ("private", {"netns": "host"}, "bridge"),
        ("bridge", {"rootless": True}, "bridge"),
        ("none", {}, "none"),
    ]
    for mode, engine, expected in cases:
        assert (await settled(asked(mode), **engine)).netns == Namespace(expected)


async def test_bridge_is_the_default_network_unless_others_are_named() -> None:
    default = {"podman": NetworkWish(interface_name="eth0")}
    assert (await settled(asked("bridge"))).networks == default
    assert (await settled(asked("bridge", networks={"default": NetworkWish()}))).networks == default
    found = await settled(asked(networks={"web": NetworkWish(aliases=["a"]), "bbbb": NetworkWish()}))
    assert found.netns == Namespace("bridge")
    assert list(found.networks.items()) == [
        ("web", NetworkWish(aliases=["a"], interface_name="eth0")),
        ("dual", NetworkWish(interface_name="eth1")),
    ]


async def test_interfaces_can_be_called_as_on_the_host() -> None:
    named = {"vlan": NetworkWish(interface_name="lan"), "web": NetworkWish(), "podman": NetworkWish()}
    found = await settled(asked("bridge", networks=named), interface_name="device")
    assert [wish.interface_name for wish in found.networks.values()] == ["lan", "podman1", "eth0"]
    same = {"vlan": NetworkWish(), "shared": NetworkWish()}
    with pytest.raises(InvalidArgument, match="the interface 'eth0' on more than one network"):
        await settled(asked("bridge", networks=same), interface_name="device")


def chosen(**named: NetworkWish) -> dict[str, NetworkWish]:
    return choosing.settled(list(named.items()), KNOWN)


def test_addresses_names_and_interfaces_are_written_in_one_form() -> None:
    wish = NetworkWish(["fd00:2:0::0:5", "10.89.2.5"], ["a", "a", "b-1.c"], "AA-BB-CC-dd-ee-ff")
    named = NetworkWish(interface_name="eth0", options={"host_interface_name": "v0"})
    assert chosen(dual=wish, web=named) == {
        "dual": NetworkWish(["fd00:2::5", "10.89.2.5"], ["a", "b-1.c"], "aa:bb:cc:dd:ee:ff", "eth1"),
        "web": named,
    }


@pytest.mark.parametrize(
    ("name", "wish", "error", "said"),
    [
        ("nope", NetworkWish(), NoSuchNetwork, "cannot find network 'nope'"),
        ("damaged", NetworkWish(), StorageFailed, "cannot use the file of a network '/x'"),
        ("odd", NetworkWish(), NotSupported, "its driver 'plugged' is not known"),
        ("leased", NetworkWish(["10.1.2.3"]), InvalidArgument, "on network 'leased': its DHCP server gives the"),
        ("unwired", NetworkWish(), NotSupported, "a DHCP server, and on a bridge of its own there is none"),
        ("alike", NetworkWish(), NotSupported, "which cannot tell containers of the driver ipvlan from their host"),
        ("web", NetworkWish(["10.89.1"]), InvalidArgument, "the address '10.89.1': it is not an IP address"),
        ("web", NetworkWish(["10.89.2.5"]), InvalidArgument, "'10.89.2.5': it is in no subnet of network 'web'"),
        ("web", NetworkWish(["fd00::5"]), InvalidArgument, "'fd00::5': it is in no subnet of network 'web'"),
        ("vlan", NetworkWish(["10.89.2.5"]), InvalidArgument, "its addresses come from elsewhere"),
        ("web", NetworkWish(["10.89.1.1"]), InvalidArgument, "'10.89.1.1': it is the gateway of network 'web'"),
        ("web", NetworkWish(["10.89.1.0"]), InvalidArgument, "it is the address of the subnet"),
        ("web", NetworkWish(["10.89.1.255"]), InvalidArgument, "it is the broadcast address of the subnet"),
        ("web", NetworkWish(["10.89.1.5", "10.89.1.6"]), InvalidArgument, "'10.89.1.6' besides '10.89.1.5'"),
        ("web", NetworkWish(static_mac="44:33:22:11:00"), InvalidArgument, "the MAC address '44:33:22:11:00'"),
        ("web", NetworkWish(static_mac="45:33:22:11:00:99"), InvalidArgument, "the first one even"),
        ("web", NetworkWish(static_mac="00:00:00:00:00:00"), InvalidArgument, "six bytes"),
        ("web", NetworkWish(static_mac="gg:33:22:11:00:99"), InvalidArgument, "six bytes"),
        ("shared", NetworkWish(static_mac="44:33:22:11:00:99"), InvalidArgument, "with ipvlan all have the host's"),
        ("web", NetworkWish(aliases=["a b"]), InvalidArgument, "the alias 'a b' on network 'web'"),
        ("web", NetworkWish(aliases=["a,b"]), InvalidArgument, "the alias 'a,b'"),
        ("web", NetworkWish(aliases=["a\n"]), InvalidArgument, "the alias 'a\n'"),
        ("web", NetworkWish(aliases=[""]), InvalidArgument, "the alias ''"),
        ("web", NetworkWish(aliases=["a" * 300]), InvalidArgument, "the alias 'aaa"),
        ("web", NetworkWish(aliases=[f"a{i}" for i in range(200)]), InvalidArgument, "more than 128 aliases"),
        ("web", NetworkWish(interface_name="a" * 16), InvalidArgument, "the interface 'aaaa"),
        ("web", NetworkWish(interface_name="a/b"), InvalidArgument, "the interface 'a/b'"),
        ("web", NetworkWish(interface_name="lo"), InvalidArgument, "it is the loopback's"),
        ("web", NetworkWish(options={"colour": "red"}), InvalidArgument, "the option 'colour' on network 'web'"),
        ("vlan", NetworkWish(options={"host_interface_name": "v"}), InvalidArgument, "of the driver macvlan"),
        ("web", NetworkWish(options={"host_interface_name": "a b"}), InvalidArgument, "the interface 'a b'"),
        ("web", NetworkWish(options={"host_interface_name": "podman1"}), InvalidArgument, "it is the bridge of"),
    ],
)  # fmt: skip
def test_what_cannot_be_on_a_network_is_refused_by_name(
    name: str, wish: NetworkWish, error: type[PymanError], said: str
) -> None:
    with pytest.raises(error) as caught:
        choosing.settled([(name, wish)], KNOWN, taken=choosing.on_host(KNOWN, [], ""))
    assert said in str(caught.value)


def container(name: str, *, leaving: bool = False, **named: str) -> Container:
    """As far as interfaces on the host are concerned."""
    on = {network: NetworkWish(options={"host_interface_name": end}) for network, end in named.items()}
    definition = SimpleNamespace(spec=ContainerSpec(networks={"dual": NetworkWish(), **on}))
    observed = SimpleNamespace(leaving=leaving)
    return cast("Container", SimpleNamespace(name=name, definition=definition, observed=observed))


def test_one_interface_of_the_host_is_one_containers() -> None:
    containers = [
        container("a", web="v0"),
        container("gone", leaving=True, web="v1"),
        container("me", web="v2"),
    ]
    taken = choosing.on_host(KNOWN, containers, "me")
    assert taken["v0"] == "that of container 'a'"
    for end, said in (
        ("v0", "'v0': it is that of container 'a'"),
        ("podman2", "it is the bridge of network 'dual'"),
    ):
        wish = NetworkWish(options={"host_interface_name": end})
        with pytest.raises(InvalidArgument, match=said):
            choosing.settled([("web", wish)], KNOWN, taken=taken)
        with pytest.raises(InvalidArgument, match=said):
            choosing.further({}, WEB, wish, taken=taken)
    for end in ("v1", "v2", "v3"):
        assert choosing.settled(
            [("web", NetworkWish(options={"host_interface_name": end}))], KNOWN, taken=taken
        )
    same = NetworkWish(options={"host_interface_name": "v3"})
    with pytest.raises(InvalidArgument, match="the interface 'v3' on more than one network"):
        choosing.settled([("web", same), ("dual", same)], KNOWN, taken=taken)


def test_an_ordinary_users_network_has_no_dhcp_server() -> None:
    assert list(choosing.settled([("leased", NetworkWish())], KNOWN)) == ["leased"]
    with pytest.raises(NotSupported, match="in an ordinary user's sandbox there is none"):
        choosing.settled([("leased", NetworkWish())], KNOWN, rootless=True)
    with pytest.raises(NotSupported, match="in an ordinary user's sandbox there is none"):
        choosing.further({}, LEASED, NetworkWish(), rootless=True)


def test_one_network_or_interface_is_not_had_twice() -> None:
    with pytest.raises(InvalidArgument, match="on network 'web' more than once"):
        choosing.settled([("web", NetworkWish()), ("aaaa", NetworkWish())], KNOWN)
    with pytest.raises(InvalidArgument, match="the interface 'lan' on more than one network"):
        chosen(web=NetworkWish(interface_name="lan"), dual=NetworkWish(interface_name="lan"))
    with pytest.raises(InvalidArgument, match="more than 128 networks"):
        choosing.settled([("web", NetworkWish())] * 129, KNOWN)


def test_one_more_network_gets_the_first_free_interface() -> None:
    on = {"web": NetworkWish(interface_name="eth1")}
    assert choosing.further(on, DUAL, NetworkWish()) == {**on, "dual": NetworkWish(interface_name="eth0")}
    with pytest.raises(InvalidArgument, match="cannot use the interface 'eth1' on more than one network"):
        choosing.further(on, DUAL, NetworkWish(interface_name="eth1"))
    many = {str(number): NetworkWish(interface_name=f"eth{number}") for number in range(128)}
    with pytest.raises(InvalidArgument, match="cannot be on more than 128 networks"):
        choosing.further(many, DUAL, NetworkWish())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (asked("host", portmappings=[PortMapping(80)]), "cannot use --publish together with --network host"),
        (asked("none", publish_image_ports=True), "cannot use --publish-all together with --network none"),
        (asked("container", "c", portmappings=[PortMapping(80)]), "ports are published by 'c', whose network it is"),
        (asked("ns", "/x", portmappings=[PortMapping(80)]), "cannot use --publish together with --network ns:/x"),
        (asked("bridge", "web"), "cannot use --network bridge:web: only container and ns take a value"),
        (asked("host", networks={"web": NetworkWish()}), "the network 'web' together with --network host"),
        (asked("pasta", networks={"web": NetworkWish()}), "the network 'web' together with --network pasta"),
        (asked("bridge", network_options={"pasta": ["-t"]}), "options of pasta together with --network bridge"),
        (asked("bridge", network_options={"bridge": ["-t"]}), "options of bridge together with --network bridge"),
    ],
)  # fmt: skip
async def test_contradictions_are_refused_by_name(spec: ContainerSpec, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await settled(spec)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (asked("pasta", network_options={"pasta": ["--config-net", ""]}), "an empty option of pasta"),
        (asked("pasta", network_options={"pasta": ["--netns=/x"]}), "the option '--netns=/x' of pasta"),
        (asked("pasta", portmappings=[PortMapping(80, protocol="sctp")]), "pasta forwards tcp and udp alone"),
        (asked("slirp4netns", network_options={"slirp4netns": ["mtu=x"]}), "the option 'mtu=x' of slirp4netns"),
        (asked("slirp4netns", portmappings=[PortMapping(80, protocol="sctp")]), "forwards tcp and udp alone"),
        (asked("bridge", portmappings=[PortMapping(80, protocol="sctp")]), "without root ports are tcp and udp alone"),
    ],
)  # fmt: skip
async def test_what_users_networks_cannot_do_is_refused_by_name(spec: ContainerSpec, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await settled(spec, rootless=True)
    assert said in str(caught.value)


# ---------------------------------------------------------------------- ports


def ports(*mappings: PortMapping, default_ips: tuple[str, ...] = (), **fields: Any) -> list[PortMapping]:
    return publishing.settled(ContainerSpec(portmappings=list(mappings), **fields), ["80/tcp"], default_ips)


def test_mappings_that_continue_one_another_are_one() -> None:
    assert ports(PortMapping(81, 8081), PortMapping(80, 8080), PortMapping(80, 8080, range=2)) == [
        PortMapping(80, 8080, range=2)
    ]
    assert ports(PortMapping(80, 8080), PortMapping(82, 8082)) == [
        PortMapping(80, 8080),
        PortMapping(82, 8082),
    ]
    assert ports(PortMapping(80, 8080), PortMapping(80, 8081)) == [
        PortMapping(80, 8080),
        PortMapping(80, 8081),
    ]
    assert ports(PortMapping(80), PortMapping(80), PortMapping(81)) == [PortMapping(80), PortMapping(81)]
    assert ports(PortMapping(80), PortMapping(90, 8080)) == [PortMapping(90, 8080), PortMapping(80)]


def test_protocols_and_addresses_are_apart() -> None:
    assert ports(PortMapping(53, 53, protocol="TCP,udp,tcp")) == [
        PortMapping(53, 53),
        PortMapping(53, 53, protocol="udp"),
    ]
    assert ports(PortMapping(80, 80, "::0:1"), PortMapping(81, 80, "127.0.0.1")) == [
        PortMapping(80, 80, "::1"),
        PortMapping(81, 80, "127.0.0.1"),
    ]
    assert ports(PortMapping(80, 80, "0.0.0.0"), PortMapping(81, 80, "::")) == [  # noqa: S104
        PortMapping(80, 80, "0.0.0.0"),  # noqa: S104
        PortMapping(81, 80, "::"),
    ]
    assert ports(PortMapping(80, 80), PortMapping(81, 81, "::1"), default_ips=("127.0.0.1", "::1")) == [
        PortMapping(80, 80, "127.0.0.1"),
        PortMapping(80, 80, "::1", range=2),
    ]


def test_what_is_exposed_and_not_published_is_published_too() -> None:
    found = ports(
        PortMapping(81, 8081, range=2), publish_image_ports=True, expose={"82": "tcp,udp", "90": ""}
    )
    assert found == [
        PortMapping(81, 8081, range=2),
        PortMapping(80),
        PortMapping(82, protocol="udp"),
        PortMapping(90),
    ]


@pytest.mark.parametrize(
    ("mappings", "said"),
    [
        ([PortMapping(0, 80)], "cannot publish port 0: ports are 1 to 65535"),
        ([PortMapping(70000)], "cannot publish port 70000: ports are 1 to 65535"),
        ([PortMapping(80, 70000)], "cannot publish port 70000: ports are 1 to 65535"),
        ([PortMapping(80, -1)], "cannot publish port -1: ports are 1 to 65535"),
        ([PortMapping(80, range=0)], "cannot publish 0 ports from 80 on"),
        ([PortMapping(80, 65530, range=7)], "cannot publish 7 ports from 65530 on: the last one is 65535"),
        ([PortMapping(1, range=20000)], "cannot publish more than 16384 ports"),
        ([PortMapping(80, protocol="icmp")], "the protocol 'icmp' is not known"),
        ([PortMapping(80, host_ip="localhost")], "at 'localhost': it is not an IP address"),
        ([PortMapping(80, host_ip="::1%lo")], "at '::1%lo': it is not an IP address"),
        ([PortMapping(80, host_ip="1\0")], "it is not an IP address"),
        ([PortMapping(80, 8080), PortMapping(81, 8080)], "cannot publish port 8080/tcp of the host more than once"),
        ([PortMapping(80, 8080, range=5), PortMapping(90, 8082)], "port 8082/tcp of the host more than once"),
        ([PortMapping(80, 8080), PortMapping(80, 8080, "127.0.0.1")], "port 8080/tcp of the host more than once"),
        ([PortMapping(80, 8080), PortMapping(80, 8080, "::")], "port 8080/tcp of the host more than once"),
        ([PortMapping(80, 8080, "::"), PortMapping(80, 8080, "::1")], "port 8080/tcp of the host more than once"),
    ],
)  # fmt: skip
def test_ports_that_cannot_be_published_are_refused_by_name(mappings: list[PortMapping], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ports(*mappings)
    assert said in str(caught.value)
