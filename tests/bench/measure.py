"""How things are timed: interleaved, the first turn of each thrown away, medians.

Alternation spreads what else the machine does over both sides; the order is reversed with every turn.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "Failed",
    "command_time",
    "context_switches",
    "interleave",
    "median",
    "processor_time",
    "proportional_memory",
    "quantile",
    "wait_until",
]


class Failed(Exception):
    """A step of a measurement did not do what it should; the row has no figure then."""


def interleave(count: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Times in seconds by side. Every side is called once more than `count`: the first call is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(count + 1):
        names = list(sides)[:: 1 if turn % 2 else -1]
        for name in names:
            seconds = sides[name]()
            if turn:
                times[name].append(seconds)
    return times


def command_time(
    argv: Sequence[str], env: Mapping[str, str], output: int | None = subprocess.DEVNULL, status: int = 0
) -> float:
    """Seconds from starting a program to having waited for it. Failed, with what it said, for another status."""
    read_end, write_end = os.pipe()
    try:
        begun = time.perf_counter()
        with subprocess.Popen(
            argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=write_end
        ) as process:
            returned = process.wait()
        seconds = time.perf_counter() - begun
        if returned != status:
            said = os.read(read_end, 4096) if select.select([read_end], [], [], 0)[0] else b""
            raise Failed(f"{' '.join(argv)}: exit status {returned}: {said.decode(errors='replace').strip()}")
        return seconds
    finally:
        os.close(read_end)
        os.close(write_end)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that at most `1 - share` of them exceed: a measured one, never one in between."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def wait_until(done: Callable[[], bool], what: str, seconds: float = 30.0, pause: float = 0.0005) -> None:
    """Look again and again; Failed after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def context_switches(pid: int) -> int:
    """Of all threads together, voluntary and not."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total


def proportional_memory(pid: int) -> float:
    """PSS in megabytes (10^6 bytes): what it has alone, and its share of what it shares."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("Pss:"))


def processor_time(pid: int) -> float:
    """Seconds of a process and of all children that it has waited for, and of theirs."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
