"""Networks that change while they are in use: containers come on them and go, and what somebody has removed is made anew."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, OUTSIDE, ask, pause
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from tests.networking.conftest import Net

IDLE = True
BRIDGE = "podman1"
"""Of the first network."""
KILLS, STEP = 6, 0.008
"""How many, and the seconds by which each comes later than the one before it."""
LONGEST = 1.0
"""Seconds without an answer that a reload may cost."""


@pytest.fixture
def two(net: Net) -> Net:
    """With the networks first and second."""
    for name in ("first", "second"):
        net.engine.cli("network", "create", name)
    return net


def straight_to(net: Net, name: str) -> tuple[str, str]:
    """From its host. An ordinary user's containers have no other way than a published port."""
    return (HOST, "8080") if net.rootless else (net.address(name), "80")


def test_traffic_goes_on_while_networks_come_and_go(two: Net) -> None:
    net = two
    net.serve("web", "--network", "first", "-p", "8080:80")
    net.run("other", "--network", "second")

    def come_and_go() -> float:
        with (
            net.meanwhile_on(net.host, "hold", *straight_to(net, "web")) as held,
            net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept,
        ):
            for _ in range(3):
                net.engine.cli("network", "connect", "second", "web")
                assert net.asks("other", net.address("web", "eth1")) == f"web {net.address('other')}"
                net.engine.cli("network", "disconnect", "second", "web")
        assert int(held[0]) > 0
        assert held[1] == "1", "the connection has ended"
        assert kept[2] == "0", "somebody was refused"
        return pause(kept)

    quickly(come_and_go, LONGEST)


def test_ports_lead_on_when_their_network_is_left(two: Net) -> None:
    net = two
    net.serve("web", "--network", "first", "--network", "second", "-p", "8080:80")
    networks = ["first", "second"]

    def leave_the_first() -> float:
        with net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept:
            net.engine.cli("network", "disconnect", networks[0], "web")
        assert ask(net.outside, HOST, 8080).startswith("web ")
        assert net.asks("web", OUTSIDE, 7).startswith("outside ")
        net.engine.cli("network", "connect", networks[0], "web")
        networks.reverse()
        return pause(kept)

    quickly(leave_the_first, LONGEST)


def claimed(net: Net, name: str) -> int:
    """What a container's monitor has claimed: on each network an address, and its bridge."""
    monitor = Path(f"/proc/{net.engine.inspect(name)['State']['ConmonPid']}")
    (claims,) = (
        each for each in (monitor / "fd").iterdir() if each.readlink() == Path("/run/pyman/addresses")
    )
    return (monitor / "fdinfo" / claims.name).read_text().count("OFDLCK")


def test_a_killed_supervisor_leaves_all_of_a_change_or_nothing(two: Net) -> None:
    net, connected = two, False
    net.serve("web", "--network", "first")
    net.run("first", "--network", "first")
    net.run("second", "--network", "second")
    for kill in range(KILLS):
        verb, seq = "disconnect" if connected else "connect", net.engine.last_seq()
        with net.engine.wire() as wire:
            wire.send("io.pyman.System.Info")  # what waits to be accepted would be for the next one
            pid = wire.receive()["parameters"]["supervisor"]["pid"]
            wire.send(f"io.pyman.Network.{verb.title()}", {"name": "second", "container": "web"})
            time.sleep(kill * STEP)
            os.kill(pid, signal.SIGKILL)
        former, connected = connected, net.engine.out("ps", "-qf", "network=second").count("\n") == 1
        told = [event["Status"] for event in net.engine.events(seq, type=["network"])]
        assert [status for status in told if "connect" in status] == ([verb] if connected != former else [])
        links = net.inside("web", "ip", "-br", "link")
        assert ("eth1" in links) == connected
        if not net.rootless:
            assert claimed(net, "web") == (4 if connected else 2)
        assert net.asks("first", net.address("web")).startswith("web ")
        if connected:
            assert net.asks("second", net.address("web", "eth1")).startswith("web ")


def test_an_update_is_known_at_once_and_to_the_next_supervisor(two: Net) -> None:
    net = two
    net.run("a", "--network", "first")
    (network,) = json.loads(net.engine.out("network", "inspect", "first"))
    zone = net.engine.path / "tmp" / "names" / network["id"]
    before = zone.read_text()
    net.engine.cli("network", "update", "--dns-add", OUTSIDE, "first")
    changed = zone.read_text()
    assert changed.splitlines()[0].endswith(f" {OUTSIDE}")
    net.engine.kill()
    net.run("b", "--network", "first")
    assert zone.read_text().splitlines()[:2] == changed.splitlines()
    net.engine.cli("rm", "--force", "b")
    net.engine.cli("network", "update", "--dns-drop", OUTSIDE, "first")
    assert zone.read_text() == before


def test_who_has_left_all_networks_comes_back_with_its_ports(two: Net) -> None:
    net = two
    net.serve("web", "--network", "first", "-p", "8080:80", "-p", "8080:80/udp")
    net.engine.cli("network", "disconnect", "first", "web")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    net.engine.cli("network", "connect", "second", "web")
    for kind in ("tcp", "udp"):
        assert ask(net.outside, HOST, 8080, kind).startswith("web ")
    assert net.asks("web", OUTSIDE, 7).startswith("outside ")
    net.engine.cli("network", "disconnect", "second", "web")
    net.engine.cli("stop", "web")
    net.engine.cli("start", "web")
    assert net.engine.out("exec", "web", "ls", "/sys/class/net") == "lo"


def test_a_reload_of_all_is_about_those_on_networks(two: Net) -> None:
    net = two
    net.run("a", "--network", "first")
    net.run("b", "--network", "slirp4netns")
    net.run("c", "--network", "none")
    assert net.engine.out("network", "reload", "--all") == net.engine.inspect("a")["Id"]
    done = net.engine.cli("network", "reload", "b", check=False)
    assert (
        "cannot reload the networks of container 'b': it was created with --network slirp4netns"
        in done.stderr
    )


def test_a_reload_under_traffic_mends_what_was_flushed(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80", "-p", "8080:80/udp")
    net.run("idle", "--network", "bridge")
    net.filter("nft", "add", "table", "inet", "others")

    def reload() -> float:
        with (
            net.meanwhile_on(net.host, "hold", *straight_to(net, "web")) as held,
            net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept,
        ):
            net.engine.cli("network", "reload", "--all")
        assert held[1] == "1", "the connection has ended"
        return pause(kept)

    def mend() -> float:
        with net.meanwhile_on(net.outside, "keep", HOST, "8080") as kept:
            net.filter("nft", "flush", "ruleset")
            net.engine.cli("network", "reload", "web")
            assert ask(net.outside, HOST, 8080).startswith("web ")
        return pause(kept)

    quickly(reload, LONGEST)
    quickly(mend, LONGEST)
    net.filter("nft", "flush", "ruleset")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    net.engine.cli("network", "reload", "idle")  # whichever is named: the rules are one table
    for kind in ("tcp", "udp"):
        assert ask(net.outside, HOST, 8080, kind).startswith("web ")
    assert net.asks("idle", OUTSIDE, 7).startswith("outside ")


def test_a_reload_leaves_other_tables_alone(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    net.filter("nft", "add", "table", "inet", "others")
    before = net.filter("nft", "list", "ruleset")
    net.engine.cli("network", "reload", "--all")
    assert net.filter("nft", "list", "ruleset") == before
    net.filter("nft", "delete", "table", "inet", "others")


def test_a_reload_mends_interfaces_and_bridges(two: Net) -> None:
    net = two
    net.serve("a", "--network", "first")
    net.run("b", "--network", "first")
    address = net.address("a")
    net.filter("ip", "link", "del", BRIDGE)
    assert net.asks("b", address, seconds=0.5) == ""
    assert len(net.engine.out("network", "reload", "--all").split()) == 2
    assert net.asks("b", address) == f"a {net.address('b')}"
    for link in json.loads(net.filter("ip", "-j", "link", "show", "master", BRIDGE)):
        net.filter("ip", "link", "del", link["ifname"])
    assert net.asks("b", address, seconds=0.5) == ""
    net.engine.cli("network", "reload", "a", "b")
    assert net.address("a") == address
    assert net.asks("b", address) == f"a {net.address('b')}"


@pytest.mark.parametrize("change", ["link del", "addr flush", "link set down"])
def test_who_comes_after_somebody_has_broken_a_bridge_finds_it_whole(two: Net, change: str) -> None:
    net = two
    net.run("first", "--network", "first")
    net.filter("ip", *change.split(), "dev", BRIDGE)
    net.serve("second", "--network", "first")
    net.run("third", "--network", "first")
    assert net.asks("third", "second") == f"second {net.address('third')}"
    net.engine.cli("network", "reload", "first")
    assert net.asks("first", "second") == f"second {net.address('first')}"
