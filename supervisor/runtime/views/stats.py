"""What containers use: read in a thread, for all that are asked for together, and compared with what was read before."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from pyman.api.watching import ContainerStats, NetworkStats
from pyman.names import State
from supervisor.kernel import usage
from supervisor.kernel.process import ref_of
from supervisor.kernel.processes import Processes, space_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.process import ProcessRef
    from supervisor.runtime.container import Container

__all__ = ["COUNTED", "Watch", "entered"]

COUNTED = (State.RUNNING, State.STOPPING, State.PAUSED)
"""Whose use is counted; of others everything is zero."""

_limiter = trio.CapacityLimiter(4)
"""Of their own: what a process maps from a server that does not answer holds up other statistics alone."""


class _Subject(NamedTuple):
    """What has to be known of a container to read its numbers."""

    id: str
    init: ProcessRef
    entered: list[int]


class _Read(NamedTuple):
    moment: int
    used: usage.Usage
    network: dict[str, usage.Traffic]


class _Before(NamedTuple):
    run: int
    moment: int
    cpu: int


def entered(container: Container) -> list[int]:
    """The pids of what was brought into it and runs."""
    commands = [session.observed.command for session in container.execs.values() if session.running]
    return [command.pid for command in commands if command is not None and ref_of(command.pid) == command]


class Watch:
    """One caller's: the share of a processor is that since he looked last."""

    def __init__(self) -> None:
        self._before: dict[str, _Before] = {}

    async def look(self, containers: Sequence[Container]) -> list[ContainerStats]:
        """In the order of the containers. One that ends meanwhile has used nothing."""
        subjects = [
            _Subject(container.id, container.observed.init, entered(container))
            for container in containers
            if container.state in COUNTED and container.observed.init is not None
        ]
        work = partial(_read_all, subjects)
        read = await trio.to_thread.run_sync(work, limiter=_limiter, abandon_on_cancel=True)
        before, self._before = self._before, {}
        return [
            self._shown(container, read.get(container.id), before.get(container.id))
            for container in containers
        ]

    def _shown(self, container: Container, read: _Read | None, before: _Before | None) -> ContainerStats:
        if read is None:
            return ContainerStats(container.id, container.name)
        observed, used = container.observed, read.used
        since = _Before(observed.run, observed.started_at, 0)
        if before is not None and before.run == since.run and before.cpu <= used.cpu:
            since = before
        self._before[container.id] = _Before(observed.run, read.moment, used.cpu)
        most = usage.memory_of_machine()
        limit = min(used.memory_limit or most, most)
        return ContainerStats(
            container.id,
            container.name,
            avg_cpu=_share(used.cpu, read.moment - observed.started_at),
            cpu=_share(used.cpu - since.cpu, read.moment - since.moment),
            cpu_nano=used.cpu,
            cpu_system_nano=used.cpu_system,
            system_nano=read.moment,
            mem_usage=used.memory,
            mem_limit=limit,
            mem_perc=used.memory / limit * 100,
            network={name: _network(counts) for name, counts in read.network.items()},
            block_input=used.block_read,
            block_output=used.block_written,
            pids=used.pids,
            up_time=used.cpu,
            duration=used.cpu,
        )


def _share(part: int, whole: int) -> float:
    """In percent."""
    return part / whole * 100 if part > 0 and whole > 0 else 0.0


def _network(counts: usage.Traffic) -> NetworkStats:
    return NetworkStats(*counts.received, *counts.sent)


def _read_all(subjects: Sequence[_Subject]) -> dict[str, _Read]:
    """Of those that are still there."""
    found: dict[str, _Read] = {}
    processes = Processes()
    for subject in subjects:
        try:
            is_hosts = space_of(subject.init.pid, "net") == space_of("self", "net")
            network = {} if is_hosts else usage.traffic(subject.init.pid)
            used = usage.of_cgroup(subject.init, subject.id)
        except ProcessLookupError:
            continue
        if used is None:
            used = usage.of_processes(processes.of(subject.init, subject.id, subject.entered))
        found[subject.id] = _Read(time.time_ns(), used, network)
    return found
