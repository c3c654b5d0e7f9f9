"""Processes that are found by a mark in their environment, whoever their parent has become.

A process in a container that has left its parent and its session behind has still the environment that it was begun
with. What replaces that by another one on purpose is not found. All of it blocks and is best called in a thread.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.kernel import process

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.kernel.process import ProcessRef

__all__ = ["below", "kill_all"]

_ROUNDS = 20
_PAUSE = 0.02
"""Seconds between two rounds."""


def below(pid: int) -> list[ProcessRef]:
    """The descendants of a process, as they are now."""
    found: list[ProcessRef] = []
    left = [pid]
    while left:
        for child in _children(left.pop()):
            ref = process.ref_of(child)
            if ref is not None:
                found.append(ref)
                left.append(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def kill_all(marks: Iterable[str], known: Iterable[ProcessRef] = ()) -> bool:
    """SIGKILL to the processes with one of the marks (`NAME=VALUE`) in their environment, to those that are known, and
    to the descendants of all of them, until none is left. False: some are after 0.4 s, as in a frozen cgroup."""
    wanted = {mark.encode() for mark in marks}
    left = set(known)
    for _ in range(_ROUNDS):
        left = {ref for ref in left if _lives(ref)} | _marked(wanted)
        for ref in tuple(left):
            left.update(below(ref.pid))
        if not left:
            return True
        for ref in left:
            process.kill(ref)
        time.sleep(_PAUSE)
    return False


def _lives(ref: ProcessRef) -> bool:
    """A zombie does not."""
    return process.ref_of(ref.pid) == ref and process.zombie_status(ref.pid) is None


def _marked(marks: set[bytes]) -> set[ProcessRef]:
    found: set[ProcessRef] = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if not marks.isdisjoint(file.read(1 << 20).split(b"\0")):
                ref = process.ref_of(int(name))
                if ref is not None and process.zombie_status(int(name)) is None:
                    found.add(ref)
    return found
