"""Devices of a container: which nodes, mounts and rights a request comes to, and what is refused by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyman.errors import InvalidArgument, NotSupported
from supervisor.oci import devices
from supervisor.oci.build import build
from tests.oci.support import built, request, settings

if TYPE_CHECKING:
    from pathlib import Path


def linux(**spec: Any) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    found = built(request(**spec))["linux"]
    return {node["path"]: node for node in found.get("devices", [])}, found["resources"]["devices"]


@pytest.mark.parametrize(
    "text, inside, access",
    [
        ("/dev/null", "/dev/null", "rwm"),
        ("/dev/null:/dev/other", "/dev/other", "rwm"),
        ("/dev/null:r", "/dev/null", "r"),
        ("/dev/null:/dev//./other:wr", "/dev/other", "wr"),
        ("/dev/null::rw", "/dev/null", "rw"),
    ],
)
def test_a_device_has_a_path_and_rights(text: str, inside: str, access: str) -> None:
    nodes, rules = linux(devices=[text])
    assert (nodes[inside]["type"], nodes[inside]["major"], nodes[inside]["minor"]) == ("c", 1, 3)
    assert rules == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "access": access, "type": "c", "major": 1, "minor": 3},
    ]


def test_links_and_directories_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    nodes, _ = linux(devices=[str(tmp_path / "link"), f"{tmp_path}/link:/dev/mine"])
    assert set(nodes) == {"/dev/zero", "/dev/mine"}
    if not os.path.isdir("/dev/net"):
        pytest.skip("this host has no directory of devices")
    nodes, rules = linux(devices=["/dev/net:/dev/nets:r"])
    assert set(nodes) == {f"/dev/nets/{name}" for name in os.listdir("/dev/net")}
    assert {rule["access"] for rule in rules[1:]} == {"r"}


def test_the_configured_ones_come_first_and_the_last_of_a_path_counts() -> None:
    chosen = settings(devices=("/dev/zero", "/dev/full:/dev/a"))
    nodes, rules = linux(chosen=chosen, devices=["/dev/null:/dev/a:r"])
    assert {path: node["minor"] for path, node in nodes.items()} == {"/dev/zero": 5, "/dev/a": 3}
    assert [rule["access"] for rule in rules[1:]] == ["rwm", "r"]


def test_a_privileged_container_has_them_beside_all_others() -> None:
    nodes, rules = linux(privileged=True, devices=["/dev/null:/dev/mine"])
    assert {"/dev/null", "/dev/mine", "/dev/zero"} <= set(nodes)
    assert rules == [{"allow": True, "access": "rwm"}]


def test_rules_of_the_cgroup_follow() -> None:
    _, rules = linux(device_cgroup_rule=["c 10:229 rwm", "b 8:* r", "a *:* m"])
    assert rules[1:] == [
        {"allow": True, "access": "rwm", "type": "c", "major": 10, "minor": 229},
        {"allow": True, "access": "r", "type": "b", "major": 8},
        {"allow": True, "access": "m", "type": "a"},
    ]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("/dev/none-such", "no such file or directory"),
        ("/etc/passwd", "it is no device"),
        ("/etc/ssl", "there are no devices in the directory"),
        ("dev/null", "the path on the host is not absolute"),
        ("", "it must be HOST"),
        ("/dev/null:x", "'x' is no combination of r, w and m"),
        ("/dev/null:rr", "'rr' is no combination"),
        ("/dev/null:/dev/a:", "'' is no combination"),
        ("/dev/null:/dev/a:r:w", "it must be HOST"),
        ("/dev/null:/dev/../etc/a", "there can be no device at '/dev/../etc/a'"),
        ("/dev/null:/dev/", "there can be no device at '/dev/'"),
    ],
)
def test_what_is_no_device_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot use --device {text}: {reason}"):
        build(request(devices=[text]))


def test_a_configured_one_that_is_missing_is_named_as_such() -> None:
    with pytest.raises(InvalidArgument, match=r"cannot use devices in containers.conf /dev/none-such"):
        build(request(chosen=settings(devices=("/dev/none-such",))))


@pytest.mark.parametrize(
    "text", ["c 1:3", "c 1 rwm", "x 1:3 r", "c 1:3 rx", "c 1:3 rr", "c  1:3 r", "c 1:-3 r", ""]
)
def test_a_rule_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot use --device-cgroup-rule '{text}'"):
        build(request(device_cgroup_rule=[text]))


def test_what_a_cgroup_cannot_limit_is_refused() -> None:
    devices.rules(request(devices=["/dev/null:rw"], cgroups_mode="disabled"))
    for asked in (
        request(cgroups_mode="disabled", devices=["/dev/null:r"]),
        request(cgroups_mode="disabled", device_cgroup_rule=["c 1:3 r"]),
    ):
        with pytest.raises(NotSupported, match="this container's cgroup does not limit devices"):
            devices.rules(asked)


def test_devices_of_cdi_are_refused() -> None:
    with pytest.raises(NotSupported, match=r"--device nvidia.com/gpu=all: CDI devices are not supported"):
        build(request(devices=["nvidia.com/gpu=all"]))
