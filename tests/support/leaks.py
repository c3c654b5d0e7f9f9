"""What a test must not leave behind: processes, descriptors, threads, mounts, cgroups, network namespaces and interfaces.

`Belongings.now()` before and after a test; `leftovers` names what is new. Mounts, cgroups, namespaces and interfaces are
the whole host's, which other programs share: they count when they belong to this run (their path says so).
With PYMAN_TESTS_ALONE set, as `scripts/test` does, any other one counts too unless a lock tells that another
run of the tests is under way. A run of several workers cannot tell at once whose such a thing is: it is a suspect,
and fails the run if it is still there at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = [
    "KINDS",
    "Belongings",
    "Host",
    "HostLock",
    "SharedHost",
    "cgroup_directories",
    "hierarchies",
    "mount_points",
    "mounts_about",
    "remove_cgroups",
    "still_there",
]

KINDS = frozenset({"process", "descriptor", "thread", "mount", "cgroup", "namespace", "interface"})
LOCK = "/tmp/pyman-tests.lock"
GRACE = 5.0
"""Seconds that child processes, threads and interfaces have to end once the test is over."""

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


def mounts_about(path: Path) -> list[str]:
    """Lines of this process's mountinfo that speak of it, as a mount point or in the options."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(path) in line]


def hierarchies() -> list[str]:
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
    for root in hierarchies():
        for directory in _directories(root):
            if pattern.search(directory[len(root) :]):
                found.add(directory)
    return found


def _directories(root: str) -> Iterator[str]:
    """The directory and all below it. For every test: cgroups without children, most of them, are not listed, since
    the kernel counts a directory's children as links."""
    todo = [root]
    while todo:
        directory = todo.pop()
        yield directory
        with contextlib.suppress(FileNotFoundError):  # another run's
            if os.stat(directory).st_nlink > 2:
                with os.scandir(directory) as entries:
                    todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


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


def _interfaces() -> set[str]:
    return {entry.path for entry in os.scandir("/sys/class/net")}


def _threads() -> set[threading.Thread]:
    """Threads that keep the process alive; Trio's cached workers are daemon threads and end by themselves."""
    return {thread for thread in threading.enumerate() if not thread.daemon}


class Host(Protocol):
    """What decides about new things of the host whose paths do not say that they are this run's."""

    def blame(self, kind: str, paths: list[str]) -> list[str]:
        """Those that whoever asks has left behind."""
        ...


class HostLock:
    """Shared by every run on the host; whoever can make it exclusive is alone, and everything new is its own."""

    def __init__(self) -> None:
        self._descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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

    def blame(self, kind: str, paths: list[str]) -> list[str]:
        if not paths or not self.alone():
            return []
        deadline = time.monotonic() + GRACE
        while kind == "interface" and paths and time.monotonic() < deadline:  # bridges rest before they go
            time.sleep(0.02)
            paths = [path for path in paths if still_there(kind, path)]
        return paths

    def close(self) -> None:
        os.close(self._descriptor)


class SharedHost:
    """What a worker knows of the host that others of its run use too: everything new is suspected."""

    def __init__(self) -> None:
        self.test = ""
        """Which one is under way."""
        self.suspects: dict[tuple[str, str], str] = {}
        """Kind and path to the test that saw it first."""

    def blame(self, kind: str, paths: list[str]) -> list[str]:
        for path in paths:
            self.suspects.setdefault((kind, path), self.test)
        return []


def still_there(kind: str, path: str) -> bool:
    """Whether a mount, a cgroup or a namespace has outlived those who may have made it."""
    return path in mount_points() if kind == "mount" else os.path.lexists(path)


@dataclass(frozen=True)
class Belongings:
    processes: frozenset[int]
    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    mounts: frozenset[str]
    inner_mounts: frozenset[str]
    """Of mount namespaces that nobody else uses."""
    cgroups: frozenset[str]
    namespaces: frozenset[str]
    interfaces: frozenset[str]
    """Directories of the host's network interfaces."""

    @classmethod
    def now(cls, mount_namespaces: tuple[int, ...] = ()) -> Belongings:
        """`mount_namespaces`: pids in namespaces of this process's own, whose mounts count too."""
        return cls(
            processes=frozenset(processes.children()),
            descriptors=processes.descriptors(os.getpid()),
            threads=frozenset(_threads()),
            mounts=frozenset(mount_points()),
            inner_mounts=frozenset(path for pid in mount_namespaces for path in mount_points(pid)),
            cgroups=frozenset(cgroup_directories()),
            namespaces=frozenset(_named_namespaces()),
            interfaces=frozenset(_interfaces()),
        )

    def leftovers(
        self,
        ours: tuple[str, ...],
        host: Host,
        mount_namespaces: tuple[int, ...] = (),
        shared: Collection[int] = (),
    ) -> tuple[Belongings, dict[str, list[str]]]:
        """What is there now; and what of it was not there then, by kind. Left child processes are ended, so that they harm
        no later test. `ours`: prefixes of paths that belong to this run. `shared`: children for later tests, too."""
        known = self.processes.union(shared)
        processes.wait_gone(processes.children() - known, GRACE)
        left = processes.children() - known
        found: dict[str, list[str]] = {}
        if left:
            found["process"] = [processes.describe(pid) for pid in sorted(left)]
            processes.end(left)
        deadline = time.monotonic() + GRACE
        for thread in _threads() - self.threads:  # AnyIO tells its own on asyncio to end, and waits for none
            thread.join(max(0.0, deadline - time.monotonic()))
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
            ("interface", self.interfaces, now.interfaces),
        ):
            new = sorted(after - before)
            mine = [path for path in new if path.startswith(ours)]
            found[kind] = mine + host.blame(kind, [path for path in new if path not in mine])
        found["mount"] += sorted(now.inner_mounts - self.inner_mounts - set(found["mount"]))
        return now, {kind: names for kind, names in found.items() if names}


def _new_descriptors(before: dict[int, str], after: dict[int, str]) -> list[str]:
    return [
        f"{number} -> {target}"
        for number, target in sorted(after.items())
        if before.get(number) != target and not target.startswith("/proc/")
    ]
