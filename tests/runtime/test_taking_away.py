"""What an engine takes away of a network on which none of its containers is, and what it leaves to others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest

from supervisor.network.kernel import firewall, links, netfilter
from supervisor.network.plans import label_of
from supervisor.runtime.networks.wired.bridges import take_away
from supervisor.runtime.networks.wired.claims import Claims
from supervisor.runtime.networks.wired.tidying import Outcome
from tests.network.plans import FIRST, SECOND, attachment, connected, elements_of, with_
from tests.support.hosts import Machine, elements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINE = "tests"
"""Of `connected`."""
BESIDE = with_(SECOND, interface=FIRST.interface)
"""On the same bridge."""


@pytest.fixture
def host() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine
    netfilter.close()


@pytest.fixture
def one() -> Iterator[Machine]:
    with Machine() as machine:
        yield machine


def test_what_the_engine_itself_has_left_is_no_hindrance(host: Machine, one: Machine) -> None:
    """As where somebody still holds the network namespace of a container that has ended."""
    connected(host, one, FIRST, 2)
    assert host.does(partial(take_away, FIRST, ENGINE, [], None)) is Outcome.DONE
    assert host.links() == ["lo"]
    assert not elements(host)


def test_where_something_else_is_on_the_bridge_all_of_it_stays(host: Machine, one: Machine) -> None:
    connected(host, one, FIRST, 2)
    host.run("ip", "link", "add", "others", "master", "br1", "type", "veth", "peer", "name", "others2")
    before = elements(host)
    assert host.does(partial(take_away, FIRST, ENGINE, [], None)) is Outcome.NEEDED
    assert sorted(host.links()) == ["br1", "lo", "others", "others2"]
    assert elements(host) == before
    host.run("ip", "link", "del", "others")
    assert host.does(partial(take_away, FIRST, ENGINE, [], None)) is Outcome.DONE
    assert host.links() == ["lo"]
    assert not elements(host)


def test_another_engine_on_the_same_network_takes_it_away_itself(host: Machine, one: Machine) -> None:
    made = msgspec.structs.replace(attachment(FIRST, 2), label=label_of("other", "2", FIRST.id))
    host.does(lambda: links.ensure_bridge(FIRST))
    host.does(lambda: links.attach(one.netns, FIRST, made))
    before = host.links()
    assert host.does(partial(take_away, FIRST, ENGINE, [], None)) is Outcome.DONE
    assert host.links() == before
    assert host.does(partial(take_away, FIRST, "other", [], None)) is Outcome.DONE
    assert host.links() == ["lo"]


def test_networks_that_share_a_bridge_go_with_the_last_of_them(
    host: Machine, one: Machine, tmp_path: Path
) -> None:
    """Whether its container has an interface on it yet or not."""
    host.does(lambda: firewall.rebuild([FIRST, BESIDE], []))
    for is_on in (False, True):
        if is_on:
            connected(host, one, BESIDE, 3)
        assert host.does(partial(take_away, FIRST, ENGINE, [BESIDE], None)) is Outcome.NEEDED
        assert "10.1.0.0" in str(elements_of(host, "subnets4"))
    claims = partial(Claims, str(tmp_path))
    assert host.does(partial(take_away, BESIDE, ENGINE, [], claims)) is Outcome.DONE
    assert elements_of(host, "subnets4") == [{"prefix": {"addr": "10.1.0.0", "len": 24}}]
    assert host.does(partial(take_away, FIRST, ENGINE, [], claims)) is Outcome.DONE
    assert host.links() == ["lo"]
    assert not elements(host)


def test_what_another_network_has_by_now_stays(host: Machine, one: Machine) -> None:
    """The subnet of one whose definition somebody has removed."""
    now = with_(FIRST, id="9" * 64, interface="br9")
    connected(host, one, now, 3)
    before = elements(host)
    host.does(lambda: firewall.add_network(FIRST, [now]))
    assert host.does(partial(take_away, FIRST, ENGINE, [now], None)) is Outcome.DONE
    assert elements(host) == before


def test_what_another_engine_needs_is_tried_again(host: Machine, tmp_path: Path) -> None:
    host.does(lambda: links.ensure_bridge(FIRST))
    with host.does(partial(Claims, str(tmp_path))) as other:
        assert other.need(FIRST.interface)
        claims = partial(Claims, str(tmp_path))
        assert host.does(partial(take_away, FIRST, ENGINE, [], claims)) is Outcome.LATER
        assert "br1" in host.links()
