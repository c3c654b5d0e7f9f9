"""Containers by pasta beside Podman's: what pasta is told, and what the containers' files say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.images import leave_no_mount, podman
from tests.support.served import PORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("rootless-trixie")

OPTIONS = [
    "pasta",
    "pasta:--map-gw,-m,1400",
    "pasta:--ipv4-only,-a,10.0.2.5,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3,-T,none",
]


def told() -> set[str]:
    """What pasta was told for the container that has the port: options with their values, in no order."""
    for pid in processes.pids():
        words = processes.words(pid)[1:]
        if "--config-net" not in words or f"127.0.0.1/{PORT}-{PORT}:80-80" not in words:
            continue
        options = re.split(r" (?=-[a-zA-Z-])", " ".join(words))
        return {option for option in options if not option.startswith(("--netns", "--pid"))}
    raise AssertionError("there is no pasta")


@pytest.mark.parametrize("network", OPTIONS)
def test_pasta_and_the_container_are_told_the_same(shared_engine: Engine, rootfs: Path, network: str) -> None:
    engine = shared_engine
    publish = ("-p", f"127.0.0.1:{PORT}:80", "-p", f"{PORT + 1}-{PORT + 3}:90-92/udp")
    words = ("run", "--detach", "--name", "c", "--hostname", "box", "--network", network, *publish)
    files = ("exec", "c", "cat", "/etc/hosts", "/etc/resolv.conf")
    engine.cli(*words, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    ours = (told(), engine.out(*files).splitlines())
    engine.cli("rm", "-f", "-t", "0", "c")
    podman(engine, *words, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    try:
        theirs = (told(), podman(engine, *files).stdout.splitlines())
    finally:
        podman(engine, "rm", "-f", "-t", "0", "c")
        leave_no_mount(engine)
    assert ours == theirs
