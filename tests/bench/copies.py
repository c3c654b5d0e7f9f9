"""Rows about `cp`: a large file into a container, a tree of many files into it and out of it; and what that costs the daemon."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

from tests.bench.context import pyman_time
from tests.bench.measure import interleave, median
from tests.bench.report import Limit, Result
from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.bench.context import Bench
    from tests.bench.podman import Podman
    from tests.support.engine import Engine

__all__ = ["cp"]

LARGE = 256
"""MiB."""
DIRECTORIES, FILES = 50, 100
"""Files in each of them."""


class _Side:
    """One of the two command lines, with a container `x` that runs."""

    def __init__(self, out: Callable[..., object], time: Callable[..., float], rootfs: Path) -> None:
        self._out = out
        self._time = time
        out("run", "--detach", "--name", "x", "--network", "none", "--rootfs", f"{rootfs}:O", "sleep", "1000")

    def new(self, source: Path) -> float:
        """To a name that is not there."""
        self._out("exec", "x", "rm", "-rf", f"/{source.name}")
        return self._time("cp", source, f"x:/{source.name}")

    def over(self, source: Path) -> float:
        """To the name of what was copied before, once the disk has nothing to do."""
        os.sync()
        return self._time("cp", source, f"x:/{source.name}")

    def out(self, name: str, target: Path) -> float:
        seconds = self._time("cp", f"x:/{name}", target)
        shutil.rmtree(target)
        return seconds


def cp(bench: Bench) -> list[Result]:
    """Between files of the client's and a container that runs. They lie in memory, where many new files after many that
    were removed take no longer than the first; but for one row, since what replaces a file depends on the disk's file system."""
    large, files = (LARGE // 8, FILES // 10) if bench.options.quick else (LARGE, FILES)
    number = f"{DIRECTORIES * files:,}".replace(",", " ")
    with bench.both_in_memory() as (engine, podman):
        sides = _sides(engine, podman)
        file, tree, copy = (engine.path / name for name in ("large", "tree", "copy"))
        _make_large(file, large)
        _make_tree(tree, files)
        before = processes.present_memory(engine.pid)
        found = [
            _row(bench, f"`cp` of a file of {large} MiB in", sides, lambda side: side.new(file)),
            _row(bench, f"`cp` of {number} files of 4 KiB in", sides, lambda side: side.new(tree)),
            _row(bench, "`cp` of as many out", sides, lambda side: side.out(tree.name, copy)),
        ]
        grown = (processes.highest_memory(engine.pid) - before) / 1e6
    with bench.engine() as engine, bench.clean_podman() as podman:
        sides = _sides(engine, podman)
        file = engine.path / "large"
        _make_large(file, large)
        what = f"`cp` of a file of {large} MiB over another, on the disk"
        found.append(_row(bench, what, sides, lambda side: side.over(file)))
    what = "growth of the daemon's memory by those in memory"
    return [*found, Result("cp", what, "MB", grown, limit=Limit(4, open=True))]


def _sides(engine: Engine, podman: Podman) -> dict[str, _Side]:
    return {
        "pyman": _Side(engine.cli, partial(pyman_time, engine), podman.rootfs),
        "podman": _Side(podman.out, podman.time, podman.rootfs),
    }


def _make_large(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.writelines(os.urandom(1 << 20) for _ in range(size))


def _make_tree(path: Path, files: int) -> None:
    for directory in range(DIRECTORIES):
        place = path / str(directory)
        place.mkdir(parents=True)
        for number in range(files):
            (place / str(number)).write_bytes(os.urandom(4096))


def _row(bench: Bench, what: str, sides: Mapping[str, _Side], turn: Callable[[_Side], float]) -> Result:
    times = interleave(bench.count, {name: partial(turn, side) for name, side in sides.items()})
    mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    return Result("cp", what, "ms", mine, theirs, limit=Limit(1.0, times=True), samples=times["pyman"])
