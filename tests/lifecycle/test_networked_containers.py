"""Containers that have on networks what they were asked to have, as they see it themselves, and as the engine shows it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.served import NUMBER, PORT, PREFIX, SLEEP
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc", "crun", "rootless")

WEB, DB = f"{PREFIX}2.", f"{PREFIX}3."
WEB6 = f"fd00:120:{NUMBER + 1:x}::"
ANYWHERE = "0.0.0.0"  # noqa: S104 - shown


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """With the networks web, of two kinds of addresses, and db."""
    engine = shared_engine
    make = ("network", "create", "--disable-dns")
    subnets = ("--subnet", f"{WEB}0/24", "--subnet", f"{WEB6}/64")
    engine.cli(*make, "--interface-name", f"pmweb{NUMBER}", *subnets, "web")
    engine.cli(*make, "--interface-name", f"pmdb{NUMBER}", "--subnet", f"{DB}0/24", "db")
    yield engine
    engine.remove_containers()
    engine.cli("network", "rm", "web", "db")


def run(engine: Engine, rootfs: Path, name: str, *options: str) -> dict[str, Any]:
    """What `inspect` says of it."""
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", *SLEEP)
    return engine.inspect(name)


def addresses(engine: Engine, name: str, interface: str) -> set[str]:
    """As it sees them itself."""
    lines = engine.out("exec", name, "ip", "-o", "addr", "show", "dev", interface).splitlines()
    return {line.split()[3] for line in lines}


def test_it_has_the_addresses_and_names_that_it_was_asked_to_have(engine: Engine, rootfs: Path) -> None:
    mac = "44:33:22:11:00:99"
    web = (
        f"web:ip={WEB}77,ip6={WEB6}77,mac={mac},alias=www,interface_name=lan,host_interface_name=pmv{NUMBER}"
    )
    told = run(engine, rootfs, "c", "--network", web, "--network", "db", "--network-alias", "site")
    assert {f"{WEB}77/24", f"{WEB6}77/64"} <= addresses(engine, "c", "lan")
    (other,) = (each for each in addresses(engine, "c", "eth0") if "." in each)
    assert other.startswith(DB)
    assert engine.out("exec", "c", "cat", "/sys/class/net/lan/address") == mac
    if not isinstance(engine, UserEngine):  # whose interfaces are not the host's
        subprocess.run(["ip", "link", "show", f"pmv{NUMBER}"], check=True, capture_output=True)
    assert told["HostConfig"]["NetworkMode"] == "bridge"
    settings = told["NetworkSettings"]
    assert settings["SandboxKey"] == f"/proc/{told['State']['Pid']}/ns/net"
    assert settings["IPAddress"] == ""  # as it is on more than the default network
    on = settings["Networks"]["web"]
    assert (on["IPAddress"], on["IPPrefixLen"], on["Gateway"]) == (f"{WEB}77", 24, f"{WEB}1")
    assert (on["GlobalIPv6Address"], on["GlobalIPv6PrefixLen"], on["IPv6Gateway"]) == (
        f"{WEB6}77",
        64,
        f"{WEB6}1",
    )
    assert (on["MacAddress"], on["Aliases"]) == (mac, ["www", "site", told["Id"][:12]])
    on = settings["Networks"]["db"]
    assert (f"{on['IPAddress']}/{on['IPPrefixLen']}", on["Aliases"]) == (other, ["site", told["Id"][:12]])
    assert on["NetworkID"] == json.loads(engine.out("network", "inspect", "db"))[0]["id"]
    assert engine.out("ps", "--format", "{{.Networks}}") == "web,db"
    engine.cli("stop", "c")
    settings = engine.inspect("c")["NetworkSettings"]
    assert (settings["SandboxKey"], settings["Networks"]["web"]["IPAddress"]) == ("", "")
    assert settings["Networks"]["db"]["NetworkID"] == on["NetworkID"]


def test_options_of_the_one_network(engine: Engine, rootfs: Path) -> None:
    asked = ("--ip", f"{WEB}78", "--ip6", f"{WEB6}78", "--mac-address", "44-33-22-11-00-98")
    run(engine, rootfs, "c", "--network", "web", *asked)
    assert {f"{WEB}78/24", f"{WEB6}78/64"} <= addresses(engine, "c", "eth0")
    assert engine.out("exec", "c", "cat", "/sys/class/net/eth0/address") == "44:33:22:11:00:98"


def test_an_address_that_another_one_has_is_named(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "first", "--network", "web", "--ip", f"{WEB}79")
    command = ("--name", "c", "--network", f"web:ip={WEB}79", "--rootfs", f"{rootfs}:O", "true")
    refused = engine.cli("run", *command, check=False)
    assert refused.returncode == 126
    assert refused.stderr.startswith(f"Error: cannot use the address '{WEB}79'")
    assert "container 'first'" in refused.stderr


def test_ports_are_shown_wherever_podman_shows_them(engine: Engine, rootfs: Path) -> None:
    options = (
        "-p",
        f"{PORT}-{PORT + 2}:80-82",
        "-p",
        f"127.0.0.1:{PORT + 3}:53/udp",
        "--expose",
        "90-91",
        "--expose",
        "81",
    )
    run(engine, rootfs, "c", "--network", "db", *options)
    run(engine, rootfs, "joined", "--network", "container:c")
    line = f"0.0.0.0:{PORT}-{PORT + 2}->80-82/tcp, 127.0.0.1:{PORT + 3}->53/udp"
    shown = engine.out("ps", "--sort", "names", "--format", "{{.Names}} {{.Ports}}").splitlines()
    assert shown == [f"c {line}, 90-91/tcp", f"joined {line}"]
    (one,) = json.loads(engine.out("ps", "--filter", "name=^c$", "--format", "json"))
    assert one["Ports"] == [
        {"host_ip": "", "container_port": 80, "host_port": PORT, "range": 3, "protocol": "tcp"},
        {"host_ip": "127.0.0.1", "container_port": 53, "host_port": PORT + 3, "range": 1, "protocol": "udp"},
    ]
    lines = [f"{80 + i}/tcp -> 0.0.0.0:{PORT + i}" for i in range(3)] + [f"53/udp -> 127.0.0.1:{PORT + 3}"]
    assert engine.out("port", "c").splitlines() == lines
    assert engine.out("port", "joined").splitlines() == lines
    assert engine.out("port", "c", "53/udp") == f"127.0.0.1:{PORT + 3}"
    own, joined = engine.inspect("c"), engine.inspect("joined")
    ports = {f"{80 + i}/tcp": [{"HostIp": ANYWHERE, "HostPort": str(PORT + i)}] for i in range(3)}
    ports["53/udp"] = [{"HostIp": "127.0.0.1", "HostPort": str(PORT + 3)}]
    assert own["HostConfig"]["PortBindings"] == ports
    assert own["NetworkSettings"]["Ports"] == {**ports, "90/tcp": None, "91/tcp": None}
    assert own["Config"]["ExposedPorts"].keys() == {*ports, "90/tcp", "91/tcp"}
    assert joined["HostConfig"]["PortBindings"] == {}
    assert joined["NetworkSettings"] == {**own["NetworkSettings"], "Ports": ports}
    engine.cli("stop", "--all")
    assert engine.out("port", "c") == ""
    assert engine.out("ps", "-a", "--filter", "name=^c$", "--format", "{{.Ports}}") == f"{line}, 90-91/tcp"


def test_a_port_that_nobody_names_is_free_and_stays(engine: Engine, rootfs: Path) -> None:
    def ports(name: str) -> list[int]:
        found = engine.inspect(name)["NetworkSettings"]["Ports"]
        return [int(place["HostPort"]) for places in found.values() for place in places]

    options = ("--network", "db", "-p", "80", "-p", "127.0.0.1::81-83", "-P", "--expose", "70/udp")
    for name in ("a", "b"):
        engine.cli("create", "--name", name, *options, "--rootfs", f"{rootfs}:O", *SLEEP)
    before = {name: ports(name) for name in ("a", "b")}
    assert len({*before["a"], *before["b"]}) == 10
    assert all(port > 1024 for port in before["a"])
    _, *row, _ = before["a"]
    assert row == list(range(row[0], row[0] + 3))
    engine.cli("start", "a", "b")
    engine.kill()
    engine.cli("restart", "a")
    assert {name: ports(name) for name in ("a", "b")} == before
    assert engine.inspect("a")["HostConfig"]["PublishAllPorts"] is True


def test_clients_at_once_get_ports_of_their_own(engine: Engine, rootfs: Path) -> None:
    words = ("create", "--network", "db", "-p", "80-89", "--rootfs", f"{rootfs}:O", "true")
    clients = [engine.spawn(*words, stdin=None) for _ in range(8)]
    for client in clients:
        with client:
            _, said = client.communicate(timeout=30)
        assert (client.returncode, said) == (0, b"")
    rows = json.loads(engine.out("ps", "-a", "--format", "json"))
    ports = [row["Ports"][0]["host_port"] + i for row in rows for i in range(10)]
    assert len(set(ports)) == len(ports) == 80


def test_a_port_of_the_host_that_is_used_is_named(engine: Engine, rootfs: Path) -> None:
    run(engine, rootfs, "first", "--network", "db", "-p", f"{PORT + 5}:80")
    command = ("--network", "web", "-p", f"127.0.0.1:{PORT + 5}:80", "--rootfs", f"{rootfs}:O", "true")
    refused = engine.cli("run", "--rm", *command, check=False)
    assert refused.returncode == 126
    assert refused.stderr.startswith(f"Error: cannot publish port {PORT + 5}/tcp")
    assert len(refused.stderr.splitlines()) == 1
    assert engine.out("ps", "-a", "--format", "{{.Names}}") == "first"


def test_filters_find_containers_by_their_networks(engine: Engine, rootfs: Path) -> None:
    root = ("--rootfs", f"{rootfs}:O", "true")
    for name, mode in (("a", "web"), ("b", "db"), ("n", "none"), ("h", "host"), ("j", "container:a")):
        engine.cli("create", "--name", name, "--network", mode, *root)
    engine.cli("create", "--name", "both", "--network", "web", "--network", "db", *root)
    id = json.loads(engine.out("network", "inspect", "web"))[0]["id"]

    def found(*values: str) -> str:
        filters = [word for value in values for word in ("--filter", f"network={value}")]
        return " ".join(engine.out("ps", "-a", "--sort", "names", *filters, "--format", "{{.Names}}").split())

    assert found("web") == found(id) == found(id[:12]) == "a both"
    assert found("web", "db") == "a b both"
    assert found("container:a") == "j"
    assert (found("none"), found("host"), found("nope"), found("container:nope")) == ("n", "h", "", "")


def test_its_configuration_says_which_ports_it_serves(engine: Engine, rootfs: Path) -> None:
    options = ("--network", "db", "-p", f"{PORT + 6}:80", "--expose", "90/udp")
    engine.cli("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true")
    assert engine.inspect("c")["Config"]["ExposedPorts"] == {"80/tcp": {}, "90/udp": {}}


def test_a_container_has_its_users_kind_of_network_where_nobody_says_otherwise(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    before = engine.configuration.read_text()
    engine.configuration.write_text(before.replace('netns = "none"', 'netns = "private"'))
    engine.cli("system", "reload")
    try:
        engine.cli("create", "--name", "c", "-p", f"{PORT + 7}:80", "--rootfs", f"{rootfs}:O", "true")
    finally:
        engine.configuration.write_text(before)
        engine.cli("system", "reload")
    told = engine.inspect("c")
    mode, network = ("pasta", "pasta") if isinstance(engine, UserEngine) else ("bridge", "podman")
    assert told["HostConfig"]["NetworkMode"] == mode
    assert told["NetworkSettings"]["Networks"].keys() == {network}
