"""Containers whose addresses a DHCP server gives, on the host's own wire: busybox's server, and one that says anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, OUTSIDE, ask, await_answer, pause
from tests.support import processes
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.networking.conftest import Net

pytestmark = pytest.mark.parametrize("module_net", ["root"], indirect=True)
"""An ordinary user's networks are in the sandbox, where nobody gives addresses: test_definitions.py."""

IDLE = True
_SERVER = ("/usr/bin/python3", "-c", (Path(__file__).parent / "dhcp_server.py").read_text())
_MAC = "92:d0:c6:0a:29:35"
BACK = 2.0
"""Seconds in which a client that was killed has to be back."""
LONGEST = 1.0
"""Seconds without an answer, by which nobody is interrupted."""


@contextlib.contextmanager
def udhcpd(net: Net, directory: Path) -> Iterator[None]:
    """busybox's, on the other host."""
    config = directory / "udhcpd.conf"
    config.write_text(
        "start 192.0.2.100\nend 192.0.2.149\ninterface wire\n"
        f"lease_file {directory}/leases\npidfile {directory}/pid\n"
        "option subnet 255.255.255.0\noption router 192.0.2.2\noption dns 192.0.2.2 192.0.2.3\n"
        f"option domain example.test\noption lease 600\nstatic_lease {_MAC} 192.0.2.177\n"
    )
    (directory / "leases").touch()
    words = net.outside.words("busybox", "udhcpd", "-f", "-a", "1", str(config))
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        said = server.stderr
        assert said is not None
        reader = threading.Thread(target=said.read)
        try:
            lines = iter(said.readline, "")
            assert any("started" in line for line in lines), "no server"
            reader.start()
            yield
        finally:
            server.kill()
            if reader.ident is not None:
                reader.join()


class Server:
    """What `dhcp_server.py` says, and what it was asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.address = ""
        self.asked: list[str] = []

    def requests(self) -> int:
        return sum(each.startswith("request ") for each in self.asked)

    def is_given(self, address: str) -> bool:
        """Back."""
        return any(each.startswith(f"release {address} ") for each in self.asked)

    def says(self, address: str, *more: str) -> None:
        self.address = address
        made = self._path.with_suffix(".new")
        lines = (f"address {address}",) if address else ()
        made.write_text("\n".join((*lines, f"server {OUTSIDE}", "mask 255.255.255.0", *more)) + "\n")
        made.rename(self._path)


@pytest.fixture
def server(net: Net, tmp_path: Path) -> Iterator[Server]:
    said = Server(tmp_path / "says")
    said.says("192.0.2.150", f"router {OUTSIDE}")
    words = net.outside.words(*_SERVER, "wire", str(tmp_path / "says"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        lines = program.stdout
        assert lines is not None

        def collect() -> None:
            for line in lines:
                said.asked.append(line.strip())

        reader = threading.Thread(target=collect)
        try:
            assert lines.readline() == "up\n"
            reader.start()
            yield said
        finally:
            program.kill()
            if reader.ident is not None:
                reader.join()


@pytest.fixture(autouse=True)
def _lan(net: Net) -> None:
    net.engine.cli("network", "create", "--driver", "macvlan", "--opt", "parent=wire", "lan")


def clients(net: Net) -> dict[int, list[str]]:
    """Of this engine's containers: they are in no network namespace of ours, and work in its directories."""
    found = {}
    for pid in processes.pids():
        with contextlib.suppress(OSError):
            words = processes.words(pid)
            place = os.readlink(f"/proc/{pid}/cwd")
            if "udhcpc" in " ".join(words[:2]) and place.startswith(str(net.engine.path)):
                found[pid] = words
    return found


def client(net: Net, former: int = 0) -> int:
    """The only one there is. For an instant, when it calls a program, it is two. `former`: another one than that."""
    found: list[int] = []

    def is_alone() -> bool:
        found[:] = clients(net)
        return len(found) == 1 and former not in found

    until(is_alone, "there is no client, or another one")
    return found[0]


def are_gone(net: Net) -> None:
    """With their last words, which are another program's."""
    until(lambda: not clients(net), "a client is left")


def shown(net: Net, name: str, network: str = "lan") -> tuple[str, str]:
    """The address and the gateway that inspect has."""
    on = net.engine.inspect(name)["NetworkSettings"]["Networks"][network]
    return on["IPAddress"], on["Gateway"]


def told(net: Net, *kinds: str) -> list[tuple[str, str]]:
    return [
        (event["Status"], event["Attributes"].get("address", ""))
        for event in net.engine.events()
        if event["Type"] == "network" and event["Status"] in kinds
    ]


def route(net: Net, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(net.inside(name, "ip", "-json", "route", "show", "default"))
    return found


def test_a_container_has_the_address_that_the_server_of_its_network_gives(net: Net, tmp_path: Path) -> None:
    with udhcpd(net, tmp_path):
        net.serve("a", "--network", "lan", "--hostname", "box")
        address = net.address("a")
        assert 100 <= int(address.rpartition(".")[2]) < 150
        assert shown(net, "a") == (address, OUTSIDE)
        (link,) = json.loads(net.inside("a", "ip", "-4", "-json", "address", "show", "dev", "eth0"))
        # It ends with the lease, whoever is there.
        assert 300 < link["addr_info"][0]["valid_life_time"] <= 600
        assert ask(net.outside, address, 80) == f"a {OUTSIDE}"
        assert net.asks("a", OUTSIDE, 7) == f"outside {address}"
        assert route(net, "a")[0]["metric"] == 100
        assert f"{address}\tbox a" in net.engine.out("exec", "a", "cat", "/etc/hosts").splitlines()
        resolv = net.engine.out("exec", "a", "cat", "/etc/resolv.conf").splitlines()
        assert resolv[0].split()[:2] == ["search", "example.test"]  # the host's may follow
        assert resolv[1:] == ["nameserver 192.0.2.2", "nameserver 192.0.2.3"]
        net.engine.cli("restart", "--time", "0", "a")
        net.await_up("a", 2)
        assert ask(net.outside, net.address("a"), 80) == f"a {OUTSIDE}"
        net.engine.cli("stop", "a")
        are_gone(net)


def test_the_server_knows_a_container_by_its_hardware_address(net: Net, tmp_path: Path) -> None:
    with udhcpd(net, tmp_path):
        net.run("a", "--network", f"lan:mac={_MAC}")
        assert net.address("a") == "192.0.2.177"
        line = net.refused("--network", "lan", "--ip", "192.0.2.77")
        assert (
            "cannot use the address '192.0.2.77' on network 'lan': its DHCP server gives the addresses"
            in line
        )


def test_the_default_route_leads_to_the_first_of_two_networks(net: Net, tmp_path: Path) -> None:
    net.engine.cli(
        "network", "create", "--driver", "macvlan", "--opt", "parent=wire", "--opt", "metric=7", "low"
    )
    net.engine.cli("network", "create", "--driver", "macvlan", "--opt", "parent=wire", "--internal", "closed")
    with udhcpd(net, tmp_path):
        net.run("a", "--network", "lan", "--network", "closed", "--network", "low")
        assert len({net.address("a", f"eth{number}") for number in range(3)}) == 3
        assert [(each["dev"], each["metric"]) for each in route(net, "a")] == [("eth2", 7), ("eth0", 100)]
        until(lambda: len(clients(net)) == 3, "there is not one for each")
        net.engine.cli("rm", "--force", "a")
        are_gone(net)


def test_a_container_with_users_of_its_own_gets_an_address(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan", "--uidmap", "0:200000:5000", "--gidmap", "0:200000:5000")
    assert ask(net.outside, "192.0.2.150", 80) == f"a {OUTSIDE}"
    assert server.requests()


def test_nothing_is_left_where_no_server_answers(net: Net) -> None:
    line = net.refused("--name", "a", "--network", "lan")
    assert "network 'lan': no DHCP server has given it an address within 10 s" in line
    are_gone(net)


def test_a_lease_is_given_back_and_the_server_learns_the_name(net: Net, server: Server) -> None:
    net.run("a", "--network", f"lan:mac={_MAC}", "--hostname", "box")
    assert net.address("a") == "192.0.2.150"
    until(lambda: f"discover 0.0.0.0 {_MAC} box" in server.asked, "it does not say who it is")
    net.engine.cli("stop", "a")
    until(lambda: server.is_given("192.0.2.150"), "not given back")


def test_another_address_is_followed_everywhere(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan")
    server.says("192.0.2.151", "router 192.0.2.3", "dns 192.0.2.9")
    os.kill(client(net), signal.SIGUSR1)
    until(lambda: shown(net, "a") == ("192.0.2.151", "192.0.2.3"), "not followed")
    assert net.address("a") == "192.0.2.151"
    assert [each["gateway"] for each in route(net, "a")] == ["192.0.2.3"]
    assert ask(net.outside, "192.0.2.151", 80) == f"a {OUTSIDE}"
    hosts = net.engine.out("exec", "a", "cat", "/etc/hosts")
    assert "192.0.2.151" in hosts
    assert "192.0.2.150" not in hosts
    assert "nameserver 192.0.2.9" in net.engine.out("exec", "a", "cat", "/etc/resolv.conf")
    assert told(net, "lease-changed", "lease-lost") == [("lease-changed", "192.0.2.151/24")]


def test_what_changes_while_there_is_no_supervisor_is_seen_by_the_next(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan")
    before, supervisor = client(net), net.engine.pid
    net.engine.drain_notices()
    server.says("192.0.2.152", f"router {OUTSIDE}")
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(client(net), signal.SIGUSR1)
    until(lambda: "192.0.2.152" in addresses_at(client(net)), "not changed")
    os.kill(supervisor, signal.SIGKILL)
    net.engine.wait_ready()
    until(lambda: shown(net, "a")[0] == "192.0.2.152", "not followed")
    assert client(net) == before
    assert ask(net.outside, "192.0.2.152", 80) == f"a {OUTSIDE}"
    assert told(net, "lease-changed") == [("lease-changed", "192.0.2.152/24")]


def addresses_at(pid: int) -> str:
    """Without asking the supervisor."""
    argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-4", "-o", "address", "show", "dev", "eth0"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.mark.parametrize("supervisor", ["alive", "killed"])
def test_a_killed_client_is_back_and_the_address_stays(net: Net, server: Server, supervisor: str) -> None:
    net.serve("a", "--network", "lan")
    pid, killed = net.pid("a"), client(net)
    asked = server.requests()
    with net.meanwhile_on(net.outside, "keep", "192.0.2.150", "80") as kept:
        if supervisor == "killed":
            net.engine.kill(wait=False)
        os.kill(killed, signal.SIGKILL)
        if supervisor == "killed":
            net.engine.wait_ready()
        client(net, killed)
        until(lambda: len(told(net, "helper-lost", "helper-restarted")) == 2, "not told")
    assert kept[2] == "0", "somebody was refused"
    assert net.pid("a") == pid
    until(lambda: server.requests() > asked, "it has not asked anew")
    assert shown(net, "a") == ("192.0.2.150", OUTSIDE)
    assert not told(net, "lease-changed", "lease-lost")


def test_a_killed_client_is_back_within_the_time_that_is_promised(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan")

    def kill() -> float:
        seq, begun, killed = net.engine.last_seq(), time.time(), client(net)
        with net.meanwhile_on(net.outside, "keep", "192.0.2.150", "80") as kept:
            os.kill(killed, signal.SIGKILL)
            back = net.engine.await_event(lambda event: event["Status"] == "helper-restarted", seq)
        assert kept[2] == "0", "somebody was refused"
        return int(back["TimeNano"]) / 1e9 - begun

    quickly(kill, BACK)
    assert shown(net, "a") == (server.address, OUTSIDE)


def test_a_lease_that_is_lost_takes_the_address_and_the_next_one_brings_another(
    net: Net, server: Server
) -> None:
    net.serve("a", "--network", "lan")
    server.says("192.0.2.150", "refuses yes")
    os.kill(client(net), signal.SIGUSR1)
    until(lambda: shown(net, "a") == ("", ""), "not lost")
    assert addresses_at(client(net)) == ""
    assert route(net, "a") == []
    assert "192.0.2.150" not in net.engine.out("exec", "a", "cat", "/etc/hosts")
    server.says("192.0.2.151", f"router {OUTSIDE}")
    until(lambda: shown(net, "a") == ("192.0.2.151", OUTSIDE), "nothing new")
    assert ask(net.outside, "192.0.2.151", 80) == f"a {OUTSIDE}"
    assert told(net, "lease-changed", "lease-lost") == [
        ("lease-lost", ""),
        ("lease-changed", "192.0.2.151/24"),
    ]


def test_what_a_server_says_is_run_by_nobody(net: Net, server: Server) -> None:
    """Names are taken for names, or for nothing. As many as a client has room for."""
    hostile = "x'$(touch m)`touch m`\n\"; touch m\nip=6.6.6.6"
    texts = [f"option {number} {hostile.encode().hex()}" for number in (12, 14, 15, 17, 40, 56)]
    server.says("192.0.2.150", f"router {OUTSIDE}", "dns 192.0.2.9", *texts)
    net.run("a", "--network", "lan", "--dns-search", "plain.test")
    assert net.address("a") == "192.0.2.150"
    resolv = net.engine.out("exec", "a", "cat", "/etc/resolv.conf").splitlines()
    assert resolv == ["search plain.test", "nameserver 192.0.2.9"]
    server.says("192.0.2.151", "dns 127.0.0.1", *texts)
    os.kill(client(net), signal.SIGUSR1)
    until(lambda: shown(net, "a") == ("192.0.2.151", ""), "not followed")
    names = os.listdir(f"/proc/{client(net)}/cwd")
    assert "bound" in names
    assert "m" not in names


def test_an_address_that_no_host_has_is_none(net: Net, server: Server) -> None:
    server.says("127.0.0.1")
    assert "no DHCP server has given it an address" in net.refused("--network", "lan")


def test_a_running_container_comes_on_it_and_off_it(net: Net, server: Server) -> None:
    net.serve("a", "--network", "bridge")
    bridged = net.address("a")
    net.engine.cli("network", "connect", "lan", "a")
    assert net.address("a", "eth1") == "192.0.2.150"
    assert shown(net, "a")[0] == "192.0.2.150"
    assert ask(net.outside, "192.0.2.150", 80) == f"a {OUTSIDE}"
    assert "192.0.2.150\t" in net.engine.out("exec", "a", "cat", "/etc/hosts")
    assert [each["dev"] for each in route(net, "a")] == ["eth0"]
    server.says("192.0.2.151", f"router {OUTSIDE}")
    os.kill(client(net), signal.SIGUSR1)
    until(lambda: shown(net, "a")[0] == "192.0.2.151", "not followed")
    net.engine.cli("network", "disconnect", "podman", "a")
    until(lambda: [each["dev"] for each in route(net, "a")] == ["eth1"], "no default route")
    assert bridged not in net.engine.out("exec", "a", "cat", "/etc/hosts")
    net.engine.cli("network", "disconnect", "lan", "a")
    are_gone(net)
    until(lambda: server.is_given("192.0.2.151"), "not given back")
    assert "eth1" not in net.inside("a", "ip", "-br", "link")


def test_reload_brings_back_an_interface_that_somebody_has_removed(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan")
    net.inside("a", "ip", "link", "delete", "eth0")
    server.says("192.0.2.153", f"router {OUTSIDE}")
    net.engine.cli("network", "reload", "a")
    assert shown(net, "a") == ("192.0.2.153", OUTSIDE)
    assert ask(net.outside, "192.0.2.153", 80) == f"a {OUTSIDE}"
    same = client(net)

    def reload() -> float:
        with net.meanwhile_on(net.outside, "keep", "192.0.2.153", "80") as kept:
            net.engine.cli("network", "reload", "a")
        assert kept[2] == "0", "somebody was refused"
        return pause(kept)

    quickly(reload, LONGEST)
    assert client(net) == same
    server.says("192.0.2.154", f"router {OUTSIDE}")
    os.kill(same, signal.SIGUSR1)
    until(lambda: shown(net, "a")[0] == "192.0.2.154", "it does not ask any more")
    # What it says later the server hears later.
    assert not server.is_given("192.0.2.153")


def test_a_reload_that_nobody_answers_tells_that_the_address_is_lost(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan")
    net.inside("a", "ip", "address", "flush", "dev", "eth0")
    server.says("")
    done = net.engine.cli("network", "reload", "a", check=False)
    assert done.returncode == 125
    assert "network 'lan': no DHCP server has given it an address" in done.stderr
    until(lambda: shown(net, "a") == ("", ""), "the address is said to be there")
    server.says("192.0.2.155", f"router {OUTSIDE}")
    until(lambda: shown(net, "a") == ("192.0.2.155", OUTSIDE), "it does not ask any more")
    assert ask(net.outside, "192.0.2.155", 80) == f"a {OUTSIDE}"
    assert told(net, "lease-changed", "lease-lost") == [
        ("lease-lost", ""),
        ("lease-changed", "192.0.2.155/24"),
    ]


def test_a_supervisor_that_is_killed_while_a_start_waits_is_followed_by_one_that_starts(
    net: Net, server: Server
) -> None:
    server.says("")
    net.engine.cli(
        "create", "--name", "a", "--stop-timeout", "0", "--network", "lan", *net.root, "sleep", "1000"
    )
    with net.engine.spawn("start", "a") as starts:
        until(lambda: server.asked, "nobody asks")
        server.says("192.0.2.150", f"router {OUTSIDE}")
        net.engine.kill()
        starts.communicate(timeout=20)
    net.engine.cli("wait", "--condition", "running", "a")
    assert net.address("a") == "192.0.2.150"
    until(lambda: shown(net, "a") == ("192.0.2.150", OUTSIDE), "not known")
    client(net)
    net.engine.cli("rm", "--force", "a")
    are_gone(net)


def test_a_connection_that_was_begun_when_the_supervisor_was_killed_is_taken_back(
    net: Net, server: Server
) -> None:
    net.serve("a", "--network", "bridge")
    server.says("")
    with net.engine.spawn("network", "connect", "lan", "a") as connects:
        until(lambda: server.asked, "nobody asks")
        net.engine.kill()
        connects.communicate(timeout=20)
    until(lambda: "eth1" not in net.inside("a", "ip", "-br", "link"), "its interface is left")
    are_gone(net)
    assert list(net.engine.inspect("a")["NetworkSettings"]["Networks"]) == ["podman"]


def test_a_connection_without_a_server_is_none(net: Net) -> None:
    net.serve("a", "--network", "bridge")
    done = net.engine.cli("network", "connect", "lan", "a", check=False)
    assert done.returncode == 125
    assert "network 'lan': no DHCP server has given it an address" in done.stderr
    assert "eth1" not in net.inside("a", "ip", "-br", "link")
    are_gone(net)
    assert list(net.engine.inspect("a")["NetworkSettings"]["Networks"]) == ["podman"]


def test_a_container_that_ends_while_there_is_no_supervisor_gives_its_lease_back(
    net: Net, server: Server
) -> None:
    net.run("a", "--network", "lan")
    first, supervisor = net.pid("a"), net.engine.pid
    net.engine.drain_notices()
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    net.engine.wait_ready()
    net.engine.cli("wait", "a")
    until(lambda: server.is_given("192.0.2.150"), "not given back")
    are_gone(net)


def test_a_container_that_its_policy_restarts_asks_anew(net: Net, server: Server) -> None:
    net.serve("a", "--network", "lan", "--restart", "always")
    former = client(net)
    server.says("192.0.2.151", f"router {OUTSIDE}")
    net.kill("a")
    until(lambda: former not in clients(net) and shown(net, "a")[0] == "192.0.2.151", "not followed")
    await_answer(partial(ask, net.outside, "192.0.2.151", 80), f"a {OUTSIDE}")
    assert "192.0.2.150" not in net.engine.out("exec", "a", "cat", "/etc/hosts")
    assert "192.0.2.151" in net.engine.out("exec", "a", "cat", "/etc/hosts")
    client(net, former)


def test_a_bridge_of_somebody_elses_may_lead_to_a_server(net: Net, server: Server) -> None:
    def joined() -> bool:
        """Not while the kernel has yet to take an interface off the wire whose container has ended."""
        net.host.run("ip", "link", "set", "wire", "master", "br0", check=False)
        return " master br0 " in net.host.run("ip", "link", "show", "wire")

    net.host.run("ip", "link", "add", "br0", "type", "bridge")
    try:
        # The host goes on at its address, on the bridge that the wire is on.
        net.host.run("ip", "addr", "del", "192.0.2.1/24", "dev", "wire")
        until(joined, "the wire is not on the bridge")
        net.host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "br0")
        net.host.run("ip", "link", "set", "br0", "up")
        options = ("--interface-name", "br0", "--opt", "mode=unmanaged", "--ipam-driver", "dhcp")
        net.engine.cli("network", "create", *options, "own")
        net.serve("a", "--network", "own", "-p", "8080:80")
        assert shown(net, "a", "own") == ("192.0.2.150", OUTSIDE)
        assert ask(net.outside, "192.0.2.150", 80) == f"a {OUTSIDE}"
        assert ask(net.outside, HOST, 8080).startswith("a ")
        server.says("192.0.2.151", f"router {OUTSIDE}")
        os.kill(client(net), signal.SIGUSR1)
        until(lambda: shown(net, "a", "own")[0] == "192.0.2.151", "not followed")
        assert ask(net.outside, HOST, 8080).startswith("a ")
        net.engine.cli("rm", "--force", "a")
        net.engine.cli("network", "rm", "own")
    finally:
        net.host.run("ip", "link", "set", "wire", "nomaster")
        net.host.run("ip", "link", "del", "br0")
        net.host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "wire")
        net.host.run("ip", "route", "replace", "default", "via", OUTSIDE)
