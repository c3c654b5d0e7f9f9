"""An ordinary user's sandbox: there while it is needed, found again whatever dies, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.networking.conftest import HOST, OUTSIDE, TALK, ask, await_answer
from tests.networking.programs import another, end
from tests.networking.sandboxes import is_gone, space, space_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.networking.conftest import Net

pytestmark = pytest.mark.parametrize("module_net", ["user"], indirect=True)

MOST = 20
"""Times that a test tries what it cannot make happen."""


def told(net: Net, since: int) -> list[tuple[str, str]]:
    """What was said of helper programs."""
    events = net.engine.events(since)
    return [
        (each["Status"], each["Attributes"]["helper"])
        for each in events
        if each["Status"].startswith("helper-")
    ]


def test_it_is_one_for_all_and_goes_with_the_last(net: Net) -> None:
    net.engine.cli("network", "create", "second")
    net.serve("a", "--network", "bridge", "-p", "8080:80")
    first = space(net)
    net.run("b", "--network", "second")
    assert space(net) == first != 0
    net.engine.cli("rm", "--force", "a")
    for _ in range(MOST):
        soon = net.follows("b", "b")
        if space(net) == first:
            break
        assert not soon, "who comes soon enough finds it"
        first = space(net)
    assert space(net) == first
    assert net.asks("b", OUTSIDE, 7).startswith("outside ")
    net.engine.cli("rm", "--force", "b")
    is_gone(net)


def test_who_comes_after_it_has_gone_has_another_one(net: Net) -> None:
    for _ in range(2):
        net.serve("a", "--network", "bridge", "-p", "8080:80")
        assert ask(net.outside, HOST, 8080) == f"a {OUTSIDE}"
        net.engine.cli("rm", "--force", "a")
        is_gone(net)


def test_many_at_once_share_it(net: Net) -> None:
    def live(number: int) -> str:
        options = ("--network", "bridge", "-p", f"{9000 + number}:80")
        return net.engine.out("run", "--rm", *options, *net.root, "ip", "-4", "-o", "addr", "show", "eth0")

    with ThreadPoolExecutor(8) as pool:
        addresses = {each.split()[3] for each in pool.map(live, range(16))}
    assert len(addresses) == 16
    is_gone(net)


def test_commands_of_the_user_reach_containers_on_bridges(net: Net) -> None:
    """By addresses that nobody has on the host."""
    join = ("unshare", "--rootless-netns")
    refused = net.engine.cli(*join, "true", check=False)
    assert refused.returncode == 125
    assert "it is there while a container on a bridge runs" in refused.stderr
    net.serve("a", "--network", "bridge")
    told = net.engine.out(*join, *TALK, "ask", net.address("a"), "80", "tcp", "2")
    assert told == "a 10.88.0.1"
    assert net.engine.cli(*join, "sh", "-c", "exit 7", check=False).returncode == 7


@pytest.mark.parametrize("name", ["forwarder", "pasta"])
def test_a_killed_helper_is_back_and_no_container_notices(net: Net, name: str) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80", "-p", "8080:80/udp")
    began, since = net.engine.inspect("web")["State"]["StartedAt"], net.engine.last_seq()
    former = end(net, name)
    another(net, name, former)
    until(lambda: ("helper-restarted", name) in told(net, since), "nobody was told")
    assert told(net, since) == [("helper-lost", name), ("helper-restarted", name)]
    for kind in ("tcp", "udp"):
        assert ask(net.outside, HOST, 8080, kind) == f"web {OUTSIDE}"
    assert net.asks("web", OUTSIDE, 7).startswith("outside ")
    assert net.engine.inspect("web")["State"]["StartedAt"] == began


def test_who_connects_while_the_forwarder_is_dead_waits_and_is_answered(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    supervisor = net.engine.pid
    os.kill(supervisor, signal.SIGSTOP)
    end(net, "forwarder")
    waiting = net.outside.does(lambda: socket.create_connection((HOST, 8080), 20))
    os.kill(supervisor, signal.SIGCONT)
    with waiting:
        assert waiting.recv(100).decode().strip() == f"web {OUTSIDE}"


@pytest.mark.parametrize("helpers", [["forwarder"], ["forwarder", "pasta"]], ids=" and ".join)
def test_a_supervisor_that_is_killed_with_its_helpers_finds_the_sandbox_and_mends_it(
    net: Net, helpers: list[str]
) -> None:
    """Nobody is interrupted where it is killed alone: test_killed.py."""
    net.serve("web", "--network", "bridge", "-p", "8080:80", "-p", "8080:80/udp")
    net.run("other", "--network", "bridge")
    former = space(net)
    net.engine.kill(wait=False)
    for name in helpers:
        end(net, name)
    await_answer(partial(ask, net.outside, HOST, 8080), f"web {OUTSIDE}")
    assert ask(net.outside, HOST, 8080, "udp") == f"web {OUTSIDE}"
    await_answer(partial(net.asks, "other", OUTSIDE, 7), "outside ")
    assert space(net) == former
    net.engine.cli("rm", "--force", "--all")
    is_gone(net)


def test_what_a_killed_supervisor_leaves_idle_the_next_one_takes_away(net: Net) -> None:

    def is_left_idle() -> bool:
        net.run("web", "--network", "bridge", "-p", "8080:80")
        supervisor = net.engine.pid
        net.engine.remove_containers()
        os.kill(supervisor, signal.SIGSTOP)
        found = space_of(net, supervisor)
        os.kill(supervisor, signal.SIGKILL if found else signal.SIGCONT)
        return bool(found)

    assert any(is_left_idle() for _ in range(MOST))
    net.engine.cli("ps")
    is_gone(net)


def test_a_container_that_is_restarted_keeps_its_port(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80", "--restart", "always")
    since = net.engine.last_seq()
    net.kill("web")
    net.engine.await_event(lambda event: event["Status"] == "start", since)
    net.await_up("web", 2)
    assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"
    net.engine.cli("restart", "--time", "0", "web")
    net.await_up("web", 3)
    assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"


def test_more_ports_than_a_monitor_holds_are_led(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "9000-9599:80-679")
    assert ask(net.outside, HOST, 9000) == f"web {OUTSIDE}"
    assert ask(net.outside, HOST, 9599) == ""  # nobody listens there in the container
    former = end(net, "forwarder")
    another(net, "forwarder", former)
    await_answer(partial(ask, net.outside, HOST, 9000), f"web {OUTSIDE}")


def test_the_containers_loopback_and_the_hosts_are_not_confused(net: Net) -> None:
    """The host's loopback is what no container reaches, and nobody but the host sees what is published there."""
    net.serve("web", "--network", "bridge", "-p", "127.0.0.1:8080:80")
    assert ask(net.host, "127.0.0.1", 8080).startswith("web ")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    assert net.asks("web", "127.0.0.1", 7, seconds=0.5) == ""


def test_a_port_in_use_is_named_and_nothing_stays(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    options = ("--name", "late", "--network", "bridge", "-p", "8080:80", *net.root, "true")
    failed = net.engine.cli("run", "--detach", *options, check=False)
    assert failed.returncode == 126
    assert "8080" in failed.stderr
    net.engine.cli("rm", "late")
    assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"


@contextlib.contextmanager
def offline(net: Net) -> Iterator[None]:
    ways = ("192.0.2.2", "fd02::2")
    for way in ways:
        net.host.run("ip", "route", "del", "default", "via", way)
    try:
        yield
    finally:
        for way in ways:
            net.host.run("ip", "route", "add", "default", "via", way)


def test_who_comes_while_the_host_is_offline_asks_as_the_others_do(net: Net) -> None:
    """Through the way out that is there, and has what it was begun with."""
    net.serve("web", "--network", "bridge")
    with offline(net):
        net.run("late", "--network", "bridge")
        net.engine.kill()
        net.run("later", "--network", "bridge")
    asked = {net.engine.out("exec", name, "cat", "/etc/resolv.conf") for name in ("web", "late", "later")}
    assert len(asked) == 1
    assert "nameserver 169.254.1.1" in asked.pop()
    assert net.asks("later", OUTSIDE, 7).startswith("outside ")


def test_a_host_without_a_way_out_has_bridges_nevertheless(net: Net) -> None:
    """And they lead out once it has one, whatever supervisor there is by then."""
    is_gone(net)
    with offline(net):
        net.serve("web", "--network", "bridge", "-p", "8080:80")
        assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"
        assert "nameserver 10.0.2.3" in net.engine.out("exec", "web", "cat", "/etc/resolv.conf")
    assert net.asks("web", OUTSIDE, 7).startswith("outside ")
    net.engine.kill()
    net.run("late", "--network", "bridge")
    assert "nameserver 10.0.2.3" in net.engine.out("exec", "late", "cat", "/etc/resolv.conf")
    assert net.asks("late", HOST, 7).startswith("host ")


def test_the_names_of_networks_and_addresses_are_podmans(net: Net) -> None:
    net.run("a", "--network", "bridge")
    (network,) = net.engine.inspect("a")["NetworkSettings"]["Networks"].items()
    found: dict[str, Any] = network[1]
    assert network[0] == "podman"
    assert found["Gateway"] == "10.88.0.1"
    assert "podman0" in net.filter("ip", "-br", "link")
