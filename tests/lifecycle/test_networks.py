"""Networks of a real supervisor beside Podman's netavark backend: each sees the other's, and removes them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import leave_no_mount, podman
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("crun", "rootless", "trixie", "rootless-trixie")

NETWORK = "io.pyman.Network"


@pytest.fixture
def net(shared_engine: Engine) -> Iterator[Engine]:
    """A shared engine, whose networks are removed afterwards."""
    yield shared_engine
    for name in names(shared_engine):
        if name != "podman":
            shared_engine.cli("network", "rm", name)
    leave_no_mount(shared_engine)


def names(engine: Engine) -> list[str]:
    return engine.out("network", "ls", "--quiet").split()


def asked(engine: Engine, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Podman: root's is told by the engine's settings where networks are."""
    own = {} if hasattr(engine.place, "user") else {"CONTAINERS_CONF": str(engine.configuration)}
    return podman(engine, "network", *words, check=check, env=own)


def theirs(engine: Engine, *words: str) -> str:
    return asked(engine, *words).stdout


def documents(engine: Engine, *wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(engine.out("network", "inspect", *wanted))
    return found


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Without what a version may not know, and the time, whose zone is another."""
    unknown = ("containers", "created", "routes", "network_dns_servers")
    return {key: value for key, value in document.items() if key not in unknown}


LINES = (
    "plain",
    "--ipv6 --label a=b --label c six",
    "--subnet 10.251.4.0/24 --gateway 10.251.4.9 --ip-range 10.251.4.128/25 --internal given",
    "--subnet 10.251.5.0/24 --subnet fd0a:1::/64 --disable-dns -o mtu=1400 -o vlan=7 two",
    "-o isolate=true apart",
    "--ipam-driver none bare",
)


def test_podman_sees_our_networks_as_they_are(net: Engine) -> None:
    lines = [*LINES, "--interface-name pmtest9 -o isolate=strict bridge9"]
    for line in lines:
        net.cli("network", "create", *line.split(" "))
    made = [line.rpartition(" ")[2] for line in lines]
    assert theirs(net, "ls", "--quiet").split() == sorted([*made, "podman"])
    seen = json.loads(theirs(net, "inspect", *made, "podman"))
    assert list(map(comparable, seen)) == list(map(comparable, documents(net, *made, "podman")))
    # The listings are the same to the letter.
    for options in (
        [],
        ["--no-trunc"],
        ["--format", "{{.Name}} {{.Driver}} {{.NetworkInterface}} {{.DNSEnabled}}"],
    ):
        assert net.cli("network", "ls", *options).stdout == theirs(net, "ls", *options)
    for key in ("label=a", "name=^t", "driver=bridge", "dangling=true", "dangling=false"):
        assert net.cli("network", "ls", "-q", "-f", key).stdout == theirs(net, "ls", "-q", "-f", key)
    for name in made:
        assert theirs(net, "rm", name).split() == [name]
    assert names(net) == ["podman"]


def test_we_see_podmans_networks_as_they_are(net: Engine) -> None:
    for line in LINES:
        theirs(net, "create", *line.split(" "))
    made = [line.rpartition(" ")[2] for line in LINES]
    assert names(net) == sorted([*made, "podman"])
    seen = json.loads(theirs(net, "inspect", *made))
    assert list(map(comparable, documents(net, *made))) == list(map(comparable, seen))
    assert net.out("network", "rm", *made).split() == made
    assert theirs(net, "ls", "--quiet").split() == ["podman"]
    assert net.cli("network", "exists", "six", check=False).returncode == 1


def test_what_is_chosen_keeps_clear_of_what_the_other_has_chosen(net: Engine) -> None:
    ours = net.out("network", "create").strip()
    podmans = theirs(net, "create").strip()
    again = net.out("network", "create").strip()
    found = documents(net, ours, podmans, again)
    assert len({each["network_interface"] for each in found}) == 3
    assert len({each["subnets"][0]["subnet"] for each in found}) == 3
    clash = net.cli("network", "create", "--subnet", found[1]["subnets"][0]["subnet"], "clash", check=False)
    assert f"network '{podmans}' has" in clash.stderr
    assert "clash" not in names(net)
    assert asked(net, "create", ours, check=False).returncode != 0


def test_both_at_once_choose_different_ones(net: Engine) -> None:
    with ThreadPoolExecutor(8) as threads:
        podmans = [threads.submit(theirs, net, "create") for _ in range(4)]
        ours = [threads.submit(net.out, "network", "create") for _ in range(8)]
        made = [each.result().strip() for each in (*podmans, *ours)]
    found = documents(net, *made)
    assert len({each["name"] for each in found}) == 12
    assert len({each["network_interface"] for each in found}) == 12
    assert len({each["subnets"][0]["subnet"] for each in found}) == 12


def test_podman_sees_what_we_have_changed(net: Engine) -> None:
    net.cli("network", "create", "--dns", "192.0.2.1", "web")
    assert net.out("network", "update", "--dns-drop=192.0.2.1", "--dns-add=192.0.2.2,fd00::2", "web") == "web"
    (ours,) = documents(net, "web")
    assert ours["network_dns_servers"] == ["192.0.2.2", "fd00::2"]
    (podmans,) = json.loads(theirs(net, "inspect", "web"))
    assert comparable(ours) == comparable(podmans)
    assert podmans.get("network_dns_servers") in (["192.0.2.2", "fd00::2"], None)  # 4.3 does not know of them
    told = [each for each in net.events(type=["network"]) if each["ID"] == ours["id"]]
    assert [event["Status"] for event in told] == ["create", "update"]
    shown = net.out("events", "--stream=false", "--since=10m", "--filter=type=network").splitlines()[-1]
    assert shown.endswith(f" network update {ours['id']} (name=web, type=bridge)")


def test_a_network_has_a_life_that_is_told(net: Engine) -> None:
    assert net.out("network", "create", "--label", "for=web", "web") == "web"
    (document,) = documents(net, "web")
    assert net.cli("network", "create", "web", check=False).returncode == 125
    assert net.out("network", "create", "--ignore", "web") == "web"
    assert net.cli("network", "rm", "podman", check=False).returncode == 125
    missing = net.cli("network", "rm", "nope", check=False)
    assert (missing.returncode, missing.stderr) == (1, "Error: cannot find network 'nope'\n")
    assert net.out("network", "prune", "--force", "--filter", "label=for=web") == "web"
    told = [event for event in net.events(type=["network"]) if event["ID"] == document["id"]]
    assert [(event["Status"], event["Name"]) for event in told] == [("create", "web"), ("remove", "web")]
    assert told[0]["Attributes"] == {"driver": "bridge"}
    lines = net.out("events", "--stream=false", "--since", "10m", "--filter", "type=network").splitlines()
    shown = net.out(
        "events", "--stream=false", "--since=10m", "--filter=type=network", "--format={{.Network}}"
    )
    assert shown.splitlines()[-1] == "web"
    assert lines[-1].endswith(f" network remove {document['id']} (name=web, type=bridge)")


def test_a_damaged_file_is_named_and_harms_nothing(net: Engine) -> None:
    net.cli("network", "create", "good")
    directory = Path(str(net.root)) / "networks" if hasattr(net.place, "user") else net.path / "networks"
    torn = directory / "torn.json"
    torn.write_text("{")
    try:
        listed = net.cli("network", "ls", "--quiet")
        assert listed.stdout.split() == ["good", "podman"]
        assert str(torn) in listed.stderr
        for verb in ("create", "inspect", "rm"):
            refused = net.cli("network", verb, "torn", check=False)
            assert refused.returncode == 125
            assert str(torn) in refused.stderr
        assert torn.read_text() == "{"
    finally:
        torn.unlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--subnet 10.251.30.128/25", "cannot use the subnet '10.251.30.128/25': network 'there' has '10.251.30.0/24'"),
        ("--subnet 10.88.0.0/24", "network 'podman' has '10.88.0.0/16'"),
        ("--subnet 127.0.0.0/24", "the host's interface 'lo' has '127.0.0.0/8'"),
        ("--subnet 10.251.31.0/24 --subnet 10.251.31.0/25", "overlaps the subnet '10.251.31.0/24'"),
        ("--subnet 10.251.31.0/24 --gateway 10.251.32.1", "cannot use the gateway '10.251.32.1'"),
        ("--subnet 10.251.31.0/24 --gateway 10.251.31.1 --gateway 10.251.31.2", "gateway"),
        ("--subnet 10.251.31.0/24 --ip-range 10.251.32.0/28", "it is not in the subnet"),
        ("--subnet 10.251.31.0", "it is not in CIDR notation"),
        ("--gateway 10.251.31.1", "gateway"),
        ("--driver weave", "cannot use the network driver 'weave': there are bridge, macvlan, ipvlan"),
        ("--driver macvlan --opt parent=nowhere", "the host has no interface 'nowhere'"),
        ("--opt mtu=9", "'mtu=9'"),
        ("--opt vlan=4095", "'vlan=4095'"),
        ("--opt isolate=perhaps", "it is not true, false or strict"),
        ("--opt colour=red", "cannot use the option 'colour'"),
        ("--route 10.251.40.0/24,fd00::1", "they are of different kinds"),
        ("--interface-name pmtest8", "'pmtest8': it is that of network 'there'"),
    ],
)  # fmt: skip
@pytest.mark.oci_runtime("crun", "rootless")
def test_a_network_that_cannot_be_is_refused_by_name_and_not_made(
    net: Engine, options: str, said: str
) -> None:
    net.cli("network", "create", "--subnet", "10.251.30.0/24", "--interface-name", "pmtest8", "there")
    seq = net.last_seq()
    refused = net.cli("network", "create", *options.split(), "bad", check=False)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (125, "", 1)
    assert said in refused.stderr
    assert names(net) == ["podman", "there"]
    assert net.events(seq) == []


@pytest.mark.oci_runtime("crun")
def test_bad_requests_are_refused_and_nothing_is_half_made(net: Engine) -> None:
    for parameters in (
        {"name": "x", "driver": "weave"},
        {"name": "x", "subnets": [{"subnet": "10.251.0.0/24", "gateway": "10.1.0.1"}]},
        {"name": "../x"},
    ):
        with pytest.raises(VarlinkError, match="InvalidArgument"):
            net.call(f"{NETWORK}.Create", parameters)
    assert names(net) == ["podman"]
    assert [path.name for path in (net.path / "networks").glob("*.json")] == []


@pytest.mark.oci_runtime("crun")
def test_another_directory_than_the_supervisors_is_refused_by_name(net: Engine) -> None:
    refused = net.cli("--network-config-dir", "/elsewhere", "network", "ls", check=False)
    assert refused.returncode == 125
    assert "cannot use --network-config-dir '/elsewhere': the running supervisor has" in refused.stderr
