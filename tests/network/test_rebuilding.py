"""The packet filter's table made anew: with what another engine of the host has in it, whatever somebody has made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from supervisor.network.kernel import firewall
from supervisor.network.plans import Port
from tests.network.plans import FIRST, SECOND, attachment, elements_of

if TYPE_CHECKING:
    from tests.support.hosts import Machine

OURS, THEIRS = attachment(FIRST, 2), attachment(SECOND, 2)


def published(host: Machine) -> list[Any]:
    return [entry[0]["concat"][1] for entry in elements_of(host, "publish4")]


def table(host: Machine) -> list[str]:
    """Its sets and chains, in whatever order they were made."""
    told = host.run("nft", "-s", "list", "table", "inet", "pyman").strip()
    return sorted(each.strip() for each in told.removeprefix("table inet pyman {")[:-1].split("\n\n"))


def test_another_engines_networks_and_ports_stay(host: Machine) -> None:
    host.does(lambda: firewall.rebuild([SECOND], [(Port(81, 80), [THEIRS])]))
    for _ in range(2):
        host.does(lambda: firewall.rebuild([FIRST], [(Port(82, 80), [OURS])]))
    assert host.does(firewall.is_there)
    assert sorted(published(host)) == [81, 82]
    bridges = host.run("nft", "list", "set", "inet", "pyman", "bridges")
    assert FIRST.interface in bridges
    assert SECOND.interface in bridges


@pytest.mark.parametrize(
    "change",
    [
        ("flush", "ruleset"),
        ("flush", "table", "inet", "pyman"),
        ("flush", "chain", "inet", "pyman", "forward"),
        ("delete", "chain", "inet", "pyman", "guard"),
        ("add", "rule", "inet", "pyman", "forward", "drop"),
        ("delete", "table", "inet", "pyman"),
    ],
)
def test_what_others_have_done_to_the_table_is_noticed_and_undone(
    host: Machine, change: tuple[str, ...]
) -> None:
    def make() -> None:
        firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [OURS])])

    host.run("nft", "add", "table", "inet", "pymanother")
    host.run("nft", "add", "chain", "inet", "pymanother", "forward")
    host.run("nft", "add", "rule", "inet", "pymanother", "forward", "accept")
    host.does(make)
    assert host.does(firewall.is_there)
    before = table(host)
    host.run("nft", *change)
    assert not host.does(firewall.is_there)
    host.does(make)
    assert host.does(firewall.is_there)
    assert table(host) == before


@pytest.mark.parametrize("emptied", [("set", "bridges"), ("map", "publish4")])
def test_what_others_have_taken_out_of_it_is_put_back(host: Machine, emptied: tuple[str, str]) -> None:
    def make() -> None:
        firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [OURS])])

    host.does(make)
    before = table(host)
    kind, name = emptied
    host.run("nft", "flush", kind, "inet", "pyman", name)
    assert table(host) != before
    host.does(make)
    assert table(host) == before


def test_other_sets_of_the_same_names_make_way(host: Machine) -> None:
    host.run("nft", "add", "table", "inet", "pyman")
    host.run("nft", "add", "set", "inet", "pyman", "bridges", "{ type ipv4_addr; }")
    host.does(lambda: firewall.rebuild([FIRST], [(Port(82, 80), [OURS])]))
    assert host.does(firewall.is_there)
    assert published(host) == [82]


def test_a_port_that_has_led_elsewhere_leads_where_it_is_said_to(host: Machine) -> None:
    host.does(lambda: firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [THEIRS])]))
    host.does(lambda: firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [OURS])]))
    told = host.run("nft", "list", "map", "inet", "pyman", "publish4")
    assert OURS.addresses[0].address in told
    assert THEIRS.addresses[0].address not in told
