"""Rows about what happens by itself: ends that are told, restarts; and about much at once."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.bench.context import CONTAINER, pyman_time, run_detached, side_by_side
from tests.bench.measure import Failed, command_time, interleave, median, quantile
from tests.bench.report import Limit, Result
from tests.support.rootfs import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bench.context import Bench
    from tests.bench.podman import Podman
    from tests.support.engine import Engine

__all__ = ["died", "output", "rate", "restart"]

CLIENTS = 8
MEGABYTES = 200
PATIENCE = 30.0
SETTLE = 0.5
"""Seconds before a kill: what the other engine still does after its restart must not fall on this one."""
_ALWAYS = ("run", "--detach", "--network", "none", "--restart", "always")


def kill(inspected: dict[str, Any]) -> float:
    """SIGKILL to the first process of a container; when it was sent."""
    pid = inspected["State"]["Pid"]
    if pid <= 1:
        raise Failed(f"{inspected['Id'][:12]} should run, and it is {inspected['State']}")
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    return begun


def died(bench: Bench) -> list[Result]:
    """From SIGKILL to the `died` event at a subscriber, while a hundred containers run."""
    number = 20 if bench.options.quick else 100
    rounds = 1 if bench.options.quick else 3
    with bench.engine() as engine:
        spec = bench.spec("sleep", "100000")
        ids = side_by_side(lambda _: run_detached(engine, spec), range(number), CLIENTS)
        mine = [*_pyman_deaths(engine, ids * rounds)]
    with bench.clean_podman() as podman:
        words = ("run", "--detach", *bench.root, "sleep", "100000")
        ids = side_by_side(lambda _: podman.out(*words), range(number), CLIENTS)
        theirs = [*_podman_deaths(podman, ids[: bench.count])]
    p99, peer = quantile(mine, 0.99) * 1e3, quantile(theirs, 0.99) * 1e3
    return [
        Result(
            "died",
            f"killed → `died` at a subscriber, {number} containers: p99",
            "ms",
            p99,
            peer,
            limit=Limit(20, open=True),
            samples=mine,
        ),
        Result("died", "the same: median", "ms", median(mine) * 1e3, median(theirs) * 1e3),
    ]


def _pyman_deaths(engine: Engine, ids: list[str]) -> Iterator[float]:
    """Each container is killed and started again, so that the number of those that run stays."""
    with closing(engine.follow(event=["died"])) as events:  # type: ignore[type-var]
        for id in ids:
            begun = kill(engine.inspect(id))
            event = next(events)
            seconds = time.perf_counter() - begun
            if event["ID"] != id:
                raise Failed(f"killed {id[:12]}, and {event['ID'][:12]} died")
            yield seconds
            started = engine.call(f"{CONTAINER}.Start", {"selection": {"names": [id]}})
            if error := started["results"][0].get("error"):
                raise Failed(error["message"])


def _podman_deaths(podman: Podman, ids: list[str]) -> Iterator[float]:
    argv = podman.command("events", "--filter", "event=died", "--format", "json")
    with subprocess.Popen(
        argv, env=podman.environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as follower:
        assert follower.stdout is not None
        try:
            # It says nowhere that it listens by now.
            time.sleep(1)
            for told in podman.inspect(*ids):
                begun = kill(told)
                if not select.select([follower.stdout], [], [], PATIENCE)[0]:
                    raise Failed("podman events tells of no death")
                seconds = time.perf_counter() - begun
                if json.loads(os.read(follower.stdout.fileno(), 1 << 16).splitlines()[0])["ID"] != told["Id"]:
                    raise Failed("podman events tells of another container's death")
                yield seconds
                podman.out("start", told["Id"])
        finally:
            follower.kill()


def restart(bench: Bench) -> list[Result]:
    """From SIGKILL to the restarted command's first word, which it writes into a FIFO of its root."""
    with bench.engine() as engine, bench.clean_podman() as podman:
        mine = _Restarted(
            bench.podman.path / "restart-pyman",
            lambda root, script: engine.out(*_ALWAYS, "--restart-delay", "0", "--rootfs", root, *script),
            engine.inspect,
        )
        theirs = _Restarted(
            bench.podman.path / "restart-podman",
            lambda root, script: podman.out(*_ALWAYS, "--rootfs", root, *script),
            lambda name: podman.inspect(name)[0],
        )
        with closing(mine), closing(theirs):
            times = interleave(bench.count, {"pyman": mine.kill, "podman": theirs.kill})
    return [
        Result(
            "restart",
            "killed → restarted command runs, no delay",
            "ms",
            median(times["pyman"]) * 1e3,
            median(times["podman"]) * 1e3,
            limit=Limit(0.5, times=True),
            samples=times["pyman"],
        )
    ]


class _Restarted:
    """A container that is started again whenever it ends, and says so."""

    def __init__(
        self,
        root: Path,
        start: Callable[[Path, list[str]], str],
        inspect: Callable[[str], dict[str, Any]],
    ) -> None:
        make_rootfs(root)
        os.mkfifo(root / "up")
        self._fifo = os.open(root / "up", os.O_RDWR | os.O_CLOEXEC)
        self._inspect = inspect
        self._pid = 0
        try:
            self._id = start(root, ["sh", "-c", "echo up >/up; exec sleep 100000"])
            self._wait_up()
        except BaseException:
            os.close(self._fifo)
            raise

    def _wait_up(self) -> None:
        if not select.select([self._fifo], [], [], PATIENCE)[0]:
            raise Failed("the container is not started again")
        os.read(self._fifo, 64)

    def _running(self) -> dict[str, Any]:
        """What is told of the new process, once the engine has noted it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            told = self._inspect(self._id)
            if told["State"]["Status"] == "running" and told["State"]["Pid"] not in (0, self._pid):
                return told
            time.sleep(0.02)
        raise Failed("the container does not run again")

    def kill(self) -> float:
        told = self._running()
        self._pid = told["State"]["Pid"]
        time.sleep(SETTLE)
        begun = kill(told)
        self._wait_up()
        return time.perf_counter() - begun

    def close(self) -> None:
        os.close(self._fifo)


def output(bench: Bench) -> list[Result]:
    """Output of an attached container to /dev/null, the whole command's time."""
    words = ("dd", "if=/dev/zero", "bs=65536", f"count={MEGABYTES * 16}")
    count = max(2, bench.count // 3)
    results = []
    with bench.engine() as engine, bench.clean_podman() as podman:
        for driver in ("k8s-file", "none"):
            command = ("run", "--rm", "--log-driver", driver, *bench.root, *words)
            sides = {
                "pyman": lambda command=command: pyman_time(engine, *command),
                "podman": lambda command=command: podman.time(*command),
            }
            times = interleave(count, sides)
            mine, theirs = (MEGABYTES * 1.048576 / median(times[name]) for name in ("pyman", "podman"))
            what = f"attached output of {MEGABYTES} MiB, log driver {driver}"
            results.append(
                Result("output", what, "MB/s", mine, theirs, limit=Limit(1, times=True, least=True))
            )
    return results


def rate(bench: Bench) -> list[Result]:
    """A hundred short containers by eight clients at once."""
    number = 24 if bench.options.quick else 100
    words = ("run", "--rm", *bench.root, "true")
    with bench.engine() as engine, bench.clean_podman() as podman:

        def all_of(argv: list[str], env: dict[str, str]) -> float:
            begun = time.perf_counter()
            side_by_side(lambda _: command_time(argv, env), range(number), CLIENTS)
            return time.perf_counter() - begun

        times = interleave(
            1 if bench.options.quick else 3,
            {
                "pyman": lambda: all_of(engine.command(*words), engine.environment),
                "podman": lambda: all_of(podman.command(*words), podman.environment),
            },
        )
    mine, theirs = (number / median(times[name]) for name in ("pyman", "podman"))
    what = f"`run --rm … true`, {number} by {CLIENTS} clients at once"
    return [Result("rate", what, "/s", mine, theirs, limit=Limit(2, times=True, least=True))]
