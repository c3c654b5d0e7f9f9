"""An ordinary user's containers on bridges, whose way out is slirp4netns."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, OUTSIDE, OUTSIDE6, ask, await_answer, upstream
from tests.networking.programs import another, found, helper
from tests.networking.sandboxes import is_gone
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

CONFIG = """\
[network]
default_rootless_network_cmd = "slirp4netns"
[engine]
network_cmd_options = ["enable_ipv6=true"]
"""

PROGRAM = "slirp4netns"

pytestmark = [
    pytest.mark.skipif(not shutil.which("slirp4netns"), reason="there is no slirp4netns"),
    pytest.mark.parametrize("module_net", ["user"], indirect=True),
]


def test_containers_reach_one_another_the_host_and_the_world(net: Net) -> None:
    net.serve("a", "--network", "bridge")
    net.run("b", "--network", "bridge")
    assert helper(net, PROGRAM)
    assert net.asks("b", net.address("a")).startswith("a ")
    for kind in ("tcp", "udp"):
        assert net.asks("b", OUTSIDE, 7, kind).startswith(f"outside {HOST}")
        assert net.asks("b", HOST, 7, kind).startswith("host ")
    assert net.asks("b", "host.containers.internal", 7).startswith("host ")
    # The host's loopback is closed, as it is unless `allow_host_loopback` is said.
    assert net.asks("b", "10.0.2.2", 7, seconds=0.5) == ""


def test_ports_lead_in_and_clients_are_seen(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80", "-p", "8080:80/udp")
    for kind in ("tcp", "udp"):
        assert ask(net.outside, HOST, 8080, kind) == f"web {OUTSIDE}"
        assert ask(net.host, "127.0.0.1", 8080, kind).startswith("web ")
        assert net.asks("web", HOST, 8080, kind).startswith("web ")


def test_ipv6_leads_out_where_it_is_said_to(net: Net) -> None:
    net.engine.cli("network", "create", "--ipv6", "dual")
    net.run("a", "--network", "dual")
    assert net.asks("a", OUTSIDE6, 7).startswith("outside ")


def test_a_name_server_elsewhere_is_asked(net: Net) -> None:
    with upstream(net):
        net.run("a", "--network", "bridge", "--dns", OUTSIDE)
        assert net.asks("a", "some.example", 7).startswith("outside ")


def test_killed_it_is_back_and_the_container_stays(net: Net) -> None:
    net.run("a", "--network", "bridge")
    init, former, since = net.pid("a"), helper(net, PROGRAM), net.engine.last_seq()
    os.kill(former, signal.SIGKILL)
    net.engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
    another(net, PROGRAM, former)
    await_answer(partial(net.asks, "a", OUTSIDE, 7), "outside ")
    assert net.pid("a") == init


def test_it_ends_with_the_last_container(net: Net) -> None:
    net.run("a", "--network", "bridge")
    net.engine.cli("rm", "--force", "a")
    is_gone(net)
    until(lambda: not found(net, PROGRAM), "it is there still")


def test_a_killed_supervisor_finds_it_again(net: Net) -> None:
    net.run("a", "--network", "bridge")
    former = helper(net, PROGRAM)
    net.engine.kill()
    assert net.asks("a", OUTSIDE, 7).startswith("outside ")
    assert helper(net, PROGRAM) == former
