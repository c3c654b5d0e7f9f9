"""Rows about single commands: run, exec, ps, version, inspect; and a life by a connected client."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import pyman
from tests.bench.context import CONTAINER, create, pyman_time
from tests.bench.floor import Floor
from tests.bench.measure import interleave, median, wait_until
from tests.bench.report import Limit, Result
from tests.support.leaks import cgroup_directories, mount_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyman.client import Engine as Client
    from tests.bench.context import Bench
    from tests.support.engine import Engine

__all__ = ["execute", "inspect", "ps", "run", "sdk", "version"]


def _compare(
    bench: Bench,
    row: str,
    what: str,
    bound: float,
    pyman_side: Callable[[], float],
    peer: Callable[[], float],
) -> Result:
    times = interleave(bench.count, {"pyman": pyman_side, "podman": peer})
    mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    return Result(row, what, "ms", mine, theirs, limit=Limit(bound, times=True), samples=times["pyman"])


def run(bench: Bench) -> list[Result]:
    """`run --rm --network none … true` by the command line, until the command has ended."""
    words = ("run", "--rm", *bench.root, "true")
    with bench.engine() as engine, bench.clean_podman() as podman:
        what = "`run --rm --network none … true`"
        return [
            _compare(bench, "run", what, 0.5, lambda: pyman_time(engine, *words), lambda: podman.time(*words))
        ]


def execute(bench: Bench) -> list[Result]:
    words = ("exec", "x", "true")
    return _with_container(bench, "exec", "`exec … true`", 0.5, words)


def ps(bench: Bench) -> list[Result]:
    return _with_container(bench, "ps", "`ps`", 1.2, ("ps",))


def version(bench: Bench) -> list[Result]:
    return _with_container(bench, "version", "`version`", 1.2, ("version",))


def inspect(bench: Bench) -> list[Result]:
    return _with_container(bench, "inspect", "`inspect`", 1.2, ("inspect", "x"))


def _with_container(bench: Bench, row: str, what: str, bound: float, words: tuple[str, ...]) -> list[Result]:
    """A command while one container runs."""
    start = ("run", "--detach", "--name", "x", *bench.root, "sleep", "100000")
    with bench.engine() as engine, bench.clean_podman() as podman:
        engine.cli(*start)
        podman.out(*start)
        return [
            _compare(bench, row, what, bound, lambda: pyman_time(engine, *words), lambda: podman.time(*words))
        ]


def sdk(bench: Bench) -> list[Result]:
    """A life by a connected client, until nothing of it is left, beside the same life by hand."""
    with bench.engine() as engine:
        template, source = _template(bench, engine)
        floor = Floor(bench.options.runtime, bench.rootfs, template)
        try:
            times = trio.run(_lives, bench, engine, floor)
        finally:
            floor.close()
            engine.call(f"{CONTAINER}.Remove", {"selection": {"names": [source]}, "force": True})
    for step, seconds in floor.steps.items():
        bench.say(f"  by hand: {step:16} {median(seconds) * 1e3:6.1f} ms")
    bench.say(f"  client: answered after {median(times['answered']) * 1e3:.1f} ms")
    mine, theirs = median(times["pyman"]) * 1e3, median(times["floor"]) * 1e3
    what = "the same by a connected SDK client, until nothing is left"
    limit = Limit(1.4, times=True)
    return [Result("sdk", what, "ms", mine, theirs, "by hand", limit, times["pyman"])]


def _template(bench: Bench, engine: Engine) -> tuple[dict[str, Any], str]:
    """pyman's own config.json of such a container, which stays initialized: the spec names files of it."""
    id = create(engine, bench.spec("true"))
    engine.call(f"{CONTAINER}.Init", {"selection": {"names": [id]}})
    text = (engine.tmpdir / "containers" / id / "config.json").read_text()
    template: dict[str, Any] = json.loads(text)
    return template, id


async def _lives(bench: Bench, engine: Engine, floor: Floor) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"pyman": [], "floor": [], "answered": []}
    async with pyman.connect(engine.socket) as client:
        for turn in range(bench.count + 1):
            by_hand = floor.life()
            answered, gone = await _life(bench, engine, client)
            if turn:
                times["floor"].append(by_hand)
                times["answered"].append(answered)
                times["pyman"].append(gone)
    return times


async def _life(bench: Bench, engine: Engine, client: Client) -> tuple[float, float]:
    """Seconds until the exit code was there, and until the container had left no trace."""
    spec = bench.spec("true", remove=True)
    begun = time.perf_counter()
    session = await client.containers.run(
        rootfs=spec["rootfs"],
        rootfs_overlay=True,
        netns=pyman_namespace("none"),
        command=spec["command"],
        remove=True,
    )
    async with session:
        assert await session.wait() == 0
    answered = time.perf_counter() - begun
    places = [engine.root / "pyman/containers" / session.id, engine.tmpdir / "containers" / session.id]
    wait_until(lambda: not any(map(os.path.lexists, places)), "the container's directories are gone")
    gone = time.perf_counter() - begun
    # Looking through every mount and cgroup takes long: it is part of the check, not of the time.
    left = {path for path in mount_points() | cgroup_directories() if session.id in path}
    wait_until(lambda: not any(map(os.path.lexists, left)), "its cgroups are gone")
    return answered, gone if not left else time.perf_counter() - begun


def pyman_namespace(mode: str) -> Any:
    from pyman.api.spec import Namespace

    return Namespace(mode)


def directory_of(engine: Engine, id: str) -> Path:
    return Path(engine.tmpdir) / "containers" / id
