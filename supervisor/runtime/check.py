"""What is recorded compared with what is there, while the supervisor runs; and the table of locks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from pyman.api.system import CheckReply, Lock, LocksReply, Problem
from pyman.names import STATES_WITH_PROCESS
from supervisor.kernel import mounts, process
from supervisor.runtime import leftovers

if TYPE_CHECKING:
    from supervisor.runtime.engine import Engine

__all__ = ["check", "locks"]


def locks(engine: Engine) -> LocksReply:
    """Every lock number that is in use, lowest first."""
    containers = sorted(engine.registry.containers, key=lambda container: container.definition.lock)
    owners: dict[int, str] = {}
    conflicts = []
    for container in containers:
        number = container.definition.lock
        if number in owners:
            conflicts.append(f"lock {number} belongs to {owners[number]} and to {container.name}")
        owners[number] = container.name
    return LocksReply(
        size=engine.locks.size,
        locks=[Lock(c.definition.lock, "container", c.id, c.name) for c in containers],
        free=engine.locks.size - len(owners),
        conflicts=conflicts,
    )


async def check(engine: Engine, *, repair: bool) -> CheckReply:
    """Database, processes, mounts and directories. `repair` removes what belongs to no container."""
    problems = [Problem(subject="locks", text=text) for text in locks(engine).conflicts]
    verdict = await engine.services.database.read(
        lambda connection: str(connection.execute("PRAGMA quick_check").fetchone()[0])
    )
    if verdict != "ok":
        problems.append(
            Problem(subject=engine.layout.database, text=f"the state database is damaged: {verdict}")
        )
    problems.extend(_processes(engine))
    problems.extend(await trio.to_thread.run_sync(_leftovers, engine, limiter=engine.services.disk))
    if repair and any(not problem.repaired for problem in problems):
        problems = await trio.to_thread.run_sync(_repair, engine, problems, limiter=engine.services.disk)
    return CheckReply(problems=problems)


def _processes(engine: Engine) -> list[Problem]:
    found = []
    for container in engine.registry.containers:
        observed = container.observed
        if observed.state not in STATES_WITH_PROCESS:
            continue
        if observed.init is None or process.ref_of(observed.init.pid) != observed.init:
            found.append(Problem(container.name, f"it is {observed.state}, and its process does not exist"))
        if observed.monitor_state in ("lost", "wedged"):
            found.append(Problem(container.name, f"its monitor is {observed.monitor_state}"))
    return found


def _leftovers(engine: Engine) -> list[Problem]:
    layout, known = engine.layout, {container.id for container in engine.registry.containers}
    found: list[Problem] = []
    for folder in (layout.containers_run, layout.containers):
        names = [name for name in os.listdir(folder) if name not in known]
        found.extend(Problem(f"{folder}/{name}", "it belongs to no container") for name in names)
    for target in mounts.mounts_below(layout.containers_run):
        id = os.path.relpath(target, layout.containers_run).partition("/")[0]
        if id not in known:
            found.append(Problem(target, "it is mounted for no container"))
    strays = [monitor for monitor in leftovers.monitors(layout) if monitor.container not in known]
    found.extend(Problem(str(monitor.pid), "it is a conmon of no container") for monitor in strays)
    return found


def _repair(engine: Engine, problems: list[Problem]) -> list[Problem]:
    """Leftovers are what `leftovers.clear` removes at start; the rest is told, not touched."""
    containers = engine.registry.containers
    known = {container.id: container.observed.monitor for container in containers}
    executing = {id for container in containers for id in container.execs}
    leftovers.clear(engine.layout, known, executing)
    still = {problem.subject for problem in _leftovers(engine)}
    folders = (engine.layout.containers_run, engine.layout.containers)
    return [
        Problem(p.subject, p.text, repaired=True)
        if p.subject not in still and (p.subject.startswith(folders) or p.subject.isdecimal())
        else p
        for p in problems
    ]
