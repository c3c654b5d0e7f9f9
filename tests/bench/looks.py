"""Rows about looking at many containers that run: stats and top."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.context import pyman_time, run_detached, side_by_side
from tests.bench.measure import interleave, median
from tests.bench.report import Limit, Result

if TYPE_CHECKING:
    from tests.bench.context import Bench
    from tests.support.engine import Engine

__all__ = ["stats"]

CLIENTS = 8
LOOKS = 20
INTERVAL = 0.1


def stats(bench: Bench) -> list[Result]:
    """`stats --no-stream` and `top` while a hundred containers run; and how long others wait meanwhile."""
    number = 20 if bench.options.quick else 100
    words = ("run", "--detach", "--name", "x", *bench.root, "sleep", "100000")
    with bench.engine() as engine, bench.clean_podman() as podman:
        spec = bench.spec("sleep", "100000")
        side_by_side(lambda _: run_detached(engine, spec), range(number - 1), CLIENTS)
        side_by_side(lambda _: podman.out(*words[:2], *words[4:]), range(number - 1), CLIENTS)
        engine.cli(*words)
        podman.out(*words)
        found = []
        for command, bound in ((("stats", "--no-stream"), 0.5), (("top", "x"), 0.5)):
            times = interleave(
                bench.count,
                {
                    "pyman": lambda command=command: pyman_time(engine, *command),  # type: ignore[misc]
                    "podman": lambda command=command: podman.time(*command),  # type: ignore[misc]
                },
            )
            mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
            what = f"`{' '.join(command)}`, {number} containers run"
            limit = Limit(bound, times=True)
            found.append(Result("stats", what, "ms", mine, theirs, limit=limit, samples=times["pyman"]))
        slowest = _slowest(engine) * 1e3
    what = f"the slowest answer to another client while `stats` looks every {INTERVAL:g} s"
    return [*found, Result("stats", what, "ms", slowest, limit=Limit(50, open=True))]


def _slowest(engine: Engine) -> float:
    """Seconds that one answer took, of those to a client that asks without a pause."""
    slowest = 0.0
    with engine.wire() as watching, engine.wire() as asking:
        stream = watching.stream("io.pyman.Container.Stats", {"interval": INTERVAL})
        next(stream)
        end = time.monotonic() + LOOKS * INTERVAL
        while time.monotonic() < end:
            begun = time.perf_counter()
            asking.call("io.pyman.System.Version")
            slowest = max(slowest, time.perf_counter() - begun)
    return slowest
