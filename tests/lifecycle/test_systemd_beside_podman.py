"""systemd mode is what the installed Podman makes of it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

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

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Podman's own are not possible everywhere."""
LOOK = (
    "grep -E ' (/run|/run/lock|/tmp|/var/log/journal|/sys/fs/cgroup|/sys/fs/cgroup/systemd) ' /proc/mounts",
    "stat -c '%n %a %F' /tmp /run /run/lock /var/log/journal /sys/fs/cgroup/systemd/release_agent",
    "env | grep -c container_uuid=................................$",
)


@pytest.mark.parametrize(
    "options",
    [
        "--systemd=always",
        "--systemd=always --read-only",
        "--systemd=always --shm-size-systemd=8m",
        "--systemd=always --tmpfs /run:size=4m",
        "--systemd=false",
    ],
)
def test_a_container_sees_the_same(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], options: str
) -> None:
    if "shm-size-systemd" in options and "shm-size-systemd" not in podman("create", "--help"):
        options = options.replace("--shm-size-systemd=8m", "")  # an early one
    words = (*options.split(), "--rootfs", f"{rootfs}:O", "sh", "-c", f"{'; '.join(LOOK)}; true")
    ours = shared_engine.cli("run", "--rm", *words).stdout
    theirs = podman("run", "--rm", "--network=none", *LIMITS, *words)
    assert ("tmpfs /var/log/journal tmpfs" in ours) is ("always" in options)
    assert _fit(ours) == _fit(theirs)


def _fit(told: str) -> list[str]:
    """Without what is the same mount told otherwise: the kernel's own number of inodes and the like."""
    return sorted(line.removesuffix(" 0 0").replace(",inode64", "") for line in told.splitlines())


@pytest.mark.parametrize(
    "words",
    ["/sbin/init", "/usr/sbin/init --x", "/usr/local/sbin/init", "systemd", "/a/systemd", "/bin/sh -c /sbin/init", "init", "sh systemd"],
)  # fmt: skip
def test_it_is_known_by_the_same_commands(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str], words: str
) -> None:
    given = ("--name", "compared", "--rootfs", f"{rootfs}:O", *words.split())
    shared_engine.cli("create", *given)
    podman("create", *LIMITS, *given)
    try:
        theirs = json.loads(podman("inspect", "compared"))[0]["Config"]
    finally:
        podman("rm", "-f", "compared")
    ours = shared_engine.inspect("compared")["Config"]
    assert ours["SystemdMode"] == theirs.get("SystemdMode", False)
    assert ours["StopSignal"] == theirs["StopSignal"]
