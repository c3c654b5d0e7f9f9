"""What running containers use and which processes they have: the part of `io.pyman.Container` that looks at them.

The names of fields are those of Podman.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "ContainerStats",
    "NetworkStats",
    "StatsReply",
    "StatsRequest",
    "TopReply",
    "TopRequest",
]


class StatsRequest(msgspec.Struct, frozen=True):
    """Which containers: by name or id, or all, or the latest; nothing of these: those that run."""

    names: list[str] = []
    all: bool = False
    latest: bool = False
    stream: bool = True
    """False: one reply, at once."""
    interval: float = 5.0
    """Seconds between two replies."""


class NetworkStats(msgspec.Struct, frozen=True, rename="pascal"):
    """Of one interface, since it was made."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class ContainerStats(msgspec.Struct, frozen=True, rename="pascal"):
    """Of one container at one moment; all zero where it does not run."""

    container_id: str = msgspec.field(name="ContainerID")
    name: str
    avg_cpu: float = msgspec.field(name="AvgCPU", default=0.0)
    """Percent of one processor, since it was started."""
    cpu: float = msgspec.field(name="CPU", default=0.0)
    """Percent of one processor since the reply before; in the first one as `AvgCPU`."""
    cpu_nano: int = msgspec.field(name="CPUNano", default=0)
    """Time on processors, in nanoseconds, as those below."""
    cpu_system_nano: int = msgspec.field(name="CPUSystemNano", default=0)
    """The part of it in the kernel."""
    system_nano: int = 0
    """When this was read, since the epoch."""
    mem_usage: int = 0
    """Bytes, without files that the kernel can forget at once."""
    mem_limit: int = 0
    """The container's, or what the machine has."""
    mem_perc: float = 0.0
    network: dict[str, NetworkStats] = {}
    """By interface, but for lo. Empty with the host's network, whose traffic is not the container's."""
    block_input: int = 0
    """Bytes read from devices."""
    block_output: int = 0
    pids: int = msgspec.field(name="PIDs", default=0)
    up_time: int = 0
    """Podman's second name for `CPUNano`."""
    duration: int = 0
    """And its third."""


class StatsReply(msgspec.Struct, frozen=True):
    stats: list[ContainerStats]
    """In the order of the names, else by creation."""


class TopRequest(msgspec.Struct, frozen=True):
    name: str = ""
    latest: bool = False
    """Instead of a name."""
    descriptors: list[str] = []
    """The columns: pid, user, args, … or %p, %U, %a, …; none: Podman's usual ones."""


class TopReply(msgspec.Struct, frozen=True):
    titles: list[str]
    processes: list[list[str]]
    """By their pids, each with a word for every title."""
