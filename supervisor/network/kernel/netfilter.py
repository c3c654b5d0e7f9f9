"""The wire to netfilter: what filters packets and knows connections.

It stays open: to close one takes the kernel until no packet can see any more what was deleted, and that is ten times as long
as deleting takes. There is one, in the network namespace that was used last; `close` lets go of it.
"""

from __future__ import annotations

import os
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor.network.kernel.netlink import NETFILTER, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GENERAL", "close", "wire"]

GENERAL = struct.Struct(">BBH")
"""What each message begins with: family, version, subsystem."""

_OWN = "/proc/thread-self/ns/net"
_lock = threading.Lock()
_kept: dict[tuple[int, int], Wire] = {}


@contextmanager
def wire() -> Iterator[Wire]:
    """In the network namespace of the calling thread, for one at a time. OSError."""
    with _lock:
        status = os.stat(_OWN)
        own = status.st_dev, status.st_ino
        if own not in _kept:
            _let_go()
            _kept[own] = Wire(NETFILTER)
        try:
            yield _kept[own]
        except BaseException:
            _let_go()
            raise


def close() -> None:
    """Keep no network namespace any longer. It may take some ten milliseconds."""
    with _lock:
        _let_go()


def _let_go() -> None:
    while _kept:
        _kept.popitem()[1].close()
