"""Containers on the default bridge: what they are given, what of it is left, whatever is killed in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.served import NUMBER, PORT, PREFIX, SERVE, SLEEP, asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc", "crun")

NETWORK, BRIDGE, SUBNET = "tests-bridged", f"pmtest{NUMBER}", f"{PREFIX}1."


def ip(*words: str) -> Any:
    return json.loads(subprocess.run(["ip", "-j", *words], capture_output=True, check=True).stdout or b"[]")


def interfaces() -> set[str]:
    return {link["ifname"] for link in ip("link")}


def elements(name: str) -> list[Any]:
    """Of a set or map of the engine's table; an empty list without it."""
    done = subprocess.run(
        ["nft", "-j", "list", "table", "inet", "pyman"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return []
    parts = [part for entry in json.loads(done.stdout)["nftables"] for part in entry.values()]
    found: list[Any] = next((p.get("elem", []) for p in parts if p.get("name") == name and "table" in p), [])
    return found


@pytest.fixture(autouse=True)
def network(shared_engine: Engine) -> Iterator[None]:
    """Of the tests alone. What is left of it afterwards is a failure."""
    where = ("--interface-name", BRIDGE, "--subnet", f"{SUBNET}0/24")
    shared_engine.cli("network", "create", "--disable-dns", *where, NETWORK)
    yield
    shared_engine.cli("network", "rm", NETWORK)
    assert BRIDGE not in interfaces()
    assert not any(BRIDGE in str(elements(name)) for name in ("bridges", "same"))
    assert not any(SUBNET in str(elements(name)) for name in ("subnets4", "publish4"))


def created(engine: Engine, rootfs: Path, name: str, command: list[str], **spec: Any) -> None:
    wish = {"name": name, "rootfs": str(rootfs), "rootfs_overlay": True, "command": command}
    networking = {"netns": {"nsmode": "bridge"}, "Networks": {NETWORK: {}}}
    engine.call("io.pyman.Container.Create", {"spec": {**wish, **networking, **spec}})


def started(engine: Engine, rootfs: Path, name: str, command: list[str] = SLEEP, **spec: Any) -> str:
    """The container's address."""
    created(engine, rootfs, name, command, **spec)
    engine.cli("start", name)
    return address(engine, name)


def address(engine: Engine, name: str) -> str:
    lines = engine.out("exec", name, "ip", "-4", "-o", "addr", "show", "eth0").split()
    return lines[lines.index("inet") + 1].partition("/")[0]


def test_two_containers_and_the_host_reach_one_another(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    first = started(engine, rootfs, "first", SERVE)
    second = started(engine, rootfs, "second")
    assert first != second
    assert asked(80, first) == "here"
    assert engine.out("exec", "second", "sh", "-c", f"until nc {first} 80 </dev/null; do :; done") == "here"
    hosts = engine.out("exec", "second", "cat", "/etc/hosts")
    assert f"{second}\t{engine.inspect('second')['Config']['Hostname']} second" in hosts
    assert f"{SUBNET}1\thost.containers.internal host.docker.internal" in hosts
    engine.cli("rm", "-f", "-t", "0", "first", "second")


def test_a_port_leads_into_the_container_and_is_free_after_it(shared_engine: Engine, rootfs: Path) -> None:
    engine, ports = shared_engine, [{"container_port": 80, "host_port": PORT}]
    started(engine, rootfs, "web", SERVE, portmappings=ports)
    assert asked(PORT) == "here"
    created(engine, rootfs, "other", SLEEP, portmappings=ports)
    done = engine.cli("start", "other", check=False)
    assert done.returncode in (125, 126)
    assert f"cannot publish port {PORT}/tcp: container 'web' has it" in done.stderr
    engine.cli("stop", "-t", "0", "web")
    engine.cli("start", "other")
    engine.cli("rm", "-f", "-t", "0", "other", "web")


def test_a_killed_supervisor_loses_no_address_and_leaves_none(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    ports = [{"container_port": 80, "host_port": PORT + 1}]
    first = started(engine, rootfs, "first", SERVE, portmappings=ports)
    os.kill(engine.pid, signal.SIGKILL)
    second = started(engine, rootfs, "second")
    assert first != second
    assert asked(PORT + 1) == "here"
    assert engine.cli("start", "second", check=False).returncode == 0
    os.kill(engine.pid, signal.SIGKILL)
    engine.cli("rm", "-f", "-t", "0", "first", "second")


def test_a_restart_by_policy_keeps_addresses_and_ports(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    ports = [{"container_port": 80, "host_port": PORT + 2}]
    first = started(engine, rootfs, "again", SERVE, portmappings=ports, restart_policy="always")
    since = engine.last_seq()
    os.kill(engine.inspect("again")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "start", since)
    assert address(engine, "again") == first
    assert asked(PORT + 2) == "here"
    engine.cli("rm", "-f", "-t", "0", "again")


def test_an_address_that_is_wished_for_is_had_by_one_alone(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    wish: dict[str, Any] = {
        "Networks": {NETWORK: {"static_ips": [f"{SUBNET}77"], "static_mac": "02:11:22:33:44:55"}}
    }
    assert started(engine, rootfs, "mine", **wish) == f"{SUBNET}77"
    assert "02:11:22:33:44:55" in engine.out("exec", "mine", "cat", "/sys/class/net/eth0/address")
    created(engine, rootfs, "late", SLEEP, **wish)
    done = engine.cli("start", "late", check=False)
    assert (
        f"cannot use the address '{SUBNET}77' on network '{NETWORK}': container 'mine' has it" in done.stderr
    )
    engine.cli("rm", "-f", "-t", "0", "mine", "late")
