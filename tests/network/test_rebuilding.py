"""The packet filter's table made anew: with what another engine of the host has in it, whatever somebody has made of it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, nft
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


@pytest.mark.parametrize(
    ("kind", "name", "form"),
    [
        ("set", "bridges", "{ type ipv4_addr; }"),
        ("set", "bridges", "{ type ifname; flags interval; }"),
        ("set", "subnets4", "{ type ipv4_addr; }"),
        ("map", "bridges", "{ type ifname : ipv4_addr; }"),
        ("map", "publish4", "{ type inet_proto . inet_service : ipv4_addr; }"),
        ("set", "publish4", "{ type inet_proto . inet_service; }"),
    ],
)
def test_other_sets_of_the_same_names_make_way(host: Machine, kind: str, name: str, form: str) -> None:
    host.run("nft", "add", "table", "inet", "pyman")
    host.run("nft", "add", kind, "inet", "pyman", name, form)
    host.does(lambda: firewall.rebuild([FIRST], [(Port(82, 80), [OURS])]))
    assert host.does(firewall.is_there)
    assert published(host) == [82]


@pytest.mark.parametrize(
    "form",
    ["", "{ type filter hook input priority 0; }", "{ type filter hook forward priority 5; policy drop; }"],
)
def test_other_chains_of_the_same_names_make_way_and_nothing_else_does(host: Machine, form: str) -> None:
    host.does(lambda: firewall.rebuild([SECOND], [(Port(81, 80), [THEIRS])]))
    before = host.run("nft", "-s", "list", "chain", "inet", "pyman", "forward")
    host.run("nft", "flush", "chain", "inet", "pyman", "forward")
    host.run("nft", "delete", "chain", "inet", "pyman", "forward")
    host.run("nft", "add", "chain", "inet", "pyman", "forward", *filter(None, [form]))
    host.does(lambda: firewall.rebuild([FIRST], [(Port(82, 80), [OURS])]))
    assert host.does(firewall.is_there)
    assert host.run("nft", "-s", "list", "chain", "inet", "pyman", "forward") == before
    assert sorted(published(host)) == [81, 82]


@pytest.mark.parametrize("refusals", [1, 2])
def test_what_another_engine_has_stays_whatever_is_refused(
    host: Machine, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    host.does(lambda: firewall.rebuild([SECOND], [(Port(81, 80), [THEIRS])]))
    answers = iter([NetworkFailed("cannot set up the packet filter: no buffer space")] * refusals)
    run = nft.run

    def refuse(commands: str) -> None:
        for refusal in answers:
            raise refusal
        run(commands)

    monkeypatch.setattr(nft, "run", refuse)
    with nullcontext() if refusals == 1 else pytest.raises(NetworkFailed, match="no buffer space"):
        host.does(lambda: firewall.rebuild([FIRST], [(Port(82, 80), [OURS])]))
    assert host.does(firewall.is_there)
    assert 81 in published(host)
    assert SECOND.interface in host.run("nft", "list", "set", "inet", "pyman", "bridges")


def test_a_port_that_has_led_elsewhere_leads_where_it_is_said_to(host: Machine) -> None:
    host.does(lambda: firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [THEIRS])]))
    host.does(lambda: firewall.rebuild([FIRST, SECOND], [(Port(82, 80), [OURS])]))
    told = host.run("nft", "list", "map", "inet", "pyman", "publish4")
    assert OURS.addresses[0].address in told
    assert THEIRS.addresses[0].address not in told
