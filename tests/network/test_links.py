"""What interfaces, addresses and routes become, and what is refused."""

from __future__ import annotations

import json
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pyman.errors import NetworkFailed
from supervisor.logging import fields_of
from supervisor.network.kernel import links, messages
from supervisor.network.kernel.netlink import Wire
from supervisor.network.plans import Address, Attachment, NetworkPlan, Route, Subnet
from tests.network.plans import FIRST, attachment, connected, unless_the_kernel_cannot, with_

if TYPE_CHECKING:
    from tests.support.hosts import Machine


def link_of(machine: Machine, name: str) -> dict[str, Any]:
    (found,) = json.loads(machine.run("ip", "-j", "-d", "link", "show", name))
    assert isinstance(found, dict)
    return found


def test_the_gateway_has_one_hardware_address_whoever_comes_and_goes(
    host: Machine, one: Machine, two: Machine
) -> None:
    """The kernel would give a bridge the least of its ports' addresses."""
    host.does(lambda: links.ensure_bridge(FIRST))
    before = link_of(host, "br1")["address"]
    connected(host, one, FIRST, 2)
    made = connected(host, two, FIRST, 3)
    two.answers(80, "two")
    assert one.asks("10.1.0.3", 80) == "two 10.1.0.2"
    assert link_of(host, "br1")["address"] == before
    host.does(lambda: links.detach(made))
    assert link_of(host, "br1")["address"] == before
    host.does(lambda: links.remove_bridge(FIRST))
    host.does(lambda: links.ensure_bridge(FIRST))
    assert link_of(host, "br1")["address"] == before


def test_who_takes_an_address_over_is_reached_at_once(host: Machine, one: Machine, two: Machine) -> None:
    """Though the others know the hardware address of the one before: for as long as they trust that, longer than they are
    asked here, whoever has another one is not reached."""
    first = connected(host, one, FIRST, 2)
    one.answers(80, "one")
    assert host.asks("10.1.0.2", 80) == "one 10.1.0.1"
    host.does(lambda: links.detach(first))
    two.answers(80, "two")
    connected(host, two, FIRST, 2)
    assert host.asks("10.1.0.2", 80, seconds=5) == "two 10.1.0.1"


def test_a_bridge_that_somebody_has_set_down_is_up_for_the_next(
    host: Machine, one: Machine, two: Machine
) -> None:
    connected(host, one, FIRST, 2)
    one.answers(80, "one")
    host.run("ip", "link", "set", "br1", "down")
    host.does(lambda: links.attach(two.netns, FIRST, attachment(FIRST, 3)))
    assert two.asks("10.1.0.2", 80) == "one 10.1.0.3"


def test_a_container_has_the_hardware_address_that_was_chosen_or_one_of_its_own(
    host: Machine, one: Machine, two: Machine
) -> None:
    host.does(lambda: links.ensure_bridge(FIRST))
    chosen = with_attachment(2, mac="0a:01:02:03:04:05")
    host.does(lambda: links.attach(one.netns, FIRST, chosen))
    assert link_of(one, "eth0")["address"] == "0a:01:02:03:04:05"
    host.does(lambda: links.attach(two.netns, FIRST, attachment(FIRST, 3)))
    assert link_of(two, "eth0")["address"] not in ("0a:01:02:03:04:05", "00:00:00:00:00:00")


def with_attachment(number: int, **changes: Any) -> Attachment:
    return msgspec.structs.replace(attachment(FIRST, number), **changes)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(("own", "expected"), [(0, 1380), (1300, 1300)])
def test_without_an_mtu_of_its_own_a_network_has_that_of_the_way_out(
    host: Machine, one: Machine, own: int, expected: int
) -> None:
    host.run("ip", "link", "set", "wire", "mtu", "1380")
    host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    network = with_(FIRST, mtu=own)
    connected(host, one, network, 2)
    assert link_of(host, "br1")["mtu"] == expected
    assert link_of(one, "eth0")["mtu"] == expected


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("mtu", [1380, 9000])
def test_who_comes_after_the_last_one_has_the_same_mtu(
    host: Machine, one: Machine, two: Machine, mtu: int
) -> None:
    """The kernel would give a bridge on which nothing is 1500."""
    host.run("ip", "link", "set", "wire", "mtu", str(mtu))
    host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    made = connected(host, one, FIRST, 2)
    host.does(lambda: links.detach(made))
    assert link_of(host, "br1")["mtu"] == mtu
    connected(host, two, FIRST, 3)
    assert link_of(two, "eth0")["mtu"] == mtu


def test_routes_are_for_the_kinds_of_addresses_that_a_container_has(host: Machine, one: Machine) -> None:
    network = with_(
        FIRST, metric=7, routes=[Route("10.9.0.0/16", "10.1.0.9"), Route("fd09::/64", "fd01::9", 5)]
    )
    host.does(lambda: links.ensure_bridge(network))
    host.does(lambda: links.attach(one.netns, network, attachment(network, 2)))
    v4, v6 = one.run("ip", "route"), one.run("ip", "-6", "route")
    assert "default via 10.1.0.1 dev eth0 proto static metric 7" in v4
    assert "10.9.0.0/16 via 10.1.0.9 dev eth0 proto static metric 100" in v4
    assert "default via fd01::1 dev eth0 proto static metric 7" in v6
    assert "fd09::/64 via fd01::9 dev eth0 proto static metric 5" in v6


def test_without_an_address_of_ipv6_there_is_no_route_for_it(host: Machine, one: Machine) -> None:
    host.does(lambda: links.ensure_bridge(FIRST))
    only = with_attachment(2, addresses=[Address("10.1.0.2", 24)])
    host.does(lambda: links.attach(one.netns, FIRST, only))
    assert "default" not in one.run("ip", "-6", "route")


def test_where_new_interfaces_have_no_ipv6_those_of_networks_with_it_have(
    host: Machine, one: Machine
) -> None:
    for machine in (host, one):
        machine.run(
            "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"
        )
    connected(host, one, FIRST, 2)
    one.answers(80, "one", "::")
    assert host.asks("fd01::2", 80) == "one fd01::1"
    assert host.run("sysctl", "-n", "net.ipv6.conf.lo.disable_ipv6").strip() == "1"


@pytest.mark.usefixtures("outside")
def test_a_host_that_begins_to_forward_listens_to_routers_as_before(host: Machine) -> None:
    wire, other = "net.ipv6.conf.wire.accept_ra", "net.ipv6.conf.lo.accept_ra"
    host.run("sysctl", "-qw", f"{wire}=1", f"{other}=0")
    host.does(lambda: links.ensure_bridge(with_(FIRST, internal=True)))
    assert host.run("sysctl", "-n", wire, "net.ipv6.conf.all.forwarding").split() == ["1", "0"]
    host.does(lambda: links.ensure_bridge(FIRST))
    assert host.run("sysctl", "-n", wire, other, "net.ipv6.conf.br1.accept_ra").split() == ["2", "0", "0"]
    assert host.run("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv4.ip_forward").split() == [
        "1",
        "1",
    ]
    host.run("sysctl", "-qw", f"{wire}=1")
    host.does(lambda: links.ensure_bridge(FIRST))
    assert host.run("sysctl", "-n", wire).strip() == "1"


def test_a_host_whose_settings_cannot_be_written_is_told_of(
    host: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container; those on one bridge reach one another."""
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    monkeypatch.setattr(links, "_set", lambda _name, _value: None)
    host.does(lambda: links.ensure_bridge(FIRST))
    told = {fields_of(record)["setting"] for record in caplog.records if "not forward" in record.message}
    assert told == {"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"}


def test_a_bridge_that_others_care_for_is_left_as_it_is(host: Machine, one: Machine) -> None:
    network = with_(FIRST, mode="unmanaged")
    with pytest.raises(
        NetworkFailed, match=r"cannot make the bridge 'br1' of network 'first': .*mode=unmanaged"
    ):
        host.does(lambda: links.ensure_bridge(network))
    host.run("ip", "link", "add", "br1", "type", "bridge")
    host.run("ip", "link", "set", "br1", "up")
    connected(host, one, network, 2)
    assert "inet " not in host.run("ip", "addr", "show", "br1")
    assert one.run("ip", "-4", "addr").count("10.1.0.2/24") == 1
    host.does(lambda: links.remove_bridge(network))
    assert "br1" in host.links()


def test_another_interface_of_the_bridges_name_is_left_alone_and_named(host: Machine) -> None:
    host.run("ip", "link", "add", "br1", "type", "veth", "peer", "name", "other")
    with pytest.raises(
        NetworkFailed, match="the bridge 'br1' of network 'first': the host has another interface"
    ):
        host.does(lambda: links.ensure_bridge(FIRST))
    assert "UP" not in link_of(host, "br1")["flags"]


def test_a_bridge_in_a_virtual_router(host: Machine, one: Machine) -> None:
    network = with_(FIRST, vrf="red")
    with pytest.raises(NetworkFailed, match="there is no vrf 'red'"):
        host.does(lambda: links.ensure_bridge(network))
    assert host.links() == ["lo"]
    try:
        host.run("ip", "link", "add", "red", "type", "vrf", "table", "10")
    except AssertionError:
        return  # the kernel has none: that is what was told
    connected(host, one, network, 2)
    assert link_of(host, "br1")["master"] == "red"


@pytest.mark.usefixtures("outside")
def test_broadcasts_of_macvlan_can_be_limited(host: Machine, one: Machine) -> None:
    network = NetworkPlan(
        "wired", "3" * 64, driver="macvlan", broadcast_limit=5, subnets=[Subnet("192.0.2.0/24")]
    )
    made = Attachment("wired", network.id, driver="macvlan", addresses=[Address("192.0.2.9", 24)])
    with pytest.raises(NetworkFailed, match="the host has no default route to go by"):
        host.does(lambda: links.attach(one.netns, network, made))
    host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    with unless_the_kernel_cannot(host, "ip", "link", "add", "tried", "link", "wire", "type", "macvlan"):
        host.does(lambda: links.attach(one.netns, network, made))
        assert link_of(one, "eth0")["linkinfo"]["info_data"].get("bclim", 5) == 5


def test_hosts_ends_that_are_there_or_not_are_gone(host: Machine, one: Machine) -> None:
    made = [connected(host, one, FIRST, number, interface=f"eth{number}") for number in (2, 3)]
    none = with_attachment(9)
    for attachments in ([], [none], [none, *made]):
        assert len(host.links()) == 4
        host.does(partial(links.ensure_gone, attachments))
    assert sorted(host.links()) == ["br1", "lo"]


def test_thousands_of_hosts_ends_are_gone(host: Machine, one: Machine) -> None:
    """The kernel's answers about all of them find no room in a socket."""
    made = [connected(host, one, FIRST, number, interface=f"eth{number}") for number in (2, 3)]
    none = [with_attachment(9, host_interface=f"none{number}") for number in range(5000)]
    host.does(partial(links.ensure_gone, [made[0], *none, made[1]]))
    assert sorted(host.links()) == ["br1", "lo"]


def test_another_interface_of_a_hosts_ends_name_is_left_alone_and_named(
    host: Machine, one: Machine, two: Machine
) -> None:
    """A bridge, or another container's."""
    host.does(lambda: links.ensure_bridge(FIRST))
    host.run("ip", "link", "add", "mine", "type", "bridge")
    other = connected(host, two, FIRST, 3)
    before = there(host)
    for name in ("mine", "br1", "lo", other.host_interface):
        made = with_attachment(2, host_interface=name)
        for attach in (links.attach, links.mend):
            with pytest.raises(NetworkFailed, match=f"the host has another interface '{name}'"):
                host.does(partial(attach, one.netns, FIRST, made))
        assert not host.does(partial(links.is_attached, one.netns, FIRST, made))
        host.does(partial(links.detach, made))
        host.does(partial(links.ensure_gone, [made]))
    assert there(host) == before
    assert one.links() == ["lo"]


def test_the_end_of_an_earlier_run_that_is_just_going_is_not_in_the_way(
    host: Machine, one: Machine, two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes it away when the container's network namespace has ended."""
    made = connected(host, one, FIRST, 2)
    real = messages.find

    def goes(wire: Wire, name: str) -> messages.Interface | None:
        found = real(wire, name)
        if name == made.host_interface and found is not None:
            wire.tell(messages.remove(found.index))
            return None
        return found

    with monkeypatch.context() as patches:
        patches.setattr(messages, "find", goes)
        host.does(lambda: links.attach(two.netns, FIRST, made))
    two.answers(80, "two")
    assert host.asks("10.1.0.2", 80).startswith("two ")


def there(machine: Machine) -> list[tuple[str, ...]]:
    """The interfaces, as far as only somebody can change them."""
    found = json.loads(machine.run("ip", "-j", "link"))
    return [tuple(str(each.get(key)) for key in ("ifindex", "ifname", "address", "master")) for each in found]


def test_a_hosts_end_tells_whose_it_is(host: Machine, one: Machine) -> None:
    made = connected(host, one, FIRST, 2)
    assert link_of(host, made.host_interface)["ifalias"] == made.label


def test_many_containers_at_once(host: Machine, one: Machine) -> None:
    """Each with a thread of its own, on one bridge that nobody has made yet."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        made = with_attachment(number, interface=f"eth{number}")

        def act() -> None:
            links.ensure_bridge(FIRST)
            links.attach(one.netns, FIRST, made)

        try:
            host.does(act)
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(one.links()) == 9
    assert len(host.does(lambda: links.cleared(FIRST, "another"))) == 8


def test_what_has_a_mark_is_led_to_the_host_itself(host: Machine) -> None:
    def work() -> None:
        with Wire() as wire:
            for _ in range(2):
                for family in (socket.AF_INET, socket.AF_INET6):
                    wire.tell(
                        messages.marked(family, 0x70, 112, 100), messages.everything_local(family, 1, 112)
                    )

    host.does(work)
    for family in ("-4", "-6"):
        assert host.run("ip", family, "rule").count("100:\tfrom all fwmark 0x70 lookup 112") == 1
        assert "local default dev lo" in host.run("ip", family, "route", "show", "table", "112")
