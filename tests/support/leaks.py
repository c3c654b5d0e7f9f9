"""What a test must not leave behind: processes, descriptors, threads, mounts, cgroups, network namespaces.

`Belongings.now()` before and after a test; `leftovers` names what is new. Mounts, cgroups and namespaces are
the whole host's, which other programs share: they count when they belong to this run (their path says so).
With PYMAN_TESTS_ALONE set, as `scripts/test` does, any other one counts too unless a lock tells that another
run of the tests is under way.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.support import processes

__all__ = ["KINDS", "Belongings", "HostLock", "cgroup_directories", "mount_points", "remove_cgroups"]

KINDS = frozenset({"process", "descriptor", "thread", "mount", "cgroup", "namespace"})
GRACE = 2.0
"""Seconds that a child process has to end once the test is over."""

_CGROUP = re.compile(r"[-/][0-9a-f]{64}(\.scope)?$|/pyman-tests/.")
"""A container's, its monitor's, or a test's own. The parents stay: they are made once and shared."""


def mount_points(pid: int | str = "self") -> set[str]:
    """Mount points as the process sees them, with the escapes of mountinfo undone."""
    found: set[str] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            path = line.split()[4]
            found.add(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path))
    return found


def _hierarchies() -> list[str]:
    """Where cgroups are mounted, each hierarchy once."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
            found.append(fields[4])
    return found


def cgroup_directories(pattern: re.Pattern[str] = _CGROUP) -> set[str]:
    """cgroups of every hierarchy whose path below its root fits."""
    found: set[str] = set()
    for root in _hierarchies():
        for directory, _, _ in os.walk(root):
            if pattern.search(directory[len(root) :]):
                found.add(directory)
    return found


def remove_cgroups(directories: set[str]) -> None:
    """Deepest first; one that is still in use stays."""
    for directory in sorted(directories, key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _named_namespaces() -> set[str]:
    found: set[str] = set()
    for directory in ("/run/netns", "/run/user/0/netns", "/run/pyman/netns"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.update(f"{directory}/{name}" for name in os.listdir(directory))
    return found


def _threads() -> set[threading.Thread]:
    """Threads that keep the process alive; Trio's cached workers are daemon threads and end by themselves."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


class HostLock:
    """Shared by every run on the host; whoever can make it exclusive is alone."""

    def __init__(self, path: str = "/tmp/pyman-tests.lock") -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Nobody else makes mounts, cgroups and namespaces here."""
        if not os.environ.get("PYMAN_TESTS_ALONE"):
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A failed conversion may have dropped the lock that was held.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return True

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True)
class Belongings:
    processes: frozenset[int]
    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    namespaces: frozenset[str]

    @classmethod
    def now(cls, mount_namespaces: tuple[int, ...] = ()) -> Belongings:
        """`mount_namespaces`: pids whose mounts count too."""
        mounts = mount_points()
        for pid in mount_namespaces:
            mounts |= mount_points(pid)
        return cls(
            processes=frozenset(processes.children()),
            descriptors=processes.descriptors(os.getpid()),
            threads=frozenset(_threads()),
            mounts=frozenset(mounts),
            cgroups=frozenset(cgroup_directories()),
            namespaces=frozenset(_named_namespaces()),
        )

    def leftovers(
        self, ours: tuple[str, ...], host: HostLock, mount_namespaces: tuple[int, ...] = ()
    ) -> dict[str, list[str]]:
        """What is there now and was not then, by kind. Left child processes are ended, so that they harm
        no later test. `ours`: prefixes of paths that belong to this run."""
        processes.wait_gone(processes.children() - self.processes, GRACE)
        left = processes.children() - self.processes
        found: dict[str, list[str]] = {}
        if left:
            found["process"] = [processes.describe(pid) for pid in sorted(left)]
            processes.end(left)
        now = Belongings.now(mount_namespaces)
        if _new_descriptors(self.descriptors, now.descriptors):
            gc.collect()
            now = Belongings.now(mount_namespaces)
        found["descriptor"] = _new_descriptors(self.descriptors, now.descriptors)
        found["thread"] = [repr(thread) for thread in now.threads - self.threads]
        for kind, before, after in (
            ("mount", self.mounts, now.mounts),
            ("cgroup", self.cgroups, now.cgroups),
            ("namespace", self.namespaces, now.namespaces),
        ):
            new = sorted(after - before)
            mine = [path for path in new if path.startswith(ours)]
            found[kind] = new if len(new) > len(mine) and host.alone() else mine
        return {kind: names for kind, names in found.items() if names}


def _new_descriptors(before: dict[int, str], after: dict[int, str]) -> list[str]:
    return [
        f"{number} -> {target}"
        for number, target in sorted(after.items())
        if before.get(number) != target and not target.startswith("/proc/")
    ]
