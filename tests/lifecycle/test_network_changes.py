"""Containers put on networks and taken off them, before they run, while they run, and over the supervisor's death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lifecycle.test_bridged import elements, ip
from tests.support.served import NUMBER, PORT, PREFIX, SERVE, SLEEP, asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("crun")

BRIDGES = {"one": f"pmchga{NUMBER}", "two": f"pmchgb{NUMBER}"}
PREFIXES = {"one": f"{PREFIX}4.", "two": f"{PREFIX}5."}

KILLS, MOST_KILLS, STEP = 8, 18, 0.003
"""How many, and the seconds by which each comes later than the one before it."""


def after(kill: int) -> float:
    """Seconds after which one comes; a machine on which all of the first came too early is a slow one."""
    return float(kill * STEP * 2 ** max(0, kill - KILLS))


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """With the networks one and two. What is left of them afterwards is a failure."""
    for name, bridge in BRIDGES.items():
        subnet = f"{PREFIXES[name]}0/24"
        where = ("--interface-name", bridge, "--subnet", subnet)
        shared_engine.cli("network", "create", "--disable-dns", *where, name)
    yield shared_engine
    shared_engine.cli("network", "rm", "--force", "--time", "0", *BRIDGES)
    assert parts() == {}
    for prefix in PREFIXES.values():
        assert not any(prefix in str(elements(name)) for name in ("subnets4", "publish4"))


def parts() -> dict[str, set[str]]:
    """The bridges that are there, and what is on them: there are other tests."""
    links = ip("link")
    there = {link["ifname"] for link in links} & set(BRIDGES.values())
    return {name: {link["ifname"] for link in links if link.get("master") == name} for name in there}


def create(engine: Engine, rootfs: Path, name: str, *options: str, command: list[str] = SLEEP) -> None:
    engine.cli("create", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)


def run(engine: Engine, rootfs: Path, name: str, *options: str, command: list[str] = SLEEP) -> None:
    create(engine, rootfs, name, *options, command=command)
    engine.cli("start", name)


def address(engine: Engine, name: str, interface: str = "eth0") -> str:
    """Empty: it has no such interface, or that no address."""
    done = engine.cli("exec", name, "ip", "-4", "-o", "addr", "show", interface, check=False)
    words = done.stdout.split()
    return words[words.index("inet") + 1].partition("/")[0] if "inet" in words else ""


def on(engine: Engine, name: str) -> list[str]:
    """The networks of a container's definition."""
    (found,) = engine.call("io.pyman.Container.List", {"all": True, "filters": {"name": [f"^{name}$"]}})[
        "containers"
    ]
    return sorted(found["Networks"])


def told(engine: Engine) -> list[tuple[str, str]]:
    found = engine.events(type=["network"])
    return [
        (each["Status"], each["Attributes"]["network"]) for each in found if "network" in each["Attributes"]
    ]


def shown(engine: Engine, network: str) -> dict[str, Any]:
    """The containers of `network inspect`, by their names."""
    (document,) = json.loads(engine.out("network", "inspect", network))
    return {each["name"]: each["interfaces"] for each in document["containers"].values()}


def test_what_does_not_run_starts_on_what_it_was_put_on(engine: Engine, rootfs: Path) -> None:
    create(engine, rootfs, "box", "--network", "one")
    engine.cli("network", "connect", "--ip", f"{PREFIXES['two']}77", "--alias", "also", "two", "box")
    assert engine.cli("network", "connect", "two", "box").stdout == "", "as with Podman it is no mistake"
    assert on(engine, "box") == ["one", "two"]
    assert told(engine) == [("connect", "two")]
    engine.cli("start", "box")
    assert address(engine, "box").startswith(PREFIXES["one"])
    assert address(engine, "box", "eth1") == f"{PREFIXES['two']}77"
    (interface,) = shown(engine, "two")["box"].items()
    assert interface[0] == "eth1"
    assert interface[1]["subnets"] == [{"ipnet": f"{PREFIXES['two']}77/24", "gateway": f"{PREFIXES['two']}1"}]
    engine.cli("stop", "-t", "0", "box")
    assert shown(engine, "two") == {}
    engine.cli("network", "disconnect", "one", "box")
    engine.cli("start", "box")
    assert address(engine, "box") == ""
    assert address(engine, "box", "eth1") == f"{PREFIXES['two']}77"
    assert told(engine) == [("connect", "two"), ("disconnect", "one")]


def test_what_runs_is_on_a_network_at_once_and_off_it_at_once(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one")
    run(engine, rootfs, "other", "--network", "two", command=SERVE)
    before = parts()
    assert engine.cli("network", "connect", "two", "box").stdout == ""
    mine = address(engine, "box", "eth1")
    assert mine.startswith(PREFIXES["two"])
    theirs = address(engine, "other")
    assert engine.out("exec", "box", "sh", "-c", f"until nc {theirs} 80 </dev/null; do :; done") == "here"
    hosts = engine.out("exec", "box", "cat", "/etc/hosts")
    assert f"{mine}\t{engine.inspect('box')['Config']['Hostname']} box" in hosts
    assert set(shown(engine, "two")) == {"box", "other"}
    done = engine.cli("network", "connect", "two", "box", check=False)
    assert (done.returncode, done.stderr) == (
        125,
        "Error: cannot connect container 'box' to network 'two': it is on it\n",
    )
    engine.cli("network", "disconnect", "two", "box")
    assert address(engine, "box", "eth1") == ""
    assert mine not in engine.out("exec", "box", "cat", "/etc/hosts")
    assert parts() == before
    assert set(shown(engine, "two")) == {"other"}
    assert told(engine) == [("connect", "two"), ("disconnect", "two")]
    lines = engine.out("events", "--stream=false", "--since=10m", "--filter=event=disconnect").splitlines()
    id = engine.inspect("box")["Id"]
    assert lines[-1].endswith(f" network disconnect {id} (container={id}, name=two)")


def test_ports_and_the_way_out_follow_to_the_network_that_is_left(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one", "-p", f"{PORT}:80", command=SERVE)
    assert asked(PORT) == "here"
    engine.cli("network", "connect", "two", "box")
    engine.cli("network", "disconnect", "one", "box")
    assert asked(PORT) == "here"
    assert f"default via {PREFIXES['two']}1" in engine.out("exec", "box", "ip", "route")
    engine.cli("network", "disconnect", "two", "box")
    assert f" {PORT}" not in str(elements("publish4"))
    assert engine.out("exec", "box", "ls", "/sys/class/net") == "lo"
    assert not any(parts().values())
    engine.cli("stop", "-t", "0", "box")
    engine.cli("start", "box")
    assert engine.out("exec", "box", "ls", "/sys/class/net") == "lo", "it is on none any more"
    engine.cli("network", "connect", "one", "box")
    assert asked(PORT) == "here"


def test_an_address_that_is_left_and_a_port_that_leads_nowhere_are_others_after_it(
    engine: Engine, rootfs: Path
) -> None:
    wish = ("--ip", f"{PREFIXES['two']}77", "two")
    for name in ("a", "b"):
        run(engine, rootfs, name, "--network", "one", "-p", f"{PORT + (name == 'b')}:80")
        engine.cli("network", "connect", *wish, name)
        engine.cli("network", "disconnect", "two", name)
        engine.cli("network", "disconnect", "one", name)
        engine.cli("network", "connect", *wish, name)
        engine.cli("network", "disconnect", "two", name)
    create(engine, rootfs, "c", "--network", "one", "-p", f"{PORT}:80")
    for _ in range(2):
        done = engine.cli("start", "c", check=False)
        assert f"cannot publish port {PORT}/tcp: container 'a' has it" in done.stderr
        engine.kill()
    engine.cli("rm", "-f", "-t", "0", "a")
    engine.cli("start", "c")


def test_what_cannot_be_is_named_and_leaves_nothing(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one")
    run(engine, rootfs, "other", "--network", f"two:ip={PREFIXES['two']}9")
    create(engine, rootfs, "alone", "--network", "none")
    before, seq = parts(), engine.last_seq()
    for words, said in (
        (["connect", "two", "alone"], "cannot connect container 'alone' to network 'two': it was created with --network none"),
        (["connect", "{x}", "alone"], "cannot connect container 'alone' to network '{x}': it was created with --network none"),
        (["disconnect", "{}", "alone"], "cannot disconnect container 'alone' from network '{}': it was created with"),
        (["connect", "nope", "box"], "cannot find network 'nope'"),
        (["connect", "two", "nope"], "cannot find container 'nope'"),
        (["connect", "--ip", f"{PREFIXES['two']}9", "two", "box"], "container 'other' has it"),
        (["connect", "--ip", f"{PREFIXES['two']}1", "two", "box"], "it is the gateway"),
        (["connect", "--ip", "10.1.1.1", "two", "box"], "cannot use the address '10.1.1.1'"),
        (["connect", "--ip", "x", "two", "box"], "cannot use the address 'x'"),
        (["connect", "--mac-address", "x", "two", "box"], "cannot use the MAC address 'x'"),
        (["connect", "--alias", "a b", "two", "box"], "cannot use the alias 'a b'"),
        (["disconnect", "two", "box"], "cannot disconnect container 'box' from network 'two': it is not on it"),
        (["disconnect", "nope", "box"], "cannot find network 'nope'"),
        (["disconnect", "--force", "nope", "box"], "cannot find network 'nope'"),
        (["reload", "alone"], "cannot reload the networks of container 'alone'"),
    ):  # fmt: skip
        done = engine.cli("network", *words, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1), words
        assert said in done.stderr
    assert parts() == before
    assert (on(engine, "box"), engine.events(seq, type=["network"])) == (["one"], [])


def test_a_network_whose_definition_is_gone_is_left_by_force(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one", "--network", "two")
    file = engine.path / "networks" / "two.json"
    kept = file.read_bytes()
    file.unlink()
    done = engine.cli("network", "disconnect", "two", "box", check=False)
    assert "cannot find network 'two'" in done.stderr
    engine.cli("network", "disconnect", "--force", "two", "box")
    assert engine.out("exec", "box", "ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert on(engine, "box") == ["one"]
    file.write_bytes(kept)


def test_a_network_that_containers_are_on_is_not_removed(engine: Engine, rootfs: Path) -> None:
    create(engine, rootfs, "box", "--network", "one")
    run(engine, rootfs, "runs", "--network", "one")
    done = engine.cli("network", "rm", "one", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot remove network 'one': containers are on it: box, runs" in done.stderr
    assert engine.out("network", "ls", "-q", "-f", "dangling=true") == "two"
    assert engine.out("network", "ls", "-q", "-f", "dangling=false").split() == ["one", "podman"]
    assert engine.out("network", "prune", "--force") == "two"
    assert engine.out("network", "rm", "--force", "-t", "0", "one") == "one"
    assert engine.out("ps", "-aq") == ""
    assert parts() == {}


def test_by_force_those_go_first_who_need_another_one_on_it(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "needed", "--network", "one")
    run(engine, rootfs, "other", "--network", "one", "--requires", "needed")
    assert engine.out("network", "rm", "--force", "-t", "0", "one") == "one"
    assert engine.out("ps", "-aq") == ""


def test_containers_that_do_not_end_by_themselves_are_waited_for_together(
    engine: Engine, rootfs: Path
) -> None:
    deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"]
    for name in ("a", "b", "c"):
        run(engine, rootfs, name, "--network", "one", command=deaf)
    begun, seq = time.monotonic(), engine.last_seq()
    assert engine.out("network", "rm", "--force", "-t", "2", "one") == "one"
    assert time.monotonic() - begun >= 2
    times = [event["TimeNano"] for event in engine.events(seq, event=["died"])]
    assert len(times) == 3
    assert max(times) - min(times) < 2_000_000_000
    assert engine.out("ps", "-aq") == ""


def test_what_somebody_has_broken_is_made_anew(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one", "-p", f"{PORT}:80", command=SERVE)
    run(engine, rootfs, "other", "--network", "two")
    create(engine, rootfs, "idle", "--network", "one")
    mine = address(engine, "box")
    for link in ip("link", "show", "master", BRIDGES["one"]):
        ip("link", "del", link["ifname"])
    ip("link", "del", BRIDGES["two"])
    subprocess.run(["nft", f"delete element inet pyman bridges {{ {BRIDGES['one']} }}"], check=True)
    ids = [engine.inspect(name)["Id"] for name in ("box", "other")]
    assert sorted(engine.out("network", "reload", "--all").split()) == sorted(ids)
    assert address(engine, "box") == mine
    assert asked(PORT) == "here"
    assert [len(links) for links in parts().values()] == [1, 1]
    assert any(BRIDGES["one"] in str(element) for element in elements("bridges"))
    assert engine.out("network", "reload", "box") == ids[0]
    done = engine.cli("network", "reload", "idle", check=False)
    assert "cannot reload the networks of container 'idle': it is created" in done.stderr


def test_what_it_was_put_on_outlives_restarts(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one", "--restart", "always", "--restart-delay", "0.01")
    engine.cli("network", "connect", "two", "box")
    mine, seq = (address(engine, "box"), address(engine, "box", "eth1")), engine.last_seq()
    os.kill(engine.inspect("box")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "start", seq)
    assert (address(engine, "box"), address(engine, "box", "eth1")) == mine
    engine.cli("network", "disconnect", "one", "box")
    engine.cli("network", "disconnect", "two", "box")
    seq = engine.last_seq()
    os.kill(engine.inspect("box")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "start", seq)
    assert engine.out("exec", "box", "ls", "/sys/class/net") == "lo"
    engine.kill()
    engine.cli("network", "connect", "two", "box")
    assert address(engine, "box").startswith(PREFIXES["two"])


def test_what_is_frozen_or_not_begun_is_put_on_a_network_as_well(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "frozen", "--network", "one")
    create(engine, rootfs, "begun", "--network", "one")
    engine.cli("pause", "frozen")
    engine.cli("init", "begun")
    for name in ("frozen", "begun"):
        engine.cli("network", "connect", "two", name)
    assert set(shown(engine, "two")) == {"frozen", "begun"}
    engine.cli("unpause", "frozen")
    engine.cli("start", "begun")
    for name in ("frozen", "begun"):
        (interface,) = shown(engine, "two")[name].values()
        assert interface["subnets"][0]["ipnet"] == f"{address(engine, name, 'eth1')}/24"


def test_other_drivers_and_ipv6_come_and_go(engine: Engine, rootfs: Path) -> None:
    bridge, below = f"pmchgc{NUMBER}", f"pmchgd{NUMBER}"
    wish = ["--disable-dns", "--subnet", f"fd00:{NUMBER:x}:c4a6::/64", "--interface-name", bridge]
    engine.cli("network", "create", *wish, "six")
    subprocess.run(["ip", "link", "add", below, "type", "veth", "peer", "name", f"{below}p"], check=True)
    try:
        wish = ["--driver", "macvlan", "--interface-name", below, "--subnet", f"{PREFIX}6.0/24"]
        engine.cli("network", "create", *wish, "lan")
        run(engine, rootfs, "box", "--network", "one")
        engine.cli("network", "connect", "--ip6", f"fd00:{NUMBER:x}:c4a6::77", "six", "box")
        engine.cli("network", "connect", "lan", "box")
        assert f"fd00:{NUMBER:x}:c4a6::77/64" in engine.out(
            "exec", "box", "ip", "-6", "-o", "addr", "show", "eth1"
        )
        assert address(engine, "box", "eth2").startswith(f"{PREFIX}6.")
        engine.kill()
        engine.cli("network", "disconnect", "lan", "box")
        engine.cli("network", "disconnect", "six", "box")
        assert engine.out("exec", "box", "ls", "/sys/class/net").split() == ["eth0", "lo"]
        engine.cli("network", "rm", "six", "lan")
        assert bridge not in {link["ifname"] for link in ip("link")}
    finally:
        subprocess.run(["ip", "link", "del", below], check=True)


def test_inspect_and_ps_show_what_it_is_on_now(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one")
    engine.cli("network", "connect", "--alias", "also", "two", "box")
    networks = engine.inspect("box")["NetworkSettings"]["Networks"]
    assert {name: each["IPAddress"] for name, each in networks.items()} == {
        "one": address(engine, "box"),
        "two": address(engine, "box", "eth1"),
    }
    assert "also" in networks["two"]["Aliases"]
    assert (
        engine.out("ps", "--filter", "network=two", "--format", "{{.Names}} {{.Networks}}") == "box one,two"
    )
    engine.cli("network", "disconnect", "one", "box")
    assert list(engine.inspect("box")["NetworkSettings"]["Networks"]) == ["two"]
    assert engine.out("ps", "--filter", "network=one", "-q") == ""


def test_a_supervisor_that_is_killed_leaves_all_of_a_change_or_nothing(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "box", "--network", "one")
    connected, found = False, set[bool]()
    for kill in range(MOST_KILLS):
        if kill >= KILLS and found == {True, False}:
            break
        verb, seq = "disconnect" if connected else "connect", engine.last_seq()
        with engine.wire() as wire:
            wire.send("io.pyman.System.Info")  # what waits to be accepted would be for the next one
            pid = wire.receive()["parameters"]["supervisor"]["pid"]
            wire.send(f"io.pyman.Network.{verb.title()}", {"name": "two", "container": "box"})
            time.sleep(after(kill))
            os.kill(pid, signal.SIGKILL)
        former, connected = connected, on(engine, "box") == ["one", "two"]
        found.add(former != connected)
        assert bool(address(engine, "box", "eth1")) == connected
        assert bool(parts().get(BRIDGES["two"])) == connected
        assert ("box" in shown(engine, "two")) == connected
        assert engine.out("exec", "box", "grep", "-c", "box$", "/etc/hosts") == ("2" if connected else "1")
        events = [each["Status"] for each in engine.events(seq, type=["network"])]
        assert events == ([verb] if connected != former else [])
    assert address(engine, "box").startswith(PREFIXES["one"])
    assert found == {True, False}, "kills came too late, or too early"
