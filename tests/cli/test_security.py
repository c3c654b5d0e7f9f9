"""Options of what a container may do, as fields of the create request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.options import parse
from pyman.cli.security import SECURITY_OPTIONS, security_settings
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


def fields(line: str) -> dict[str, Any]:
    return security_settings(parse(line.split(), SECURITY_OPTIONS))


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", {}),
        ("--cap-add chown,CAP_KILL --cap-add ALL", {"cap_add": ["chown", "CAP_KILL", "ALL"]}),
        ("--cap-drop all", {"cap_drop": ["all"]}),
        ("--device /dev/a:/dev/b:r --device /dev/c", {"devices": ["/dev/a:/dev/b:r", "/dev/c"]}),
        ("--device-cgroup-rule c_1:2_r,b_8:*_m", {"device_cgroup_rule": ["c_1:2_r", "b_8:*_m"]}),
        ("--security-opt no-new-privileges", {"no_new_privileges": True}),
        ("--security-opt no-new-privileges:true", {"no_new_privileges": True}),
        ("--security-opt no-new-privileges=false", {"no_new_privileges": False}),
        ("--security-opt seccomp=unconfined", {"seccomp_profile_path": "unconfined"}),
        ("--security-opt seccomp:unconfined", {"seccomp_profile_path": "unconfined"}),
        ("--security-opt apparmor=mine", {"apparmor_profile": "mine"}),
        ("--security-opt label=type:spc_t --security-opt label=level:s0:c1,c2 --security-opt label=nested",
         {"selinux_opts": ["type:spc_t", "level:s0:c1,c2"], "label_nested": True}),
        ("--security-opt label:disable", {"selinux_opts": ["disable"]}),
        ("--security-opt mask=/a:/b --security-opt mask=/c", {"mask": ["/a", "/b", "/c"]}),
        ("--security-opt unmask=ALL", {"unmask": ["ALL"]}),
        ("--security-opt systempaths=unconfined", {"unmask": ["ALL"]}),
        ("--security-opt proc-opts=hidepid=2,subset=pid", {"procfs_opts": ["hidepid=2", "subset=pid"]}),
    ],
)  # fmt: skip
def test_options_become_fields(line: str, expected: dict[str, Any]) -> None:
    assert fields(line) == expected


@pytest.mark.parametrize("text", ["typo=1", "seccomp", "seccomp=", "label", "no-new-privileges=perhaps", "systempaths=all", ""])  # fmt: skip
def test_an_option_that_is_not_known_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"option --security-opt cannot be '{text}'"):
        security_settings(parse(["--security-opt", text], SECURITY_OPTIONS))


def test_the_text_of_a_profile_goes_along(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert fields(f"--security-opt seccomp={path}") == {
        "seccomp_profile_path": str(path),
        "seccomp_profile": '{"defaultAction": "SCMP_ACT_ALLOW"}',
    }


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "no such file or directory"),
        (b"", "it is empty"),
        (b"\xff", "it is not UTF-8"),
        (b" " * (600 << 10), "it is larger than 512 KiB"),
    ],
)
def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"cannot use --security-opt seccomp={path}: {reason}"):
        fields(f"--security-opt seccomp={path}")
