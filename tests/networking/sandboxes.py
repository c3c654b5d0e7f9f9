"""An ordinary user's sandbox: whether it is there, and taking it away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.hosts import helpers
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

__all__ = ["is_gone", "space", "space_of", "take_away"]


def space(net: Net) -> int:
    """Which namespace it is; 0: there is none."""
    return space_of(net, net.engine.pid)


def space_of(net: Net, supervisor: int) -> int:
    """The same, where it need not answer."""
    try:
        return os.stat(f"/proc/{supervisor}/root{net.engine.path}/tmp/sandbox/netns").st_ino
    except FileNotFoundError:
        return 0


def take_away(net: Net, supervisor: int) -> None:
    """As somebody may who can: the mount that keeps it."""
    net.host.run(
        "nsenter",
        f"--user=/proc/{supervisor}/ns/user",
        f"--mount=/proc/{supervisor}/ns/mnt",
        *("umount", "--lazy", f"{net.engine.path}/tmp/sandbox/netns"),
    )


def is_gone(net: Net) -> None:
    until(lambda: not helpers(net.engine.path), lambda: f"left: {helpers(net.engine.path)}")
    until(lambda: not os.path.exists(f"{net.engine.path}/tmp/sandbox"), "there is a sandbox")
