"""What the engines of a host have to agree on, who tell one another nothing: whose an address is, and who needs a bridge.

Either is one byte of a file beside the engines' sockets, locked by a descriptor that the container's monitor has, and the
supervisor as well. Locks are the open file's, whoever has it. So it is claimed for as long as the container lives, whatever
becomes of either of them; and from one run to the next that follows it at once, since the supervisor has it all the time. A
new supervisor takes the descriptor out of the monitor.

No other engine gives an address that is claimed to a container of its own. A bridge is needed by many, and taken away by
an engine that finds nobody who needs it.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

from supervisor.kernel.locks import OfdLock
from supervisor.logging import log

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import NetworkPlan
    from supervisor.runtime.records import Observed

__all__ = ["Claims"]

_FILE = "addresses"
_NETWORK = "/proc/thread-self/ns/net"
_BITS = 62
"""Of a byte's number in the file, which two addresses do not share by chance."""


class Claims:
    """Of one container."""

    def __init__(self, directory: str, monitor: ProcessRef | None = None) -> None:
        """`directory`: of the engines' sockets. Where it cannot be used nothing is claimed, and everything can be had.
        `monitor`: of one that runs."""
        self._host = 0
        self._lock: OfdLock | None = None
        try:
            self._host = os.stat(_NETWORK).st_ino
            path = f"{directory}/{_FILE}"
            self._lock = OfdLock(path, fd=-1 if monitor is None else _of_monitor(monitor, path))
        except OSError as error:
            log.warning("cannot claim addresses of containers", directory=directory, error=error.strerror)

    def take(self, network: NetworkPlan, address: str) -> bool:
        """False: another engine's container has it."""
        if self._lock is None:
            return True
        try:
            return self._lock.try_acquire(self._byte_of(_place(network), address), 1)
        except OSError as error:
            log.warning("cannot claim an address of a container", address=address, error=error.strerror)
            return True

    def give_back(self, network: NetworkPlan, address: str) -> None:
        """It need not have been taken."""
        if self._lock is not None:
            self._lock.release(self._byte_of(_place(network), address), 1)

    def keep(self, observed: Observed) -> frozenset[str]:
        """What a container has by its record is claimed, and nothing else is. Those of its addresses that another engine's
        container has."""
        if self._lock is None:
            return frozenset()
        own, others = [], set()
        for network, attachment in zip(observed.networks, observed.attachments, strict=True):
            if network.driver == "bridge":
                own.append(self._byte_of("bridge", network.interface))
                self.need(network.interface)
            for each in () if network.leased else attachment.addresses:
                own.append(self._byte_of(_place(network), each.address))
                if not self.take(network, each.address):
                    others.add(each.address)
        begin = 0
        for byte in sorted(set(own)):
            if byte > begin:
                self._lock.release(begin, byte - begin)
            begin = byte + 1
        self._lock.release(begin)
        return frozenset(others)

    def need(self, bridge: str) -> bool:
        """Nobody takes it away from now on. False: somebody is doing so just now."""
        return self._lock_bridge(bridge, shared=True)

    def no_one_needs(self, bridge: str) -> bool:
        """And nobody comes to need it until these claims are closed."""
        return self._lock_bridge(bridge, shared=False)

    def _lock_bridge(self, bridge: str, *, shared: bool) -> bool:
        if self._lock is None:
            return True
        try:
            return self._lock.try_acquire(self._byte_of("bridge", bridge), 1, shared=shared)
        except OSError as error:
            log.warning("cannot claim a bridge", bridge=bridge, error=error.strerror)
            return True

    def _byte_of(self, kind: str, name: str) -> int:
        """Hosts that are network namespaces share the file."""
        words = f"{self._host} {kind} {name}".encode()
        return int.from_bytes(blake2b(words, digest_size=8).digest(), "big") >> (64 - _BITS)

    def held(self) -> list[int]:
        """The descriptor by which they are claimed, now and later."""
        return [] if self._lock is None else [self._lock.fd]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _place(network: NetworkPlan) -> str:
    """Where an address is one container's alone. Engines with networks of their own may have the same bridge for them."""
    if network.driver != "bridge":
        return network.id
    return f"on {network.interface}.{network.vlan}"


def _of_monitor(monitor: ProcessRef, path: str) -> int:
    from supervisor.kernel.borrowed import file_of

    return file_of(monitor, path)
