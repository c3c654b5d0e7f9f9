"""Rows about many containers and long times: idling, growth, a thousand containers, crash loops."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

import pyman
from tests.bench.commands import pyman_namespace
from tests.bench.context import create, pyman_time, run_detached, side_by_side
from tests.bench.measure import (
    Failed,
    context_switches,
    interleave,
    median,
    processor_time,
    proportional_memory,
)
from tests.bench.report import Limit, Result

if TYPE_CHECKING:
    from pyman.client import Engine as Client
    from tests.bench.context import Bench
    from tests.support.engine import Engine

__all__ = ["crashes", "growth", "health", "idle", "many"]

CLIENTS = 8
SETTLE = 15.0
"""Seconds after the last call in which the supervisor may still be at work."""


def idle(bench: Bench) -> list[Result]:
    """A hundred containers run and nobody asks for anything."""
    number, seconds = (20, 10.0) if bench.options.quick else (100, 60.0)
    with bench.engine() as engine:
        spec = bench.spec("sleep", "100000")
        side_by_side(lambda _: run_detached(engine, spec), range(number), CLIENTS)
        pid, keeper = engine.pid, engine.keeper_pid
        time.sleep(SETTLE)
        before = context_switches(pid)
        keeper_before = context_switches(keeper)
        time.sleep(seconds)
        switches, keeper_switches = context_switches(pid) - before, context_switches(keeper) - keeper_before
        memory, keeper_memory = proportional_memory(pid), proportional_memory(keeper)
    allowed = 60 + 0.05 * number
    of = f"{number} running containers"
    return [
        Result(
            "idle", f"context switches of the daemon in {seconds:g} s, {of}", "", switches, limit=Limit(0)
        ),
        Result("idle", "the same of the keeper", "", keeper_switches),
        Result("idle", f"PSS of the daemon, {of}", "MB", memory, limit=Limit(allowed, open=True)),
        Result("idle", "PSS of the keeper", "MB", keeper_memory),
    ]


def health(bench: Bench) -> list[Result]:
    """Checks of many containers: how late they begin. Figures of the last thousand, so not of those at the start."""
    slow, fast, seconds = (20, 5, 15.0) if bench.options.quick else (100, 20, 60.0)
    with bench.engine() as engine:
        for number, interval in ((slow, 30), (fast, 1)):
            check = {"Test": ["CMD", "true"], "Interval": interval * 1_000_000_000}
            spec = bench.spec("sleep", "100000", healthconfig=check)
            side_by_side(lambda _, spec=spec: run_detached(engine, spec), range(number), CLIENTS)  # type: ignore[misc]
        time.sleep(SETTLE)
        pid = engine.pid
        before, skipped, begun = processor_time(pid), _checks(engine)["skipped"], time.monotonic()
        time.sleep(seconds)
        used = (processor_time(pid) - before) / (time.monotonic() - begun) * 100
        told = _checks(engine)
        ill = engine.call("io.pyman.Container.List", {"filters": {"health!": ["healthy"]}})["containers"]
        if ill or told["armed"] != slow + fast:
            raise Failed(f"{len(ill)} containers are not healthy, {told['armed']} checks are armed")
    of = f"{slow} checks at 30 s, {fast} at 1 s"
    return [
        Result(
            "health",
            f"p99 between due and started, {of}",
            "ms",
            told["delay99"] * 1e3,
            limit=Limit(100, open=True),
        ),
        Result("health", "checks skipped meanwhile", "", told["skipped"] - skipped, limit=Limit(0)),
        Result("health", "daemon and probes: share of a core", "%", used),
    ]


def _checks(engine: Engine) -> dict[str, float]:
    found: dict[str, float] = engine.call("io.pyman.System.Info")["supervisor"]["healthChecks"]
    return found


def growth(bench: Bench) -> list[Result]:
    """PSS of the daemon before and after 5 000 further lives."""
    warm, lives = (100, 200) if bench.options.quick else (500, 5000)
    with bench.engine() as engine:
        pid = engine.pid
        trio.run(_many_lives, bench, engine, warm)
        time.sleep(SETTLE)
        before = proportional_memory(pid)
        trio.run(_many_lives, bench, engine, lives)
        time.sleep(SETTLE)
        after = proportional_memory(pid)
        if engine.pid != pid:
            raise Failed("the daemon was replaced")
    percent = (after / before - 1) * 100
    bench.say(f"  PSS after {warm} lives {before:.2f} MB, after {lives} more {after:.2f} MB")
    what = f"growth of the daemon's PSS over {lives} lives"
    return [Result("growth", what, "%", percent, limit=Limit(5, open=True))]


async def _many_lives(bench: Bench, engine: Engine, lives: int) -> None:
    left = iter(range(lives))
    async with pyman.connect(engine.socket) as client, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(_live, bench, client, left)


async def _live(bench: Bench, client: Client, left: object) -> None:
    for _ in left:  # type: ignore[attr-defined]
        async with await client.containers.run(
            rootfs=str(bench.rootfs),
            rootfs_overlay=True,
            netns=pyman_namespace("none"),
            command=["true"],
            remove=True,
        ) as session:
            if await session.wait() != 0:
                raise Failed("a container failed")


def many(bench: Bench) -> list[Result]:
    """A thousand created containers: `ps -a`, and a supervisor that starts and finds them."""
    number = 200 if bench.options.quick else 1000
    spec = bench.spec("true")
    with bench.engine() as few, bench.engine() as full:
        side_by_side(lambda _: create(few, spec), range(10), CLIENTS)
        side_by_side(lambda _: create(full, spec), range(number), CLIENTS)
        words = ("ps", "--all")
        times = interleave(
            bench.count,
            {"pyman": lambda: pyman_time(full, *words), "few": lambda: pyman_time(few, *words)},
        )
        starts = []
        for _ in range(1 if bench.options.quick else 5):
            full.stop()
            begun = time.perf_counter()
            full.start()
            starts.append(time.perf_counter() - begun)
    mine, peer = (median(times[name]) * 1e3 for name in ("pyman", "few"))
    limit = Limit(2, times=True)
    return [
        Result("many", f"`ps -a` with {number} containers", "ms", mine, peer, "pyman with 10", limit),
        Result(
            "many",
            f"start of the supervisor with {number} containers",
            "s",
            median(starts),
            limit=Limit(3, open=True),
        ),
    ]


def crashes(bench: Bench) -> list[Result]:
    """Fifty containers that fail at once and are started again, after the first five minutes.

    The figure is the processor time of keeper and daemon and of every child they have waited for, with
    theirs: conmon and the OCI runtimes are all among them, since the daemon reaps every orphan.
    """
    number, settle, seconds = (50, 30.0, 30.0) if bench.options.quick else (50, 300.0, 120.0)
    with bench.engine() as engine:
        spec = bench.spec("false", restart_policy="always")
        side_by_side(lambda _: run_detached(engine, spec), range(number), CLIENTS)
        begun = time.monotonic()
        pids = (engine.pid, engine.keeper_pid)
        time.sleep(settle)
        busy, first = _busy(), time.monotonic()
        before = sum(map(processor_time, pids))
        time.sleep(seconds)
        used = (sum(map(processor_time, pids)) - before) / (time.monotonic() - first) * 100
        host = (_busy() - busy) / (time.monotonic() - first) * 100
        restarts = sum(engine.inspect(id)["RestartCount"] for id in _ids(engine))
    bench.say(
        f"  {restarts} restarts in {time.monotonic() - begun:.0f} s; the whole host: {host:.1f} % of a core"
    )
    bound = 5 if bench.options.runtime == "crun" else 8
    what = f"{number} crash loops from {settle:g} s on: share of a core"
    return [Result("crashes", what, "%", used, limit=Limit(bound, open=True))]


def _ids(engine: Engine) -> list[str]:
    return [entry["Id"] for entry in engine.call("io.pyman.Container.List", {"all": True})["containers"]]


def _busy() -> float:
    """Seconds that all cores of the host together were not idle."""
    import os

    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
