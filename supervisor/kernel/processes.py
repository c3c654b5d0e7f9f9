"""Which processes are a container's.

Those in its cgroup. Where it has none: those in its pid namespace, if that is its own, and what descends from any of
them or from its first process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor.kernel import cgroups

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef

__all__ = ["Processes"]

_PLACES = ("pids", "name=systemd", "")
"""Hierarchies that every process of a container is in, if they are mounted."""


class Processes:
    """One look at the processes of containers; what is needed of the host's is read once."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] | None = None
        self._in_space: dict[str, list[int]] = {}

    def of(self, init: ProcessRef, mark: str) -> list[int]:
        """By their pids; `mark`: what is in the name of a container's cgroup."""
        places = cgroups.places_of(init.pid, mark)
        place = next((places[name] for name in _PLACES if name in places), "")
        found = cgroups.pids_in(place) if place else self._descending(init.pid)
        return sorted(found)

    def _descending(self, init: int) -> set[int]:
        if self._children is None:
            self._look()
        begin = {init}
        space = _space(init)
        if space and space != _space(os.getpid()):
            begin.update(self._in_space.get(space, ()))
        found: set[int] = set()
        left = list(begin)
        while left:
            pid = left.pop()
            if pid not in found:
                found.add(pid)
                left += (self._children or {}).get(pid, ())
        return found

    def _look(self) -> None:
        self._children = {}
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            pid = int(name)
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{pid}/stat", "rb") as file:
                    text = file.read()
                parent = int(text[text.rindex(b")") + 2 :].split()[1])
                self._children.setdefault(parent, []).append(pid)
                self._in_space.setdefault(_space(pid), []).append(pid)


def _space(pid: int) -> str:
    """Its pid namespace; empty where that is nobody's business, or the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
