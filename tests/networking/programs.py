"""Helper programs of an engine: finding and killing them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import processes
from tests.support.hosts import helpers, inhabitants
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

__all__ = ["another", "end", "found", "helper"]


def found(net: Net, name: str) -> list[int]:
    """By the engine's directory, or, where a program is told nothing of that, by its host."""
    named = dict(helpers(net.engine.path))
    if name == "slirp4netns":
        named |= {pid: _name(pid) for pid in inhabitants(net.host)}
    return [pid for pid, each in named.items() if each.startswith(name)]


def _name(pid: int) -> str:
    return Path((processes.words(pid) or [""])[0]).name


def helper(net: Net, name: str) -> int:
    """The pid of a helper program that is there, or about to be: while it begins it may be two processes."""
    return another(net, name, 0)


def another(net: Net, name: str, former: int) -> int:
    """The next one's."""
    last: list[int] = []

    def is_alone() -> bool:
        last[:] = found(net, name)
        return len(last) == 1 and former not in last

    until(is_alone, lambda: f"{name}: {last}, was {former}")
    return last[0]


def end(net: Net, name: str) -> int:
    """Kill it: the pid that it had."""
    pid = helper(net, name)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert not processes.wait_gone([pid], 20)
    return pid
