"""Which processes are a container's, and what /proc tells of one.

A container's are those in its cgroup. Where it has none: its first process, what was brought into it by `exec`, and what
descends from them. (Its pid namespace does not tell: another container may be in it.)
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from supervisor.kernel import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.kernel.process import ProcessRef

__all__ = ["Process", "Processes", "space_of"]

_PLACES = ("pids", "name=systemd", "")
"""Hierarchies that every process of a container is in, if they are mounted."""


class Processes:
    """One look at the processes of containers; what is needed of the host's is read once."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] | None = None

    def of(self, init: ProcessRef, mark: str, entered: Iterable[int] = ()) -> list[int]:
        """By their pids; `mark`: what is in the name of a container's cgroup; `entered`: what was brought into it."""
        places = cgroups.places_of(init.pid, mark)
        place = next((places[name] for name in _PLACES if name in places), "")
        found = cgroups.pids_in(place) if place else self._descending([init.pid, *entered])
        return sorted(found)

    def _descending(self, left: list[int]) -> set[int]:
        if self._children is None:
            self._look()
        found: set[int] = set()
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


def space_of(pid: int | str, kind: str = "pid") -> str:
    """Its namespace of a kind; empty where that is nobody's business, or the process is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


class Process:
    """One process. Made of what was read at one moment; OSError, at once or later: it is gone."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
        begin, end = text.index(b"(") + 1, text.rindex(b")")
        self.command = text[begin:end].decode(errors="replace")
        """Its program's name, the first 15 bytes."""
        self._stat = text[end + 2 :].decode("ascii").split()
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            self._status = dict(line.rstrip("\n").split(":", 1) for line in status if ":" in line)

    @property
    def state(self) -> str:
        """R, S, D, Z, …"""
        return self._stat[0]

    @property
    def parent(self) -> int:
        return int(self._stat[1])

    @property
    def terminal(self) -> int:
        """The device's number as the kernel has it here; 0: none."""
        return int(self._stat[4])

    @property
    def ticks(self) -> int:
        """Spent on processors, in clock ticks."""
        return int(self._stat[11]) + int(self._stat[12])

    @property
    def nice(self) -> str:
        return self._stat[16]

    @property
    def begun(self) -> int:
        """In clock ticks since boot."""
        return int(self._stat[19])

    @property
    def virtual_memory(self) -> int:
        """Bytes."""
        return int(self._stat[20])

    def words(self, key: str) -> list[str]:
        """Of a line of its status; none: there is no such line."""
        return self._status.get(key, "").split()

    def number_within(self, level: int, key: str = "NSpid") -> int:
        """Its pid (NSpgid: its process group's) in a pid namespace so many levels below this one; 0: it is not there."""
        numbers = self.words(key)
        return int(numbers[level]) if level < len(numbers) else 0

    @cached_property
    def arguments(self) -> list[str]:
        """Empty: a zombie, or a thread of the kernel."""
        with open(f"/proc/{self.pid}/cmdline", "rb", buffering=0) as file:
            return file.read().decode(errors="replace").split("\0")[:-1]

    @cached_property
    def label(self) -> str:
        """What the security module calls it; empty: there is none."""
        try:
            with open(f"/proc/{self.pid}/attr/current", "rb") as file:
                return file.read().decode(errors="replace").strip("\0\n")
        except OSError:
            return ""
