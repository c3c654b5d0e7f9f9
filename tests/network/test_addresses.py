"""Subnets that are free, those that overlap, and what is no address at all."""

from __future__ import annotations

import errno
import os
import time
from ipaddress import IPv6Network, ip_network

import pytest

from pyman.api.network import LeaseRange, Subnet
from pyman.errors import InvalidArgument, NetworkFailed
from supervisor.network.definitions import addresses, live
from supervisor.settings.model import NetworkSettings, SubnetPool

POOLS = NetworkSettings().default_subnet_pools


def block(text: str) -> addresses.Block:
    return ip_network(text)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "10.89.0.0/24"),
        (["10.89.0.0/24"], "10.89.1.0/24"),
        (["10.89.0.0/24", "10.89.2.0/24"], "10.89.1.0/24"),
        (["10.89.0.7/32"], "10.89.1.0/24"),
        (["10.88.0.0/16", "fd00::/8"], "10.89.0.0/24"),
        (["10.89.0.0/17", "10.89.64.0/18"], "10.89.128.0/24"),
        (["10.89.0.0/16"], "10.90.0.0/24"),
        (["10.80.0.0/12"], "10.96.0.0/24"),
    ],
)
def test_the_first_subnet_that_overlaps_nothing_is_taken(taken: list[str], expected: str) -> None:
    assert str(addresses.free_block(POOLS, map(block, taken))) == expected


def test_where_everything_is_taken_there_is_none() -> None:
    assert addresses.free_block(POOLS, [block("10.0.0.0/8")]) is None
    assert addresses.free_block([], []) is None
    small = [SubnetPool("192.168.1.0/30", 31)]
    assert str(addresses.free_block(small, [block("192.168.1.0/32")])) == "192.168.1.2/31"
    assert addresses.free_block(small, [block("192.168.1.0/32"), block("192.168.1.3/32")]) is None


def test_a_free_subnet_is_found_at_once_among_thousands() -> None:
    taken = [block(f"10.{89 + n // 256}.{n % 256}.0/24") for n in range(8000)]
    begun = time.process_time()
    assert str(addresses.free_block(POOLS, taken)) == "10.120.64.0/24"
    assert time.process_time() - begun < 2


def test_an_ipv6_subnet_is_chosen_at_random_where_everybody_may() -> None:
    found = {addresses.random_block([]) for _ in range(50)}
    assert len(found) == 50
    for each in found:
        assert each is not None
        assert each.prefixlen == 64
        assert each.subnet_of(IPv6Network("fd00::/8"))
    assert addresses.random_block([block("fd00::/8")]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.0.0/24", ("10.1.0.1", "10.1.0.255")),
        ("10.1.0.128/25", ("10.1.0.129", "10.1.0.255")),
        ("10.1.0.4/32", ("10.1.0.4", "10.1.0.4")),
        ("10.1.0.4-10.1.0.9", ("10.1.0.4", "10.1.0.9")),
        ("fd00::/120", ("fd00::1", "fd00::ff")),
        ("FD00::00a-fd00::b", ("fd00::a", "fd00::b")),
    ],
)
def test_a_range_is_a_block_or_two_addresses(text: str, expected: tuple[str, str]) -> None:
    assert addresses.lease_range(text) == LeaseRange(*expected)


@pytest.mark.parametrize(
    "text", ["", "10.1.0.0", "10.1.0.0/", "10.1.0.0/33", "10.1.0.0/255.255.0.0", "10.1/16", "x/8", "fd00::%1/64", "/24", "10.1.0.0/+8"]
)  # fmt: skip
def test_what_is_no_subnet_is_quoted(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not in CIDR notation") as caught:
        addresses.parse_block(text, "subnet")
    assert f"cannot use the subnet '{text}'" in str(caught.value)


@pytest.mark.parametrize("text", ["", "10.1.0", "10.1.0.256", "fe80::1%lo", "localhost", "1"])
def test_what_is_no_address_is_quoted(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        addresses.parse_address(text, "gateway")
    assert str(caught.value) == f"cannot use the gateway '{text}': it is not an IP address"


@pytest.mark.parametrize(
    ("subnet", "said"),
    [
        (Subnet("10.1.0.0/24", "10.2.0.1"), "cannot use the gateway '10.2.0.1': it is not in the subnet '10.1.0.0/24'"),
        (Subnet("10.1.0.0/24", "fd00::1"), "it is not in the subnet"),
        (Subnet("10.1.0.0/24", "10.1.0.0"), "it is the address of the subnet '10.1.0.0/24' itself"),
        (Subnet("10.1.0.0/24", "10.1.0.255"), "it is the broadcast address of the subnet"),
        (Subnet("10.1.0.0/24", "", LeaseRange("10.2.0.1", "")), "range's start '10.2.0.1': it is not in the subnet"),
        (Subnet("10.1.0.0/24", "", LeaseRange("", "10.2.0.1")), "range's end '10.2.0.1': it is not in the subnet"),
        (Subnet("10.1.0.0/24", "", LeaseRange("10.1.0.9", "10.1.0.8")), "its end comes before its start"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_subnet_is_refused(subnet: Subnet, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        addresses.checked_subnet(subnet, with_gateway=True)
    assert said in str(caught.value)


def test_a_subnet_is_written_with_its_own_address_and_a_gateway_where_it_has_one() -> None:
    checked = addresses.checked_subnet(Subnet("10.1.0.9/24"), with_gateway=True)
    assert checked == Subnet("10.1.0.0/24", "10.1.0.1")
    assert addresses.checked_subnet(Subnet("10.1.0.9/24"), with_gateway=False).gateway == ""
    assert addresses.checked_subnet(Subnet("10.1.0.9/32"), with_gateway=True).gateway == "10.1.0.9"
    assert addresses.checked_subnet(Subnet("10.1.0.8/31", "10.1.0.8"), with_gateway=True).gateway == "10.1.0.8"  # fmt: skip
    assert addresses.checked_subnet(Subnet("FD00:0::/64"), with_gateway=True) == Subnet(
        "fd00::/64", "fd00::1"
    )


def test_the_kernel_says_what_the_host_has() -> None:
    found = live.look()
    assert "lo" in found.interfaces
    assert ("lo", ip_network("127.0.0.0/8")) in found.subnets
    assert all(route.prefixlen for route in found.routes)


def test_where_the_kernel_cannot_be_asked_the_network_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(live, "Wire", refuse)
    with pytest.raises(
        NetworkFailed, match=r"^cannot ask the kernel for the host's addresses and routes: no buffer"
    ):
        live.look()
