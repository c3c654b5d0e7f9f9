"""The same options give a process the same rights as the installed Podman gives it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from supervisor.oci.host import this_host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.oci_runtime("runc"),
]

LOOK = """\
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
mkdir /tmp/made 2>&1
grep -cE ' /proc/sys |/sys/firmware ' /proc/mounts
tail -n1 /etc/passwd
"""
OPTIONS = [
    "",
    "--cap-add net_admin,CAP_NET_RAW --cap-drop kill",
    "--cap-drop ALL --cap-add Chown --cap-add setuid",
    "--cap-add ALL --cap-drop sys_admin",
    "--user worker --cap-add net_admin --cap-drop chown",
    "--user 1234:77 --cap-drop all",
    "--user 1234 --passwd-entry $USERNAME:x:$UID:$GID:$NAME:$HOME:/bin/x",
    "--privileged --user worker --cap-add chown",
    "--security-opt no-new-privileges --security-opt unmask=/proc/s*:/sys/firmware",
    "--security-opt seccomp=unconfined --security-opt unmask=ALL",
    "--security-opt seccomp={profile}",
    "--security-opt seccomp={profile} --cap-add net_admin",
    "--privileged --security-opt seccomp={profile}",
]

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Podman's own are not possible everywhere."""
STALE = {"CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"}
"""Which an early Podman takes for usual when it tells the difference, though it gives them to no container."""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    forbidden = {"action": "SCMP_ACT_ERRNO", "errno": "ENOTBLK", "excludes": {"caps": ["CAP_NET_ADMIN"]}}
    rules = [
        {"names": ["mkdir", "mkdirat"], **forbidden},
        {"name": "mkdir", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_NET_ADMIN"]}},
    ]
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    return path


@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
@pytest.mark.parametrize("options", OPTIONS)
def test_a_process_has_the_same_rights(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], profile: Path, options: str
) -> None:
    words = options.format(profile=profile).split()
    ours = shared_engine.cli("run", "--rm", *words, "--rootfs", f"{rootfs}:O", "sh", "-c", LOOK).stdout
    assert ours.startswith("CapInh:")
    assert ours == podman(
        "run", "--rm", "--network=none", *LIMITS, *words, "--rootfs", f"{rootfs}:O", "sh", "-c", LOOK
    )


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--cap-add net_admin --cap-drop kill --group-add staff --group-add 77",
        "--user worker --cap-add ALL",
        "--privileged",
        "--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label=type:spc_t",
        "--security-opt label=disable --security-opt label=level:s0:c1",
    ],
)
def test_inspect_tells_the_same(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], options: str
) -> None:
    words = ("--name", "compared", *options.split(), "--rootfs", f"{rootfs}:O", "true")
    shared_engine.cli("create", *words)
    podman("create", *LIMITS, *words)
    try:
        theirs = json.loads(podman("inspect", "compared"))[0]
    finally:
        podman("rm", "-f", "compared")
    ours = shared_engine.inspect("compared")
    for key in ("EffectiveCaps", "BoundingCaps", "ProcessLabel", "MountLabel", "AppArmorProfile"):
        assert (ours[key] or []) == (theirs[key] or []), key
    for key in ("CapAdd", "CapDrop"):
        mine, yours = (set(told["HostConfig"][key]) - STALE for told in (ours, theirs))
        assert mine == yours, key
    for key in ("SecurityOpt", "GroupAdd", "Privileged", "Devices"):
        assert ours["HostConfig"][key] == theirs["HostConfig"][key], key
