"""Single files of cgroups: what the kernel can do here, and what it has been told.

A path is that of the cgroup below the mount point of its controller's hierarchy; on cgroup v2 there is but one.
"""

from __future__ import annotations

import os
from contextlib import suppress

from supervisor.kernel import cgroups

__all__ = ["file_of", "read", "realtime", "weights", "write"]

REALTIME_PERIOD = 1_000_000
"""Microseconds, unless something else is set."""


def file_of(controller: str, path: str, name: str) -> str:
    """`name` without the controller's, as `limit_in_bytes`; on cgroup v2 the whole of it."""
    if root := cgroups.hierarchy_of(controller):
        return f"{root}{path}/{controller}.{name}"
    return f"{cgroups.unified()}{path}/{name}"


def read(file: str) -> str:
    """Empty where it is not there."""
    with suppress(FileNotFoundError), open(file, encoding="ascii") as opened:
        return opened.read().strip()
    return ""


def write(file: str, text: str) -> None:
    """In one go, as the kernel takes it. OSError, with the file's name."""
    try:
        with open(file, "wb", buffering=0) as opened:
            opened.write(text.encode())
    except OSError as error:
        error.filename = file
        raise


def realtime(path: str) -> tuple[int, int] | None:
    """Microseconds that realtime processes in a cgroup may use, and the period; -1: as many as they like. None: this
    kernel does not divide realtime among cgroups."""
    root = cgroups.hierarchy_of("cpu")
    if not root or not os.path.exists(f"{root}/cpu.rt_runtime_us"):
        return None
    runtime = read(f"{root}{path}/cpu.rt_runtime_us")
    return int(runtime or 0), int(read(f"{root}{path}/cpu.rt_period_us") or REALTIME_PERIOD)


def weights() -> str:
    """The v1 file, without the controller's name, that has the weight of a cgroup at block devices; empty: none."""
    root = cgroups.hierarchy_of("blkio")
    try:
        names = os.listdir(root) if root else []
    except OSError:
        return ""
    if "blkio.weight" in names:
        return "weight"
    # The root has no weight itself, but BFQ's statistics.
    return "bfq.weight" if any(name.startswith("blkio.bfq.") for name in names) else ""
