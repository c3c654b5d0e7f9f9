"""Helper programs of an engine: finding and killing them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from tests.support import processes
from tests.support.hosts import helpers
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

__all__ = ["another", "end", "helper"]


def _found(net: Net, name: str) -> list[int]:
    return [pid for pid, each in helpers(net.engine.path).items() if each.startswith(name)]


def helper(net: Net, name: str) -> int:
    """The pid of a helper program that is there, or about to be: while it begins it may be two processes."""
    return another(net, name, 0)


def another(net: Net, name: str, former: int) -> int:
    """The next one's."""
    found: list[int] = []

    def is_alone() -> bool:
        found[:] = _found(net, name)
        return len(found) == 1 and former not in found

    until(is_alone, lambda: f"{name}: {found}, was {former}")
    return found[0]


def end(net: Net, name: str) -> int:
    """Kill it: the pid that it had."""
    pid = helper(net, name)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert not processes.wait_gone([pid], 20)
    return pid
