"""Which containers are on which networks, as their records tell."""

from __future__ import annotations

from pyman.api.network import Network, NetworkAddress, NetworkContainer, NetworkInterface, Subnet
from pyman.api.spec import Caller, ContainerSpec, NetworkWish
from supervisor.network.plans import Address, Attachment
from supervisor.runtime.container import Container
from supervisor.runtime.networks.users import User, leaving, running, shown_on, users
from supervisor.runtime.records import Definition, Observed

WEB = Network("web", "ab" * 32, subnets=[Subnet("10.1.0.0/24", "10.1.0.1"), Subnet("fd00::/64")])


def container(
    name: str, *networks: str, on: tuple[Attachment, ...] = (), is_leaving: bool = False
) -> Container:
    spec = ContainerSpec(networks={network: NetworkWish() for network in networks})
    definition = Definition(
        id=name * 64,
        name=name,
        created=1,
        lock=1,
        spec=spec,
        caller=Caller(),
        runtime="crun",
        hostname="",
        stop_signal=15,
        stop_timeout=10,
        log_driver="none",
        log_path="",
        log_size=0,
        log_files=0,
    )
    return Container(definition, Observed(attachments=[*on], leaving=is_leaving))


def attachment(network: str, address: str = "10.1.0.7", interface: str = "eth0") -> Attachment:
    return Attachment(
        network, "ab" * 32, interface=interface, addresses=[Address(address, 24)], mac="02:00:00:00:00:07"
    )


def test_who_is_on_networks_is_told_by_definitions_and_by_what_there_is() -> None:
    containers = [
        container("a", "web", "db"),
        container("b"),
        container("c", "web", on=(attachment("web"), attachment("old"))),
        container("d", "web", on=(attachment("web"),), is_leaving=True),
    ]
    a, c = User("a" * 64, "a"), User("c" * 64, "c")
    assert users(containers) == {"web": [a, c], "db": [a], "old": [c]}
    assert leaving(WEB, containers) == ["d" * 64]


def test_addresses_are_shown_of_those_that_run() -> None:
    six = Attachment(
        "web", "ab" * 32, interface="x1", addresses=[Address("fd00::7", 64), Address("10.9.0.1", 8)]
    )
    containers = [
        container("a", "web"),
        container("b", "web", on=(attachment("web"), six, attachment("db", "10.2.0.7", "eth1"))),
        container("c", "web", on=(attachment("web"),), is_leaving=True),
    ]
    on = running(containers)
    assert {name: [each.name for each in found] for name, found in on.items()} == {"web": ["b"], "db": ["b"]}
    assert shown_on(WEB, on["web"]) == {
        "b" * 64: NetworkContainer(
            "b",
            {
                "eth0": NetworkInterface([NetworkAddress("10.1.0.7/24", "10.1.0.1")], "02:00:00:00:00:07"),
                # A subnet that the definition does not have any more has no gateway.
                "x1": NetworkInterface([NetworkAddress("fd00::7/64"), NetworkAddress("10.9.0.1/8")]),
            },
        )
    }
