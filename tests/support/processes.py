"""What /proc tells of processes: children, ancestry, belonging; ending them by pid."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "alive",
    "awaits_answer",
    "begun",
    "children",
    "describe",
    "end",
    "family",
    "handles",
    "highest_memory",
    "inhabitants",
    "mentions",
    "parent",
    "pids",
    "present_memory",
    "run",
    "wait_gone",
    "words",
]


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int | None = None) -> set[int]:
    """Direct children of a process (of this one by default), zombies included."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid or os.getpid()}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{pid or os.getpid()}/task/{task}/children").read_text()
                found.update(int(word) for word in text.split())
    return found


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    return _read(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"])


def begun(pid: int) -> int:
    """Clock ticks since boot; 0: there is no such process, or nothing of it but its exit status."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] != "Z" else 0


def awaits_answer(pid: int) -> bool:
    """A client, or one that the process has started, has sent its request: it sleeps, and has a socket."""
    return any(
        _read(each, "stat").rpartition(")")[2].split()[:1] == ["S"]
        and any(name.startswith("socket:") for name in descriptors(each).values())
        for each in family([pid])
    )


def parent(pid: int) -> int:
    """0 where there is none, or no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def family(roots: Iterable[int]) -> set[int]:
    """The processes and all their descendants."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children(pid)
    return found


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def describe(pid: int) -> str:
    words = _read(pid, "cmdline").replace("\0", " ").strip() or f"[{_read(pid, 'comm').strip()}]"
    state = _read(pid, "stat").rpartition(")")[2].split()[:1]
    return f"{pid} ({'zombie' if state == ['Z'] else 'alive'}, child of {parent(pid)}): {words}"


def words(pid: int) -> list[str]:
    """Its command line; empty: there is no such process, or it has none."""
    return _read(pid, "cmdline").split("\0")[:-1]


def mentions(needles: Iterable[str]) -> set[int]:
    """Processes whose command line or cgroup contains one of the strings; this process is left out."""
    wanted = [needle for needle in needles if needle]
    found: set[int] = set()
    for pid in pids():
        if pid == os.getpid():
            continue
        text = _read(pid, "cmdline") + "\0" + _read(pid, "cgroup")
        if any(needle in text for needle in wanted):
            found.add(pid)
    return found


def inhabitants(namespace: int, kind: str) -> set[int]:
    """Processes in the namespace that a descriptor stands for; `kind`: as in /proc/PID/ns."""
    wanted = os.fstat(namespace)
    found: set[int] = set()
    for pid in pids():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/ns/{kind}"), wanted):
                found.add(pid)
    return found


def wait_gone(wanted: Iterable[int], seconds: float) -> set[int]:
    """Waits on pidfds until the processes have ended; those that have not are returned."""
    deadline = time.monotonic() + seconds
    left: set[int] = set()
    for pid in wanted:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            remaining = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], remaining)[0]:
                left.add(pid)
        finally:
            os.close(descriptor)
    return left


def end(wanted: Iterable[int], seconds: float = 20.0) -> set[int]:
    """SIGKILL, wait, and reap those that are our children. Returns what would not end."""
    targets = set(wanted)
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)
    left = wait_gone(targets, seconds)
    for pid in targets & children():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return left


def run(argv: list[str]) -> int:
    """Runs a program quietly; its exit status."""
    return subprocess.run(argv, capture_output=True, check=False).returncode


def descriptors(pid: int) -> dict[int, str]:
    """What a process has open, by number; what is closed meanwhile is left out."""
    found: dict[int, str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def present_memory(pid: int) -> int:
    """Bytes that it has now; from now on that counts as the most it ever had."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return highest_memory(pid)


def handles(pid: int, number: int) -> bool:
    """Whether it has a handler for the signal; the first process of a container is not ended by one without."""
    mask = next(
        (line for line in _read(pid, "status").splitlines() if line.startswith("SigCgt:")), "SigCgt: 0"
    )
    return bool(int(mask.split()[1], 16) & 1 << number - 1)


def highest_memory(pid: int) -> int:
    """The most that it ever had, in bytes."""
    lines = _read(pid, "status").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def wait_empty(directory: Path, seconds: float) -> bool:
    """Whether a directory becomes empty in time; what is deleted after its event is told may take a moment."""
    deadline = time.monotonic() + seconds
    while any(directory.iterdir()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
