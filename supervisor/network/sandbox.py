"""The sandbox: the network namespace in which an ordinary user's bridges are, and the packet filter that belongs to them.

It is made inside the user's user namespace, where the user has all rights over it. A mount keeps it, so that it needs no
process, and the next supervisor finds it. Everything blocks and can be repeated.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

import outcome

from supervisor.kernel import inside, mounts, namespaces
from supervisor.network.kernel import messages, netfilter, nft
from supervisor.network.kernel.netlink import Wire
from supervisor.network.kernel.refusing import told
from supervisor.network.user_mode import duplicates

__all__ = ["find", "lead_back", "make", "remove"]

_NEW_NETWORK = inside.KINDS["network"][1]
_LOOPBACK = 1
"""The number of `lo`."""
_MARK = 0x70796D61
_TABLE, _PRIORITY = 0x7079, 100
"""Of routes: no other engine's, and not the host's."""
_CHAIN = "inet pyman-forwarder answers"
_ANSWERS = f"""
add table inet pyman-forwarder
add chain {_CHAIN} {{ type filter hook prerouting priority mangle; policy accept; }}
flush chain {_CHAIN}
add rule {_CHAIN} socket transparent 1 meta mark set {_MARK}
"""


def find(path: str) -> int | None:
    """A descriptor of the one that is kept at a path; None: there is none."""
    try:
        return inside.of_path(path, "network")
    except OSError:
        return None


def make(path: str) -> int:
    """A new one, its loopback interface up, kept at a path: a descriptor of it. OSError."""
    remove(path)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    made: list[outcome.Outcome[int]] = []
    thread = threading.Thread(target=lambda: made.append(outcome.capture(_make, path)), name="sandbox")
    thread.start()
    thread.join()
    return made[0].unwrap()


def _make(path: str) -> int:
    """In a thread that ends with it: nobody else is moved into the namespace."""
    namespaces.leave(_NEW_NETWORK)
    own = "/proc/thread-self/ns/net"
    descriptor = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Wire() as wire:
            wire.tell(messages.up(_LOOPBACK))
        # Nobody else has the addresses of what comes to be here.
        duplicates.search_no_more(descriptor)
        # Last: one that is found is complete.
        mounts.bind(own, path, recursive=False)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove(path: str) -> None:
    """Nothing keeps it any more: it ends with the last that is in it. It need not be there. OSError."""
    netfilter.close()
    mounts.unmount(path, lazy=True)
    with suppress(FileNotFoundError):
        os.unlink(path)


def lead_back() -> None:
    """Lead what containers answer to clients of the forwarder to it, which speaks under the clients' addresses: in the
    network namespace of the calling thread. NetworkFailed, NotSupported: this kernel cannot do that."""
    nft.run(_ANSWERS)
    with told("lead answers to the forwarder"), Wire() as wire:
        for family in (socket.AF_INET, socket.AF_INET6):
            wire.tell(
                messages.marked(family, _MARK, _TABLE, _PRIORITY),
                messages.everything_local(family, _LOOPBACK, _TABLE),
            )
