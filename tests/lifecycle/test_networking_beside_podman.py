"""What containers ask of networks and ports, beside Podman: what is shown of it, and what both refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")

ANYWHERE = "0.0.0.0"  # noqa: S104 - shown
OPTIONS = [
    "",
    "-p 18080:80",
    "-p 18080:80 -p 18081:81 -p 18083:83",
    "-p 18080-18082:80-82 -p 18080:80",
    "-p 127.0.0.1:18080-18081:80-81/udp -p 127.0.0.1:18080:80/tcp",
    "-p [::1]:18080:80 -p 127.0.0.1:18080:80",
    "-p 18080:80 -p 18080:80/udp --expose 90-91/udp",
    "--network host --expose 80",
]
REFUSED = [
    "-p 0:80",
    "-p 70000:80",
    "-p 80:0",
    "-p -80:80",
    "-p 80-79",
    "-p 1-3:1-4",
    "-p 80:80/icmp",
    "-p 80/tcp/udp",
    "-p localhost:80:80",
    "-p [::1]:80",
    "-p ::1:80:80",
    "-p 18080-18082:80-82 -p 18081:90",
    "--network nope",
    "--network none --network host",
    "--network none --ip 10.88.0.5",
    "--network host --mac-address 44:33:22:11:00:99",
    "--network none --network-alias a",
    "--ip 10.88",
    "--mac-address 44:33:22",
    "--network container:nope",
    "--network ns:",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_both_show_the_same(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], options: str
) -> None:
    words = (
        "create",
        "--name",
        "c",
        *(options if "--network" in options else f"--network bridge {options}").split(),
    )
    shared_engine.cli(*words, "--rootfs", f"{rootfs}:O", "true")
    podman(*words, "--rootfs", f"{rootfs}:O", "true")
    try:
        ours, theirs = (shown(run) for run in (shared_engine.out, podman))
    finally:
        podman("rm", "--force", "c")
    assert ours == theirs


def shown(run: Callable[..., str]) -> dict[str, Any]:
    """In the form that all versions have in common."""
    template = "{{.Ports}};{{.Networks}}"
    ports, _, networks = (
        run("ps", "--all", "--filter", "name=^c$", "--format", template).strip().partition(";")
    )
    listed = json.loads(run("ps", "--all", "--filter", "name=^c$", "--format", "json"))[0]["Ports"] or []
    (told,) = json.loads(run("inspect", "c"))
    settings = told["NetworkSettings"]
    bound = {key: places for key, places in settings["Ports"].items() if places}
    return {
        "line": {port for port in ports.split(", ") if "->" in port},
        "networks": networks,
        "listed": sorted(listed, key=json.dumps),
        "mode": told["HostConfig"]["NetworkMode"],
        "bound": {
            key: sorted((p["HostIp"] or ANYWHERE, p["HostPort"]) for p in ps) for key, ps in bound.items()
        },
        "exposed": sorted(key for key, places in settings["Ports"].items() if not places),
        "keys": sorted(settings.keys() - {"Networks", "SecondaryIPAddresses", "SecondaryIPv6Addresses"}),
        "addresses": (settings["IPAddress"], settings["Gateway"], settings["MacAddress"]),
    }


@pytest.mark.parametrize("options", REFUSED)
def test_both_refuse_the_same(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], options: str
) -> None:
    words = ("create", "--name", "c", *options.split(), "--rootfs", f"{rootfs}:O", "true")
    ours = shared_engine.cli(*words, check=False)
    assert (ours.returncode, ours.stderr.count("\n")) == (125, 1)
    with pytest.raises(AssertionError):
        podman(*words)
    assert shared_engine.out("ps", "-aq") == ""
