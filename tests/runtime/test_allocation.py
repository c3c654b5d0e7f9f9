"""Addresses and ports of the host: who gets which, and that nobody gets another one's."""

from __future__ import annotations

import pytest

from pyman.api.network import LeaseRange, Network, Subnet
from pyman.api.spec import NetworkWish
from pyman.errors import AddressInUse, InvalidArgument
from supervisor.network.plans import Port
from supervisor.runtime.networks.wired.allocation import Allocation, Held

ANY = NetworkWish()


def network(*subnets: Subnet, id: str = "a" * 64, **fields: object) -> Network:
    return Network(name="net", id=id, subnets=list(subnets), **fields)  # type: ignore[arg-type]


def took(allocation: Allocation, container: str, on: Network, wish: NetworkWish = ANY) -> list[str]:
    return [each.address for each in allocation.take(container, on, wish, "eth0").addresses]


def test_every_address_is_had_once_and_then_there_is_none() -> None:
    allocation, on = Allocation(), network(Subnet("10.1.2.0/29", "10.1.2.1"))
    given = [took(allocation, f"c{number}", on)[0] for number in range(5)]
    assert sorted(given) == [f"10.1.2.{number}" for number in range(2, 7)]
    with pytest.raises(Held, match=r"every address of 10\.1\.2\.0/29 is taken"):
        took(allocation, "late", on)
    allocation.give_back("c3")
    assert took(allocation, "late", on) == [given[3]]


def test_one_of_each_subnet_within_its_range() -> None:
    leases = LeaseRange("fd00::10", "fd00::11")
    on = network(Subnet("10.1.2.0/24", "10.1.2.1"), Subnet("fd00::/64", "fd00::1", leases))
    allocation = Allocation()
    four, six = took(allocation, "c1", on)
    assert int(four.rpartition(".")[2]) > 127
    assert {six, took(allocation, "c2", on)[1]} == {"fd00::10", "fd00::11"}
    with pytest.raises(Held, match="every address of fd00::/64 from fd00::10 to fd00::11 is"):
        took(allocation, "c3", on)
    # The other subnet's was given back with the failure.
    assert took(allocation, "c4", network(on.subnets[0]))[0].startswith("10.1.2.")


def test_what_was_given_back_others_get_last_and_its_container_first() -> None:
    allocation, on = Allocation(), network(Subnet("10.1.2.0/24", "10.1.2.1"))
    first = took(allocation, "c1", on)
    allocation.give_back("c1")
    assert took(allocation, "c2", on) != first
    assert took(allocation, "c1", on) == first
    allocation.forget("c1")
    assert took(allocation, "c1", on) != first


def test_a_wish_is_granted_outside_of_the_range_and_to_one_alone() -> None:
    allocation, on = Allocation(), network(Subnet("10.1.2.0/24", "10.1.2.1", LeaseRange("10.1.2.100", "")))
    wish = NetworkWish(static_ips=["10.1.2.7"])
    assert took(allocation, "c1", on, wish) == ["10.1.2.7"]
    with pytest.raises(Held) as caught:
        took(allocation, "c2", on, wish)
    assert caught.value.holders == ["c1"]


def test_what_containers_of_other_engines_have_is_passed_over_and_refused_by_name() -> None:
    allocation, on = Allocation(), network(Subnet("10.1.2.0/29", "10.1.2.1"))
    asked: list[str] = []

    def claim(address: str) -> bool:
        asked.append(address)
        return address == "10.1.2.3"

    (given,) = allocation.take("c1", on, ANY, "eth0", claim).addresses
    assert given.address == "10.1.2.3"
    assert len(set(asked)) == len(asked)
    with pytest.raises(Held, match="every address"):
        allocation.take("c2", on, ANY, "eth0", lambda _: False)
    with pytest.raises(
        AddressInUse, match=r"'10\.1\.2\.4' on network 'net': a container of another engine has it"
    ):
        allocation.take("c2", on, NetworkWish(static_ips=["10.1.2.4"]), "eth0", lambda _: False)
    allocation.give_back("c1")
    (other,) = allocation.take("c1", on, ANY, "eth0", lambda address: address != "10.1.2.3").addresses
    assert other.address != "10.1.2.3"  # which it had before


def test_of_what_cannot_be_had_as_a_whole_no_part_stays_claimed() -> None:
    allocation = Allocation()
    on = network(Subnet("10.1.2.0/29", "10.1.2.1"), Subnet("fd00::/64", "fd00::1"))
    claimed: set[str] = set()

    def claim(address: str) -> bool:
        claimed.add(address)
        return address != "fd00::9"

    both = NetworkWish(static_ips=["10.1.2.3", "fd00::9"])
    with pytest.raises(AddressInUse):
        allocation.take("c1", on, both, "eth0", claim, claimed.discard)
    assert claimed == {"fd00::9"}  # which was not to be had


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("10.9.9.9", "it is in no subnet of network 'net'"),
        ("fd00::1", "it is in no subnet"),
        ("10.1.2.1", "it is the gateway's, or nobody's"),
        ("10.1.2.0", "it is the gateway's, or nobody's"),
        ("10.1.2.255", "it is the gateway's, or nobody's"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(text: str, complaint: str) -> None:
    on = network(Subnet("10.1.2.0/24", "10.1.2.1"))
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        took(Allocation(), "c1", on, NetworkWish(static_ips=[text]))
    assert caught.value.subject == text


def test_what_records_say_is_taken() -> None:
    first, on = Allocation(), network(Subnet("10.1.2.0/24", "10.1.2.1"))
    attachment = first.take("c1", on, ANY, "eth0")
    again = Allocation()
    again.note("c1", [attachment], [Port(8080, 80)])
    assert took(again, "c2", on) != [attachment.addresses[0].address]
    with pytest.raises(Held):
        again.take_ports("c2", [Port(8080, 80)])


def test_networks_without_addresses_give_none() -> None:
    on = network(Subnet("10.1.2.0/24", "10.1.2.1"), ipam_options={"driver": "none"})
    assert took(Allocation(), "c1", on) == []
    assert took(Allocation(), "c1", network(ipam_options={"driver": "dhcp"})) == []


@pytest.mark.parametrize(
    "one, other, both",
    [
        ("", "", False),
        ("", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),  # noqa: S104 - what users write
        ("0.0.0.0", "::1", True),  # noqa: S104
        ("::", "10.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", "::1", False),
    ],
)
def test_a_port_is_had_by_one_on_each_address(one: str, other: str, both: bool) -> None:
    allocation = Allocation()
    allocation.take_ports("c1", [Port(80, 80, "tcp", one)])
    allocation.take_ports("c2", [Port(80, 80, "udp", one)])
    wanted = [Port(81, 81), Port(80, 80, "tcp", other)]
    if both:
        allocation.take_ports("c2", wanted)
        return
    with pytest.raises(Held) as caught:
        allocation.take_ports("c2", wanted)
    assert caught.value.holders == ["c1"]
    assert allocation.port_holder(Port(81, 81)) == ""
    allocation.give_back("c1")
    allocation.take_ports("c2", wanted)
