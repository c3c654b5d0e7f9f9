"""A container finds in its files what it finds there with Podman 5.4. Earlier ones end the host name's file otherwise."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.lifecycle.test_security_beside_podman import LIMITS
from tests.support.images import podman

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.oci_runtime("trixie"),
]

HOST = ("host.containers.internal", "host.docker.internal")
"""Names of the host, which in its own network is at 127.0.0.1 with later versions than these."""
LOOK = """\
for file in hosts hostname resolv.conf; do echo "-- $file"; cat /etc/$file 2>/dev/null; done
echo "-- times"; date +%z
echo "-- variables"; env | grep -i -e proxy -e COLOUR | sort
"""


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--network host",
        "--add-host one;two:192.0.2.7 --add-host gate:host-gateway",
        "--network host --dns 192.0.2.1 --dns 192.0.2.2 --dns-search one --dns-search two --dns-option ndots:3",
        "--network host --dns-search .",
        "--network host --dns none",
        "--no-hosts",
        "--network host --add-host host.containers.internal:192.0.2.8",
        "--tz Asia/Tokyo",
        "--http-proxy=false",
        "--unsetenv http_proxy --unsetenv TERM",
        "--env COLOUR=red --env http_proxy=mine",
        "--read-only",
    ],
)
def test_files_and_variables_are_the_same(shared_engine: Engine, rootfs: Path, options: str) -> None:
    engine = shared_engine
    words = ("run", "--rm", "--name", "compared", "--hostname", "box", *options.split())
    if "--network host" in options:
        words += ("--uts", "private")
    if "--network" not in options:
        words += ("--network", "none")
    command = ("--rootfs", f"{rootfs}:O", "sh", "-c", LOOK)
    proxies = {"http_proxy": "http://one", "NO_PROXY": "two"}
    ours = engine.cli(*words, *command, env=proxies).stdout
    theirs = podman(engine, *words, *LIMITS, *command, env=proxies).stdout
    if "--network host" in options:
        ours, theirs = (without_host(text) for text in (ours, theirs))
    assert ours == theirs


def without_host(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.endswith(HOST))
