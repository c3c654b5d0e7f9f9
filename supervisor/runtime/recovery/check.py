"""What is recorded compared with what is there, while the supervisor runs; and the table of locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from pyman.api.system import CheckReply, Lock, LocksReply, Problem
from pyman.names import STATES_WITH_PROCESS
from supervisor.kernel import process
from supervisor.runtime.recovery import leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.runtime.engine import Engine

__all__ = ["check", "locks"]


def locks(engine: Engine) -> LocksReply:
    """Every lock number that is in use, lowest first."""
    held = [Lock(c.definition.lock, "container", c.id, c.name) for c in engine.registry.containers]
    held += [Lock(v.definition.lock, "volume", v.name, v.name) for v in engine.services.volumes]
    held.sort(key=lambda lock: lock.number)
    owners: dict[int, str] = {}
    conflicts = []
    for lock in held:
        if lock.number in owners:
            conflicts.append(f"lock {lock.number} belongs to {owners[lock.number]} and to {lock.name}")
        owners[lock.number] = lock.name
    return LocksReply(
        size=engine.locks.size,
        locks=held,
        free=engine.locks.size - len(owners),
        conflicts=conflicts,
    )


async def check(engine: Engine, *, repair: bool) -> CheckReply:
    """Database, image store, processes, mounts and directories. `repair` removes what belongs to no container."""
    problems = [Problem(subject="locks", text=text) for text in locks(engine).conflicts]
    verdict = await engine.services.database.read(
        lambda connection: str(connection.execute("PRAGMA quick_check").fetchone()[0])
    )
    if verdict != "ok":
        problems.append(
            Problem(subject=engine.layout.database, text=f"the state database is damaged: {verdict}")
        )
    problems.extend(_processes(engine))
    store = engine.services.store
    wrong = await trio.to_thread.run_sync(store.problems, limiter=engine.services.patient)
    problems.extend(Problem(subject, text) for subject, text in wrong)
    problems.extend(await engine.services.volumes.problems(repair=repair))
    problems.extend(await engine.services.secrets.problems(repair=repair))
    strays = await _strays(engine)
    left = strays
    if repair:
        # The rest is told, not touched.
        disk = engine.services.disk
        await trio.to_thread.run_sync(leftovers.remove, engine.layout, strays, limiter=disk)
        left = await _strays(engine)
    still = {subject for subject, _ in _told(left)}
    problems.extend(Problem(subject, text, repaired=subject not in still) for subject, text in _told(strays))
    return CheckReply(problems=problems)


async def _strays(engine: Engine) -> leftovers.Found:
    """What belongs to no container. Looked for first: what is made meanwhile belongs to one that is known."""
    disk = engine.services.disk
    found = await trio.to_thread.run_sync(leftovers.look, engine.layout, limiter=disk)
    return found.without({container.id for container in engine.registry.containers})


def _told(strays: leftovers.Found) -> Iterator[tuple[str, str]]:
    for path in strays.directories:
        yield path, "it belongs to no container"
    for path in strays.mounts:
        yield path, "it is mounted for no container"
    for monitor in strays.monitors:
        yield str(monitor.pid), "it is a conmon of no container"
    for server in strays.servers.values():
        yield str(server.pid), "it serves a mount of no container"


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
