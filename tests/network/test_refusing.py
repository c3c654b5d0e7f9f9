"""A root without the right to set up networks is told what is left."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
from pyman.errors import NetworkFailed
from supervisor.network.kernel import firewall, links
from supervisor.network.plans import NetworkPlan, Subnet

network = NetworkPlan("n", "a" * 64, interface="pmrefused", subnets=[Subnet("10.9.9.0/24", "10.9.9.1")])
try:
    {call}(network)
except NetworkFailed as error:
    print(error.message)
    print(error.hint)
"""


@pytest.mark.parametrize(
    "call, message",
    [
        ("links.ensure_bridge", "cannot make the bridge 'pmrefused' of network 'n': operation not permitted"),
        ("firewall.add_network", "cannot set up the packet filter: operation not permitted"),
    ],
)
def test_who_has_not_the_right_is_told_what_is_left(call: str, message: str) -> None:
    words = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c")
    program = _PROGRAM.format(call=call)
    done = subprocess.run([*words, program], capture_output=True, text=True, timeout=20, check=True)
    said, hint = done.stdout.splitlines()
    assert said == message
    assert "--network none or host" in hint
