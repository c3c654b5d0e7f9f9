"""What the processes of a container use: time, memory, devices, network.

The kernel counts it in the container's cgroup, on v1 in a hierarchy for each controller, on v2 in one tree. Which cgroup
that is, its first process knows: those of containers have the container's id in their names, whoever made them, and what
a container makes for itself lies inside. Where there is none, its processes are asked one by one (`of_processes`): what
those have used that nobody in the container waited for is missing then.

Everything here reads a few small files and is best called in a thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from supervisor.kernel import cgroups
from supervisor.kernel.process import ref_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from supervisor.kernel.process import ProcessRef

__all__ = ["Traffic", "Usage", "memory_of_machine", "of_cgroup", "of_processes", "traffic"]

_ROOM = 1 << 16
_NO_LIMIT = 1 << 62
"""cgroup v1 knows no word for it: a number near the largest stands for none."""


class Usage(NamedTuple):
    cpu: int = 0
    """Nanoseconds."""
    cpu_system: int = 0
    """The part of them in the kernel."""
    memory: int = 0
    """Bytes, without those of files that nobody has used lately."""
    memory_limit: int = 0
    """0: none."""
    block_read: int = 0
    block_written: int = 0
    pids: int = 0


class Traffic(NamedTuple):
    """Of one interface: bytes, packets, errors, dropped; received, then sent."""

    received: tuple[int, int, int, int]
    sent: tuple[int, int, int, int]


def of_cgroup(init: ProcessRef, mark: str) -> Usage | None:
    """None: the process is in no cgroup with the mark in its name. ProcessLookupError: it has ended."""
    places = cgroups.places_of(init.pid, mark)
    if ref_of(init.pid) != init:
        raise ProcessLookupError(init.pid)
    if not places:
        return None
    cpu, cpu_system = _cpu(places)
    memory, limit = _memory(places)
    read, written = _block(places)
    return Usage(cpu, cpu_system, memory, limit, read, written, _pids(places))


def _cpu(places: Mapping[str, str]) -> tuple[int, int]:
    if (v1 := places.get("cpuacct")) is not None:
        return _number(f"{v1}/cpuacct.usage"), _number(f"{v1}/cpuacct.usage_sys")
    found = _table(f"{places.get('')}/cpu.stat")
    return found.get("usage_usec", 0) * 1000, found.get("system_usec", 0) * 1000


def _memory(places: Mapping[str, str]) -> tuple[int, int]:
    if (v1 := places.get("memory")) is not None:
        used = _number(f"{v1}/memory.usage_in_bytes")
        limit = _number(f"{v1}/memory.limit_in_bytes")
        idle = _table(f"{v1}/memory.stat").get("total_inactive_file", 0)
    else:
        v2 = places.get("")
        used, limit = _number(f"{v2}/memory.current"), _number(f"{v2}/memory.max")
        idle = _table(f"{v2}/memory.stat").get("inactive_file", 0)
    return max(0, used - idle), 0 if limit >= _NO_LIMIT else limit


def _block(places: Mapping[str, str]) -> tuple[int, int]:
    read = written = 0
    if (v1 := places.get("blkio")) is not None:
        for words in _lines(f"{v1}/blkio.throttle.io_service_bytes_recursive"):
            if len(words) == 3:  # the last line, a sum, has two
                read += int(words[2]) if words[1] == "Read" else 0
                written += int(words[2]) if words[1] == "Write" else 0
        return read, written
    for words in _lines(f"{places.get('')}/io.stat"):
        counts = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        read += int(counts.get("rbytes", 0))
        written += int(counts.get("wbytes", 0))
    return read, written


def _pids(places: Mapping[str, str]) -> int:
    return _number(f"{places.get('pids', places.get(''))}/pids.current")


def traffic(pid: int) -> dict[str, Traffic]:
    """Of the network namespace of a process, by interface, but for lo; none if the process is gone."""
    found: dict[str, Traffic] = {}
    for words in _lines(f"/proc/{pid}/net/dev"):
        name, colon, first = words[0].partition(":")
        if not colon or name == "lo":
            continue
        counts = [int(word) for word in ([first] if first else []) + words[1:]]
        if len(counts) >= 12:
            found[name] = Traffic(_four(counts), _four(counts[8:]))
    return found


def _four(counts: list[int]) -> tuple[int, int, int, int]:
    return counts[0], counts[1], counts[2], counts[3]


def memory_of_machine() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def of_processes(pids: Iterable[int]) -> Usage:
    """What these processes use, and have used together with those they have waited for."""
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    cpu = system = memory = read = written = count = 0
    for pid in pids:
        with suppress(OSError, ValueError):
            with open(f"/proc/{pid}/stat", "rb") as file:
                text = file.read()
            user, kernel, users, kernels = map(int, text[text.rindex(b")") + 2 :].split()[11:15])
            cpu += (user + kernel + users + kernels) * tick
            system += (kernel + kernels) * tick
            count += 1
            memory += _table(f"/proc/{pid}/smaps_rollup").get("Pss:", 0) * 1024
            devices = _table(f"/proc/{pid}/io")
            read += devices.get("read_bytes:", 0)
            written += devices.get("write_bytes:", 0)
    return Usage(cpu, system, memory, 0, read, written, count)


def _lines(path: str) -> list[list[str]]:
    """The words of its lines; none where there is no such file, or its cgroup or process is gone."""
    return [line.split() for line in _text(path).splitlines()]


def _table(path: str) -> dict[str, int]:
    """Lines of a word and a number."""
    return {words[0]: int(words[1]) for words in _lines(path) if len(words) > 1 and words[1].isdecimal()}


def _number(path: str) -> int:
    """0 where there is no such file, and where it says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _text(path: str) -> str:
    """Without a file object, which takes longer to make than such a file to read; there are ten for a container."""
    read = bytearray()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        while part := os.read(descriptor, _ROOM):
            read += part
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return read.decode("ascii", "replace")
