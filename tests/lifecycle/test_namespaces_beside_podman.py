"""Namespaces that are shared are shared as with the installed Podman, told the same, and refused the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.oci_runtime("runc"),
]

OWNER = ("--name", "owner", "--hostname", "big-box", "--ipc", "shareable")
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
"""Podman's own are not possible everywhere."""
LOOK = """\
hostname; echo $HOSTNAME
cat /dev/shm/mark
grep ' /dev/shm ' /proc/mounts | cut -d' ' -f3
grep -c . /proc/net/dev
cat /proc/sys/net/ipv4/ip_default_ttl
"""
JOINED = ("pid", "ipc", "uts", "network")
"""Not the cgroup namespace: on cgroup v1 the owner has the host's, and who joins that has the host's here, too."""


@pytest.fixture
def both(
    shared_engine: Engine, rootfs: Path, podman: Callable[..., str]
) -> Iterator[tuple[Callable[..., str], Callable[..., str]]]:
    """Ours and Podman's command line, each with a container `owner` that runs."""

    def ours(*words: str) -> str:
        return shared_engine.cli(*words).stdout

    def theirs(verb: str, *words: str) -> str:
        return podman(verb, *(LIMITS if verb in ("run", "create") else ()), *words)

    try:
        for engine in (ours, theirs):
            engine("run", "-d", "--network", "none", *OWNER, "--rootfs", f"{rootfs}:O", *SLEEP)
            engine("exec", "owner", "sh", "-c", "echo theirs > /dev/shm/mark")
        yield ours, theirs
    finally:
        podman("rm", "-f", "-t", "0", "-a")


@pytest.mark.parametrize(
    "options",
    [
        "--network none",
        "--network host",
        "--network host --hostname mine",
        "--network none --uts host",
        "--network none --uts container:owner",
        "--network none --ipc container:owner",
        "--network none --ipc none",
        "--network container:owner",
        "--network container:owner --sysctl net.ipv4.ip_default_ttl=77",
        "--network none --sysctl net.ipv4.ip_default_ttl=77 --sysctl kernel.msgmax=1234",
        "--network container:owner --pid container:owner --ipc container:owner --uts container:owner",
    ],
)
def test_a_process_sees_the_same(
    both: tuple[Callable[..., str], Callable[..., str]], rootfs: Path, options: str
) -> None:
    look = LOOK if "--network host" not in options else LOOK.split("cat /dev/shm", maxsplit=1)[0]
    words = ("run", "--rm", "--name", "guest", *options.split(), "--rootfs", f"{rootfs}:O", "sh", "-c", look)
    ours, theirs = (engine(*words).split("\n") for engine in both)
    if ours[0] == "hostname":
        pytest.fail("nothing was seen")
    # Whose name nobody has given is of the container's id.
    seen = [[line if not _is_id(line) else "ID" for line in lines] for lines in (ours, theirs)]
    assert seen[0] == seen[1]


def _is_id(text: str) -> bool:
    return len(text) == 12 and all(letter in "0123456789abcdef" for letter in text)


def test_inspect_tells_the_same(both: tuple[Callable[..., str], Callable[..., str]], rootfs: Path) -> None:
    joins = [word for kind in JOINED for word in (f"--{kind}", "container:owner")]
    told = []
    for engine in both:
        engine("create", "--name", "guest", *joins, "--rootfs", f"{rootfs}:O", "true")
        guest, owner = json.loads(engine("inspect", "guest", "owner"))
        modes = {
            key: guest["HostConfig"][key].replace(owner["Id"], "ID")
            for key in ("PidMode", "IpcMode", "NetworkMode", "CgroupMode", "UTSMode")
        }
        needed = [id.replace(owner["Id"], "ID") for id in guest["Dependencies"]]
        own = {key: owner["HostConfig"][key] for key in ("PidMode", "IpcMode", "UTSMode", "CgroupMode")}
        told.append((modes, needed, own, owner["Config"]["Hostname"]))
        engine("rm", "guest")
    ours, theirs = told
    # An early Podman does not tell whose UTS namespace it is.
    if theirs[0]["UTSMode"] in ("private", ""):
        ours[0].pop("UTSMode"), theirs[0].pop("UTSMode")
    assert ours == theirs


@pytest.mark.parametrize(
    "options",
    [
        "--uts host --hostname x",
        "--uts container:owner --hostname x",
        "--ipc container:private",
        "--pid container:nobody",
        "--pid ns:/nowhere",
        "--network host --sysctl net.ipv4.ip_forward=1",
        "--sysctl kernel.panic=1",
        "--sysctl net.ipv4.ip_forward",
        "--pid host --init",
        "--shm-size 1m --ipc host",
    ],
)
def test_the_same_is_refused(
    both: tuple[Callable[..., str], Callable[..., str]], rootfs: Path, options: str
) -> None:
    words = (*options.split(), "--rootfs", f"{rootfs}:O", "true")
    if "--network" not in options:
        words = ("--network", "none", *words)
    for engine in both:
        engine(
            "create",
            "--network",
            "none",
            "--name",
            "private",
            "--ipc",
            "private",
            "--rootfs",
            f"{rootfs}:O",
            "true",
        )
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            engine("create", "--name", "guest", *words)
