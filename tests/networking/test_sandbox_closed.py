"""An ordinary user's containers on bridges where the way out cannot be begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.networking.sandboxes import is_gone
from tests.support.hosts import helpers

if TYPE_CHECKING:
    from tests.networking.conftest import Net

CONFIG = """\
[network]
pasta_options = ["--interface", "nowhere"]
"""

pytestmark = pytest.mark.parametrize("module_net", ["user"], indirect=True)


def test_no_container_starts_and_nothing_of_it_stays(net: Net) -> None:
    for _ in range(2):
        words = ("run", "--name", "a", "--network", "bridge", "-p", "8080:80", *net.root, "true")
        done = net.engine.cli(*words, check=False)
        assert done.returncode == 125
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: cannot start pasta: ")
        assert "nowhere" in line
        net.engine.cli("rm", "a")
        assert not helpers(net.engine.path)
    is_gone(net)


def test_a_supervisor_that_comes_up_meanwhile_finds_nothing_to_do(net: Net) -> None:
    net.engine.cli(
        "create", "--name", "a", "--network", "bridge", "--restart", "always", *net.root, "sleep", "9"
    )
    assert net.engine.cli("start", "a", check=False).returncode != 0
    since = net.engine.last_seq()
    net.engine.kill()
    # By then the containers have been looked through that were there.
    net.engine.cli("run", "--rm", "--network", "none", *net.root, "true")
    id = net.engine.inspect("a")["Id"]
    assert [event["Status"] for event in net.engine.events(since) if event["ID"] == id] == []
    net.engine.cli("rm", "--force", "a")
    is_gone(net)
