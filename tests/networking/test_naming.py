"""Containers are found by their names, by whoever is on a network with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.networking.conftest import OUTSIDE, TALK, await_answer, upstream
from tests.runtime import naming
from tests.support import processes
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net


def server(net: Net) -> int:
    """The name server's pid; 0: there is none."""
    (pid,) = servers(net) or [0]
    return pid


def servers(net: Net) -> list[int]:
    """While it begins it may be two processes."""
    found = processes.mentions([f"--config {net.engine.path}", f"{net.engine.path}/tmp/names"])
    return [pid for pid in found if processes.alive(pid) and "aardvark-dns" in processes.describe(pid)]


def is_found(net: Net, asker: str, name: str) -> bool:
    """What the name server of its network says at once; the container's own questions go on to others, who keep silent."""
    gateway = net.address(asker).rpartition(".")[0] + ".1"
    said: list[str] = []

    def asked() -> bool:
        said[:] = naming.ask(net.inner(asker), gateway, f"{name}.dns.podman")
        return said != ["nobody"]

    until(asked, f"nobody serves names at {gateway}")
    return said != ["unknown"]


def test_by_name_alias_short_id_and_host_name(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first", "--network-alias", "www", "--hostname", "shop")
    net.run("b", "--network", "first")
    b = net.address("b")
    short = net.engine.inspect("web")["Id"][:12]
    for name in ("web", "WEB", "www", "shop", short, "web.dns.podman"):
        assert net.asks("b", name) == f"web {b}", name
    resolv_conf = net.engine.out("exec", "b", "cat", "/etc/resolv.conf")
    gateway = b.rpartition(".")[0] + ".1"
    assert resolv_conf.splitlines()[:2] == ["search dns.podman", f"nameserver {gateway}"]
    assert "nameserver" not in resolv_conf.replace(f"nameserver {gateway}", "")


def test_the_very_first_question_is_answered(net: Net) -> None:
    """To a container that asks as soon as it runs, for others and for itself."""
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first")
    for _ in range(3):
        ran = net.engine.out(
            *("run", "--rm", "--name", "me", "--network", "first", *net.root),
            *("sh", "-c", "nslookup web >/dev/null && nslookup me >/dev/null && echo found"),
        )
        assert ran == "found"


def test_on_the_default_network_nobody_serves_names(net: Net) -> None:
    """Whom the host asks is asked, also for a container's name."""
    with upstream(net):
        net.serve("web", "--network", "bridge", ports=(7,))
        net.run("b", "--network", "bridge", "--dns", OUTSIDE)
        assert net.asks("b", "web", 7).startswith("outside ")
        assert not server(net)


def test_on_two_networks_both_are_found_and_do_not_find_each_other(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.engine.cli("network", "create", "second")
    net.serve("a", "--network", "first")
    net.serve("both", "--network", "first", "--network", "second")
    net.serve("z", "--network", "second")
    assert net.asks("both", "a").startswith("a ")
    assert net.asks("both", "z").startswith("z ")
    assert net.asks("a", "both").startswith("both ")
    assert net.asks("z", "both").startswith("both ")
    assert is_found(net, "a", "both")
    assert not is_found(net, "a", "z")


def test_names_come_and_go_with_networks(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.engine.cli("network", "create", "second")
    net.serve("a", "--network", "first")
    net.serve("b", "--network", "second")
    assert not is_found(net, "a", "b")
    net.engine.cli("network", "connect", "--alias", "bee", "first", "b")
    assert net.asks("a", "b").startswith("b ")
    assert net.asks("a", "bee").startswith("b ")
    net.engine.cli("network", "disconnect", "first", "b")
    until(lambda: not is_found(net, "a", "b"), "it is still found")
    net.engine.cli("stop", "a", "b")
    until(lambda: not servers(net), "it is still there")


def test_the_new_name_of_one_that_runs_is_found(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first")
    net.run("b", "--network", "first")
    assert net.asks("b", "web").startswith("web ")
    net.engine.cli("rename", "web", "shop")
    until(lambda: is_found(net, "b", "shop"), "it is not found")
    assert net.asks("b", "shop").startswith("web ")
    until(lambda: not is_found(net, "b", "web"), "the former one is found still")


def test_the_killed_name_server_is_back_and_nobody_is_restarted(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first")
    net.run("b", "--network", "first")
    pids = net.pid("web"), net.pid("b")
    killed = server(net)
    events = net.engine.follow(type=["network"])
    os.kill(killed, signal.SIGKILL)
    told = [next(events) for _ in range(3)]
    assert [event["Status"] for event in told] == ["create", "helper-lost", "helper-restarted"]
    assert told[-1]["Attributes"] == {"helper": "aardvark-dns", "pid": str(server(net))}
    assert net.asks("b", "web").startswith("web ")
    assert (net.pid("web"), net.pid("b")) == pids
    assert server(net) not in (0, killed)


def test_it_outlives_the_supervisor_and_goes_with_the_last_container(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first")
    net.run("b", "--network", "first")
    there = server(net)
    net.engine.kill()
    assert net.asks("b", "web").startswith("web ")
    assert server(net) == there
    net.run("c", "--network", "first")
    assert is_found(net, "b", "c")
    assert net.asks("c", "web").startswith("web ")
    net.engine.cli("rm", "--force", "--time", "0", "web", "b")
    assert server(net) == there
    net.engine.cli("rm", "--force", "--time", "0", "c")
    until(lambda: not servers(net), "it is still there")


def test_supervisors_killed_while_somebody_joins_leave_the_names_of_those_who_run(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.run("b", "--network", "first")
    for number in range(6):
        words = ("run", "--detach", "--name", f"c{number}", "--stop-timeout", "0", "--network", "first")
        with net.engine.spawn(*words, *net.root, *TALK, "serve", f"c{number}", "80") as running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # And then in the middle of it, earlier or later; the last time once it is told that it runs.
                running.wait(0.04 * number if number < 5 else 20)
            net.engine.kill()
            running.communicate()
    names = net.engine.out("ps", "--filter", "status=running", "--format", "{{.Names}}").split()
    assert {"b", "c5"} <= {*names}
    for name in sorted({*names} - {"b"}):
        await_answer(partial(net.asks, "b", name), f"{name} ")
    net.engine.cli("rm", "--all", "--force", "--time", "0")
    until(lambda: not servers(net), "it is still there")


def test_other_names_are_asked_of_whom_the_network_or_the_container_says(net: Net) -> None:
    with upstream(net):
        net.engine.cli("network", "create", "first")
        net.run("b", "--network", "first", "--dns", OUTSIDE)
        assert net.asks("b", "www.example.org", 7).startswith("outside ")
        net.run("c", "--network", "first")
        net.engine.cli("network", "update", "--dns-add", OUTSIDE, "first")
        await_answer(partial(net.asks, "c", "www.example.org", 7), "outside ")


def test_a_reload_tells_names_that_somebody_has_taken_away(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.serve("web", "--network", "first")
    net.run("b", "--network", "first")
    there = server(net)
    shutil.rmtree(Path(f"{net.engine.path}/tmp/names"))
    os.kill(there, signal.SIGKILL)
    net.engine.cli("network", "reload", "--all")
    await_answer(partial(net.asks, "b", "web"), "web ")


def test_where_others_have_port_53_it_serves_at_the_one_that_is_configured(net: Net) -> None:
    """It is asked at port 53 all the same."""
    subnets = ("--subnet", "10.90.7.0/24", "--subnet", "fd90:7::/64")
    net.engine.cli("network", "create", "--ipv6", *subnets, "first")
    net.engine.add_settings("[network]\ndns_bind_port = 5353\n")
    try:
        net.engine.kill()
        net.serve("web", "--network", "first")
        net.run("b", "--network", "first")
        assert "--port 5353" in processes.describe(server(net))
        for gateway in ("10.90.7.1", "fd90:7::1"):
            assert "10.90.7." in net.engine.out("exec", "b", "nslookup", "-type=a", "web.dns.podman", gateway)
        assert net.asks("b", "web").startswith("web ")
        net.engine.cli("rm", "--force", "--time", "0", "web", "b")
    finally:
        net.engine.add_settings("")
        net.engine.kill()


def test_a_reset_ends_the_name_server_with_everything_else(net: Net) -> None:
    net.engine.cli("network", "create", "first")
    net.run("web", "--network", "first", "--publish", "8080:80")
    there = server(net)
    assert there
    net.engine.cli("system", "check")
    net.engine.kill_keeper()
    net.engine.cli("system", "reset", "-f")
    assert not processes.alive(there)
    net.engine.start()
