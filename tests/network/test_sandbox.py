"""The sandbox: an ordinary user's network namespace, made, found again, and removed."""

from __future__ import annotations

import os
import subprocess
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from supervisor.network import sandbox
from tests.support.user import User, UserPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTER = """
import os, sys
from supervisor.rootless import entering
warning = entering.enter(sys.argv[1])
assert not warning, warning
"""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[str]:
    """Where root keeps one."""
    path = str(tmp_path / "netns")
    yield path
    sandbox.remove(path)


def test_it_is_found_where_it_is_kept_until_it_is_removed(kept: str) -> None:
    assert sandbox.find(kept) is None
    made = sandbox.make(kept)
    found = sandbox.find(kept)
    assert found is not None
    try:
        assert os.fstat(made).st_ino == os.fstat(found).st_ino
        assert os.fstat(made).st_ino != os.stat("/proc/self/ns/net").st_ino
    finally:
        os.close(made)
        os.close(found)
    sandbox.remove(kept)
    sandbox.remove(kept)
    assert sandbox.find(kept) is None
    assert not mounts.mounted(kept)
    assert not os.path.lexists(kept)


def test_what_a_killed_supervisor_left_half_made_is_made_again(kept: str) -> None:
    Path(kept).touch()
    assert sandbox.find(kept) is None
    first = sandbox.make(kept)
    second = sandbox.make(kept)  # whoever asks for a new one gets one
    assert os.fstat(first).st_ino != os.fstat(second).st_ino
    os.close(first)
    os.close(second)


def test_an_ordinary_user_has_all_rights_in_it(programs: Path) -> None:
    """Bridges, the packet filter, and the way back to the forwarder."""
    work = """
    from supervisor.kernel import inside
    from supervisor.network.kernel import firewall, links
    from supervisor.network import sandbox
    from supervisor.network.plans import NetworkPlan, Subnet
    path = f"{sys.argv[1]}/netns"
    os.close(sandbox.make(path))
    found = sandbox.find(path)
    network = NetworkPlan("net", "ab" * 32, interface="podman9", subnets=[Subnet("10.9.0.0/24", "10.9.0.1")])
    def make():
        links.ensure_bridge(network)
        firewall.rebuild([network], [])
        sandbox.lead_back()
        os.system("ip -br addr show; cat /proc/sys/net/ipv4/ip_forward")
    inside.joined(found, "network", make)
    sandbox.remove(path)
    """
    said = as_user(programs, work)
    assert "podman9" in said
    assert "10.9.0.1/24" in said
    assert "lo               UNKNOWN" in said
    assert said.split()[-1] == "1"


def as_user(programs: Path, work: str) -> str:
    """What a program prints that is in the user's namespaces; it has a directory of the user's as its argument."""
    user = User.of()
    with tempfile.TemporaryDirectory(prefix="pm-sandbox-", dir="/tmp") as own:
        user.owns(Path(own))
        words = [str(programs / "python"), "-c", _ENTER + textwrap.dedent(work), own]
        done = subprocess.run(
            [*UserPlace(user).prefix("/"), *words], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout
