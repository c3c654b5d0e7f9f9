"""The packet filter's table: what it has, what a change of it costs, and what others have done to it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, netfilter
from supervisor.network.plans import Address, Attachment, NetworkPlan, Port, Subnet
from tests.network.plans import FIRST, SECOND, attachment, connected, elements_of, with_

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hosts import Machine

ON_FIRST = attachment(FIRST, 2)


def counts(host: Machine) -> dict[str, int]:
    return {
        name: len(elements_of(host, name)) for name in ("publish4", "publish6", "publish4at", "publish6at")
    }


@pytest.fixture
def table(host: Machine) -> None:
    host.does(lambda: firewall.rebuild([], []))


@pytest.mark.usefixtures("table")
def test_elements_are_what_nft_would_have_made_of_them(host: Machine) -> None:
    """By netlink one by one, and by the library all at once."""
    network = with_(FIRST, isolate="strict")
    edges = NetworkPlan(
        "edges",
        "4" * 64,
        interface="br-long-name-15",
        internal=False,
        isolate="true",
        subnets=[Subnet("255.255.255.0/24"), Subnet("0.0.0.0/24"), Subnet("10.1.1.0/24")],
    )
    ports = [
        *(Port(80, 8080, protocol) for protocol in ("tcp", "udp", "sctp")),
        Port(65535, 65535, host_ip="192.0.2.1"),
        Port(1, 1, host_ip="fd02::1"),
        Port(2, 2, host_ip="0.0.0.0"),  # noqa: S104
        Port(3, 3, host_ip="::"),
    ]

    def one_by_one() -> None:
        for each in (network, edges, with_(SECOND, internal=True)):
            firewall.add_network(each)
        firewall.publish(ports, [ON_FIRST])

    host.does(one_by_one)
    first = host.run("nft", "-s", "list", "table", "inet", "pyman")
    assert counts(host) == {"publish4": 4, "publish6": 4, "publish4at": 1, "publish6at": 1}
    assert "10.1.0.0/23" in first or ("10.1.0.0/24" in first and "10.1.1.0/24" in first)
    every = [network, edges, with_(SECOND, internal=True)]
    host.does(lambda: firewall.rebuild(every, [(port, [ON_FIRST]) for port in ports]))
    assert sorted(host.run("nft", "-s", "list", "table", "inet", "pyman").split()) == sorted(first.split())

    def back() -> None:
        for _ in range(2):
            firewall.unpublish(ports, [ON_FIRST])
            for each in every:
                firewall.remove_network(each)

    host.does(back)
    assert counts(host) == dict.fromkeys(counts(host), 0)
    assert not any(elements_of(host, name) for name in ("bridges", "same", "subnets4", "subnets6", "strict"))


def test_a_thousand_mappings_cost_what_one_does(host: Machine, one: Machine) -> None:
    """To make one more and to take one away; and a thousand are made and taken away at once in less than a tenth of a
    second each: of the processor's time, most of it the kernel's. The least of several tries: others want the processor,
    too."""
    made = connected(host, one, FIRST, 2)
    one.answers(80, "one")
    many = [Port(number, 80) for number in range(10000, 11000)]

    def seconds(change: Callable[[], None]) -> float:
        def work() -> float:
            begun = time.thread_time()
            change()
            return time.thread_time() - begun

        return host.does(work)

    def publish() -> None:
        firewall.publish(many, [made])

    def unpublish() -> None:
        firewall.unpublish([*many, Port(5, 5)], [made])

    def one_more() -> float:
        return min(
            seconds(lambda: firewall.publish([Port(70, 80)], [made]))
            + seconds(lambda: firewall.unpublish([Port(70, 80)], [made]))
            for _ in range(20)
        )

    alone = one_more()
    publishing, unpublishing = [], []
    for _ in range(5):
        publishing.append(seconds(publish))
        assert counts(host)["publish4"] == 1000
        unpublishing.append(seconds(unpublish))
        assert counts(host)["publish4"] == 0
    host.does(publish)
    among_many = one_more()
    assert host.asks("127.0.0.1", 10999) == "one 10.1.0.1"
    assert host.does(firewall.is_there)
    assert among_many < 2 * alone + 0.001
    # Where the machine is a slow one, in less than what half of them take one by one.
    assert max(min(publishing), min(unpublishing)) < max(0.1, 500 * alone)


@pytest.mark.usefixtures("table")
def test_more_ports_than_one_transaction_takes(host: Machine) -> None:
    every = [Port(number, number) for number in range(1, 5001)]
    host.does(lambda: firewall.publish(every, [ON_FIRST]))
    assert counts(host)["publish4"] == 5000
    host.does(lambda: firewall.unpublish(every, [ON_FIRST]))
    assert counts(host)["publish4"] == 0


@pytest.mark.usefixtures("table")
def test_a_port_leads_to_who_published_it_last(host: Machine) -> None:
    """Of those among others that are new."""
    ports = [Port(number, 80) for number in range(100, 105)]
    host.does(lambda: firewall.publish(ports[2:4], [attachment(FIRST, 9)]))
    host.does(lambda: firewall.publish(ports, [ON_FIRST]))
    assert {value["concat"][0] for _, value in elements_of(host, "publish4")} == {"10.1.0.2"}
    assert counts(host)["publish6"] == 5


@pytest.mark.usefixtures("table")
def test_what_leads_elsewhere_by_now_stays(host: Machine) -> None:
    ports = [*(Port(number, 80) for number in range(100, 300)), Port(100, 80, host_ip="192.0.2.1")]
    other = attachment(FIRST, 9)
    host.does(lambda: firewall.publish(ports, [ON_FIRST]))
    host.does(lambda: firewall.publish([*ports[50:150], ports[-1]], [other]))
    host.does(lambda: firewall.unpublish(ports, [ON_FIRST]))
    assert counts(host) == {"publish4": 100, "publish6": 100, "publish4at": 1, "publish6at": 0}
    host.does(lambda: firewall.unpublish(ports, [other]))
    assert not any(counts(host).values())


@pytest.mark.usefixtures("table")
def test_only_bridges_lead_ports_to_containers(host: Machine) -> None:
    wired = Attachment("w", "5" * 64, driver="macvlan", addresses=[Address("192.0.2.9", 24)])
    host.does(lambda: firewall.publish([Port(80, 80)], [wired]))
    assert counts(host)["publish4"] == 0
    host.does(lambda: firewall.publish([Port(80, 80)], [wired, ON_FIRST]))
    assert counts(host)["publish4"] == 1
    host.does(lambda: firewall.add_network(with_(FIRST, mode="unmanaged")))
    assert not elements_of(host, "bridges")


def test_without_the_table_it_is_said_what_could_not_be_done(host: Machine) -> None:
    assert not host.does(firewall.is_there)
    with pytest.raises(NetworkFailed, match=r"^cannot set up the packet filter: no such file or directory$"):
        host.does(lambda: firewall.add_network(FIRST))
    with pytest.raises(NetworkFailed, match=r"^cannot set up the packet filter"):
        host.does(lambda: firewall.publish([Port(80, 80)], [ON_FIRST]))
    host.does(lambda: firewall.unpublish([Port(80, 80)], [ON_FIRST]))
    host.does(lambda: firewall.remove_network(FIRST))


@pytest.mark.usefixtures("table")
def test_a_subnet_that_overlaps_another_ones_is_refused(host: Machine) -> None:
    host.does(lambda: firewall.add_network(FIRST))
    host.does(lambda: firewall.add_network(FIRST))
    other = NetworkPlan("other", "6" * 64, interface="br9", subnets=[Subnet("10.1.0.0/16")])
    with pytest.raises(NetworkFailed, match="cannot set up the packet filter: "):
        host.does(lambda: firewall.add_network(other))
    assert elements_of(host, "bridges") == ["br1"]


def sets_of(host: Machine, bridge: str) -> set[str]:
    """Those that name a bridge."""
    return {
        name for name in ("bridges", "internal", "isolated", "strict") if bridge in elements_of(host, name)
    }


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("anew", [False, True])
def test_what_another_network_had_on_a_bridge_does_not_hold_for_the_next(
    host: Machine, *, anew: bool
) -> None:
    """One that nobody has taken away."""
    host.does(lambda: firewall.add_network(with_(FIRST, internal=True, isolate="true")))
    host.does(lambda: firewall.add_network(SECOND))
    assert sets_of(host, "br1") == {"bridges", "internal", "isolated"}
    work = (lambda: firewall.rebuild([FIRST], [])) if anew else (lambda: firewall.add_network(FIRST))
    host.does(work)
    assert sets_of(host, "br1") == sets_of(host, "br2") == {"bridges"}
    beside = with_(SECOND, interface="br1", isolate="strict")
    host.does(lambda: firewall.add_network(beside))
    host.does(lambda: firewall.add_network(FIRST, [beside]))
    assert sets_of(host, "br1") == {"bridges", "strict"}
    host.does(lambda: firewall.add_network(with_(FIRST, mode="unmanaged")))
    assert not sets_of(host, "br1")


def test_published_ports_reach_networks_that_are_isolated(host: Machine, one: Machine, two: Machine) -> None:
    """As with netavark: to publish is to let everybody in."""
    connected(host, one, with_(FIRST, isolate="true"), 2, [Port(8080, 80)])
    connected(host, two, with_(SECOND, isolate="true"), 3)
    one.answers(80, "one")
    assert two.asks("10.1.0.2", 80, seconds=0.5) == ""
    assert two.asks("10.2.0.1", 8080) == "one 10.1.0.1"


def test_from_the_hosts_ipv6_loopback_a_port_is_refused_at_once(host: Machine, one: Machine) -> None:
    """It cannot be led out of the host; whoever tries `localhost` comes to 127.0.0.1 then."""
    connected(host, one, FIRST, 2, [Port(8080, 80)])
    one.answers(80, "one", "::")
    with pytest.raises(ConnectionRefusedError):
        host.does(lambda: socket.create_connection(("::1", 8080), 10))
    assert host.asks("127.0.0.1", 8080).startswith("one ")
    assert host.asks("fd01::1", 8080) == "one fd01::1"


def test_one_wire_is_kept_and_not_the_namespace_before(host: Machine, one: Machine) -> None:
    for machine in (host, one, host):
        machine.does(lambda: firewall.rebuild([], []))
        machine.does(lambda: firewall.add_network(FIRST))
        assert len(netfilter._kept) == 1
    netfilter.close()
    assert not netfilter._kept
