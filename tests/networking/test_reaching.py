"""Who reaches whom on bridges, and from which address: containers, their host, another host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, HOST6, OUTSIDE, OUTSIDE6, ask, serving
from tests.networking.fetching import fetches

if TYPE_CHECKING:
    from tests.networking.conftest import Net

IDLE = True
DUAL = ("--ipv6", "--subnet", "10.90.1.0/24", "--subnet", "fd90:1::/64")


def test_containers_on_the_default_network_reach_one_another_and_the_world(net: Net) -> None:
    net.serve("a", "--network", "bridge")
    net.run("b", "--network", "podman")
    a, b = net.address("a"), net.address("b")
    assert a != b
    assert a.startswith("10.88.")
    for kind in ("tcp", "udp"):
        assert net.asks("b", a, kind=kind) == f"a {b}"
        assert net.asks("a", a, kind=kind) == f"a {a}"
        assert net.asks("b", OUTSIDE, 7, kind).startswith("outside 192.0.2.1")
    assert net.engine.out("exec", "b", "ip", "-o", "link").count("\n") == 1


def test_a_container_reaches_its_host(net: Net) -> None:
    net.run("a", "--network", "bridge")
    assert net.asks("a", HOST, 7).startswith("host ")
    assert net.asks("a", "host.containers.internal", 7).startswith("host ")


def test_nobody_outside_reaches_a_port_that_is_not_published(net: Net) -> None:
    net.serve("a", "--network", "bridge")
    assert ask(net.outside, HOST, 80, seconds=0.5) == ""


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_published_port_is_reached_from_host_and_peer(net: Net, kind: str) -> None:
    net.serve("web", "--network", "bridge", "-p", f"8080:80/{kind}")
    told = [
        ask(net.host, "127.0.0.1", 8080, kind),
        ask(net.host, HOST, 8080, kind),
        ask(net.outside, HOST, 8080, kind),
    ]
    assert [each.split()[0] for each in told] == ["web", "web", "web"]
    assert told[2] == f"web {OUTSIDE}"
    other = "udp" if kind == "tcp" else "tcp"
    assert ask(net.outside, HOST, 8080, other, seconds=0.5) == ""
    net.engine.cli("stop", "web")
    assert ask(net.outside, HOST, 8080, kind, seconds=0.5) == ""
    assert ask(net.host, "127.0.0.1", 8080, kind, seconds=0.5) == ""


def test_published_ports_have_all_the_forms(net: Net) -> None:
    """An address, a range, several protocols, and one that is chosen."""
    ports = ("-p", "127.0.0.1:8081:80", "-p", "8090-8092:80-82", "-p", "8093:80/udp", "-p", "83")
    net.serve("web", "--network", "bridge", *ports, ports=(80, 81, 82, 83))
    assert ask(net.host, "127.0.0.1", 8081).startswith("web ")
    assert ask(net.outside, HOST, 8081, seconds=0.5) == ""
    for port in (8090, 8091, 8092):
        assert ask(net.outside, HOST, port).startswith("web ")
    assert ask(net.outside, HOST, 8093, "udp").startswith("web ")
    (chosen,) = net.engine.out("port", "web", "83").splitlines()
    assert ask(net.outside, HOST, int(chosen.rpartition(":")[2])).startswith("web ")


def test_ports_that_an_image_exposes_are_published(net: Net) -> None:
    net.serve("web", "--network", "bridge", "--expose", "80", "-P")
    (chosen,) = net.engine.out("port", "web", "80").splitlines()
    assert ask(net.outside, HOST, int(chosen.rpartition(":")[2])).startswith("web ")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_container_reaches_itself_and_others_by_published_ports(net: Net, kind: str) -> None:
    """Hairpin: out by the host's address, and in again."""
    net.serve("web", "--network", "bridge", "-p", f"8080:80/{kind}")
    net.engine.cli("network", "create", "second")
    net.run("near", "--network", "bridge")
    net.run("far", "--network", "second")
    for name in ("web", "near", "far"):
        assert net.asks(name, HOST, 8080, kind).startswith("web "), name


def test_ipv6_has_all_of_it(net: Net) -> None:
    net.engine.cli("network", "create", *DUAL, "dual")
    net.serve("web", "--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
    net.run("b", "--network", "dual")
    web, b = (net.address(name, family=6) for name in ("web", "b"))
    assert web.startswith("fd90:1::")
    assert net.asks("b", web) == f"web {b}"
    assert net.asks("b", web, kind="udp") == f"web {b}"
    assert net.asks("b", OUTSIDE6, 7).startswith("outside fd02::1")
    assert net.asks("b", HOST6, 7).startswith("host ")
    for kind in ("tcp", "udp"):
        told = ask(net.outside, HOST6, 8080, kind)
        assert told == f"web {OUTSIDE6}"
        assert ask(net.host, HOST6, 8080, kind).startswith("web ")
        assert ask(net.outside, HOST, 8080, kind).startswith("web ")


def test_an_internal_network_leads_nowhere_else(net: Net) -> None:
    net.engine.cli("network", "create", "--internal", "inner")
    net.serve("a", "--network", "inner")
    net.run("b", "--network", "inner")
    assert net.asks("b", net.address("a")).startswith("a ")
    assert net.asks("b", OUTSIDE, 7, seconds=0.5) == ""
    assert "default" not in net.engine.out("exec", "b", "ip", "route")


def test_networks_are_isolated_where_they_are_said_to_be(net: Net) -> None:
    """What is said of each, and who is reached then: `tests/network/test_paths.py` has the rules."""
    for name, isolate in (("plain", ()), ("one", ("true",)), ("two", ("true",)), ("strict", ("strict",))):
        options = [word for each in isolate for word in ("--opt", f"isolate={each}")]
        net.engine.cli("network", "create", *options, name)
        net.serve(name, "--network", name)
    net.run("near", "--network", "podman")
    for asker, other in (("near", "plain"), ("one", "plain"), ("plain", "one")):
        assert net.asks(asker, net.address(other)).startswith(f"{other} "), (asker, other)
    for asker, other in (("one", "two"), ("two", "one"), ("strict", "plain"), ("plain", "strict")):
        assert net.asks(asker, net.address(other), seconds=0.5) == "", (asker, other)
    for name in ("one", "two", "strict"):
        assert net.asks(name, OUTSIDE, 7).startswith("outside "), name


def test_a_container_on_two_networks_is_reached_on_both(net: Net) -> None:
    for name in ("first", "second"):
        net.engine.cli("network", "create", name)
    net.serve("both", "--network", "first:interface_name=one", "--network", "second:interface_name=two")
    net.run("a", "--network", "first")
    net.run("b", "--network", "second")
    assert net.asks("a", net.address("both", "one")) == f"both {net.address('a')}"
    assert net.asks("b", net.address("both", "two")) == f"both {net.address('b')}"
    assert net.asks("both", OUTSIDE, 7).startswith("outside ")
    links = net.engine.out("exec", "both", "ls", "/sys/class/net").split()
    assert sorted(links) == ["lo", "one", "two"]


def test_an_http_client_gets_a_file_of_a_published_server(net: Net) -> None:
    fetches(net, "bridge")


def test_containers_of_another_network_namespace_are_not_wired(net: Net) -> None:
    """None, the host's, and another container's."""
    net.serve("owner", "--network", "bridge")
    net.run("guest", "--network", "container:owner")
    net.run("alone", "--network", "none")
    net.run("host", "--network", "host")
    assert net.asks("guest", "127.0.0.1") == "owner 127.0.0.1"
    assert net.asks("alone", net.address("owner"), seconds=0.5) == ""
    assert net.engine.out("exec", "alone", "ls", "/sys/class/net") == "lo"
    assert net.asks("host", "127.0.0.1", 7) == "host 127.0.0.1"


def test_a_port_of_the_host_that_is_in_use_is_refused_by_its_number(net: Net) -> None:
    """By a program, and by another container."""
    net.serve("web", "--network", "bridge", "-p", "8080-8081:80-81")
    with serving(net.host, "serve", "program", "8100"):
        for port in ("8081", "8100"):
            words = ("run", "--name", "late", "--network", "bridge", "-p", f"{port}:80", *net.root, "true")
            done = net.engine.cli(*words, check=False)
            assert done.returncode == 126, done
            assert port in done.stderr
            assert len(done.stderr.splitlines()) == 1
            net.engine.cli("rm", "--force", "--ignore", "late")
    assert ask(net.host, HOST, 8080).startswith("web ")


def test_a_flushed_packet_filter_is_made_anew_by_the_next_that_publishes_a_port(net: Net) -> None:
    """For all containers, and without a reload."""
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    net.filter("nft", "flush", "ruleset")
    net.run("b", "--network", "bridge", "-p", "8081:80")
    assert net.asks("b", OUTSIDE, 7).startswith("outside ")
    assert ask(net.outside, HOST, 8080).startswith("web ")
