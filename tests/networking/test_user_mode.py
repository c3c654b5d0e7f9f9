"""An ordinary user's containers by pasta and slirp4netns: who reaches whom, and from which address."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, HOST6, OUTSIDE, OUTSIDE6, ask, await_answer, pause
from tests.networking.fetching import fetches
from tests.networking.programs import helper
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from tests.networking.conftest import Net

pytestmark = pytest.mark.parametrize("module_net", ["user"], indirect=True, scope="module")

SLIRP = "slirp4netns:port_handler=slirp4netns"


def test_pasta_is_what_an_ordinary_user_has(net: Net) -> None:
    net.run("a")
    assert net.engine.inspect("a")["HostConfig"]["NetworkMode"] == "pasta"
    assert (net.address("a", "wire"), net.address("a", "wire", 6)) == (HOST, HOST6)
    for kind in ("tcp", "udp"):
        for outside, host in ((OUTSIDE, HOST), (OUTSIDE6, HOST6)):
            assert net.asks("a", outside, 7, kind).startswith(f"outside {host}")


def test_a_host_without_a_default_route_is_told_what_to_do(net: Net) -> None:
    ways = ((), "192.0.2.2"), (("-6",), "fd02::2")
    for family, _ in ways:
        net.host.run("ip", *family, "route", "del", "default")
    try:
        done = net.engine.cli("run", "--rm", "--network", "pasta", *net.root, "true", check=False)
        tried = [*net.engine.place.prefix("/"), "pasta", "--config-net", "true"]
        can = subprocess.run(tried, capture_output=True, check=False).returncode == 0
        assert (done.returncode == 0) == can, "later versions do without a route"
        assert can or "use --network slirp4netns or none" in done.stderr
        net.engine.cli("run", "--rm", "--network", "slirp4netns", *net.root, "true")
    finally:
        for family, gateway in ways:
            net.host.run("ip", *family, "route", "add", "default", "via", gateway)


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_with_pasta_the_true_source_address_stays(net: Net, kind: str) -> None:
    """Of a client that speaks first: some versions of pasta are not done with a connection until it does."""
    protocol = "tcp" if kind == "SOCK_STREAM" else "udp"
    net.serve("web", "--network", "pasta", "-p", f"8080:80/{protocol}")
    assert net.outside.asks(HOST, 8080, kind=kind).split()[:2] == ["web", OUTSIDE]
    assert net.outside.asks(HOST6, 8080, kind=kind).split()[:2] == ["web", OUTSIDE6]
    assert net.outside.asks(HOST, 80, kind=kind, seconds=0.5) == ""
    net.engine.cli("stop", "web")
    assert net.outside.asks(HOST, 8080, kind=kind, seconds=0.5) == ""


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", SLIRP])
def test_published_ports_have_all_the_forms(net: Net, network: str) -> None:
    """A range, both protocols, one that is chosen, and what is exposed."""
    ports = ("-p", "8090-8092:80-82", "-p", "8093:80/udp", "-p", "83", "--expose", "84", "-P")
    net.serve("web", "--network", network, *ports, ports=(80, 81, 82, 83, 84))
    for port in (8090, 8091, 8092):
        assert ask(net.host, "127.0.0.1", port).startswith("web "), port
    assert ask(net.outside, HOST, 8093, "udp").startswith("web ")
    for inner in ("83", "84"):
        (chosen,) = net.engine.out("port", "web", inner).splitlines()
        assert ask(net.host, "127.0.0.1", int(chosen.rpartition(":")[2])).startswith("web "), inner


def test_a_port_at_one_address_is_not_reached_at_others(net: Net) -> None:
    net.serve("web", "--network", "pasta", "-p", "127.0.0.1:8080:80", "-p", "[::1]:8081:80")
    assert ask(net.host, "127.0.0.1", 8080).startswith("web ")
    assert ask(net.host, "::1", 8081).startswith("web ")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    assert ask(net.outside, HOST6, 8081, seconds=0.5) == ""


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_slirp4netns_leaves_source_addresses_as_they_are_where_it_forwards(net: Net, kind: str) -> None:
    net.serve("web", "--network", SLIRP, "-p", f"8080:80/{kind}")
    assert net.address("web", "tap0") == "10.0.2.100"
    assert ask(net.outside, HOST, 8080, kind) == f"web {OUTSIDE}"
    assert net.asks("web", OUTSIDE, 7, kind).startswith(f"outside {HOST}")


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_forwarder_of_slirp4netns_is_whom_the_container_sees(net: Net, kind: str) -> None:
    net.serve("web", "--network", "slirp4netns", "-p", f"8080:80/{kind}")
    assert ask(net.outside, HOST, 8080, kind) == "web 10.0.2.100"
    assert ask(net.outside, HOST6, 8080, kind) == "web 10.0.2.100"
    assert ask(net.host, "127.0.0.1", 8080, kind) == "web 10.0.2.100"


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", SLIRP])
def test_an_http_client_gets_a_file_of_a_published_server(net: Net, network: str) -> None:
    fetches(net, network)


@pytest.mark.parametrize(("network", "program"), [("pasta", "pasta"), (SLIRP, "slirp4netns")])
def test_traffic_goes_on_two_seconds_after_the_program_was_killed(
    net: Net, network: str, program: str
) -> None:
    net.serve("web", "--network", network, "-p", "8080:80")

    def kill() -> float:
        with net.meanwhile_on(net.host, "keep", "127.0.0.1", "8080") as kept:
            since = net.engine.last_seq()
            os.kill(helper(net, program), signal.SIGKILL)
            net.engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
            await_answer(partial(ask, net.host, "127.0.0.1", 8080), "web ")
        return pause(kept)

    quickly(kill, 2.0)
