"""What every row works with: how often to measure, an engine of either kind, a root file system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.measure import command_time
from tests.bench.podman import Podman
from tests.support.engine import Engine
from tests.support.hosts import HostPlace
from tests.support.runtimes import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.support.hosts import Machine

__all__ = ["Bench", "Options"]

CONTAINER = "io.pyman.Container"
_CONFIG = """\
[containers]
log_driver = "k8s-file"
"""


@dataclass(frozen=True)
class Options:
    count: int
    runtime: str
    quick: bool
    long: bool
    tree: Path | None


class Bench:
    """One run of the script. `podman` is one for all rows, empty between them; an engine is made for each."""

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self.options = options
        self.count = options.count
        self.podman = Podman(options.runtime, options.tree)
        stack.callback(self.podman.close)
        self.rootfs = self.podman.rootfs

    @contextmanager
    def engine(self, host: Machine | None = None) -> Iterator[Engine]:
        """A supervisor of its own, started; ended and cleared away afterwards. `host`: where it is, if not beside Podman."""
        place = Place(self.options.runtime)
        engine = Engine(HostPlace(host, place) if host else place, config=_CONFIG)
        try:
            engine.start()
            yield engine
        finally:
            engine.close()

    @contextmanager
    def both_in_memory(self) -> Iterator[tuple[Engine, Podman]]:
        """Both engines on a file system in memory. On a disk, making many files right after many were removed
        depends on what else was removed in the last minutes (ext4 searches for inodes that are not fresh), and
        would be what is measured."""
        with ExitStack() as stack:
            directory = tempfile.mkdtemp(prefix="p-", dir="/tmp")
            stack.callback(os.rmdir, directory)
            subprocess.run(["mount", "-t", "tmpfs", "bench", directory], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", directory], check=True)
            podman = Podman(self.options.runtime, self.options.tree, directory)
            stack.callback(podman.close)
            engine = Engine(Place(self.options.runtime), config=_CONFIG, directory=directory)
            stack.callback(engine.close)
            engine.start()
            yield engine, podman

    @contextmanager
    def clean_podman(self) -> Iterator[Podman]:
        """Podman, with no container left afterwards."""
        try:
            yield self.podman
        finally:
            self.podman.remove_containers()

    @property
    def root(self) -> list[str]:
        """Options that both command lines know: the same root file system, no network."""
        return ["--network", "none", "--rootfs", f"{self.rootfs}:O"]

    def spec(self, *command: str, **fields: Any) -> dict[str, Any]:
        """The same for a call on the socket."""
        return {
            "rootfs": str(self.rootfs),
            "rootfs_overlay": True,
            "netns": {"nsmode": "none"},
            "command": [*command],
            **fields,
        }

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201


def pyman_time(engine: Engine, *arguments: str | Path) -> float:
    return command_time(engine.command(*arguments), engine.environment)


def create(engine: Engine, spec: dict[str, Any]) -> str:
    """A container's id, by the socket."""
    return str(engine.call(f"{CONTAINER}.Create", {"spec": spec}, timeout=60)["id"])


def run_detached(engine: Engine, spec: dict[str, Any]) -> str:
    with engine.wire(60) as wire:
        return str([*wire.stream(f"{CONTAINER}.Run", {"spec": spec, "detach": True})][-1]["id"])


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], clients: int) -> list[Any]:
    """Do the work for every item, by so many threads."""
    with ThreadPoolExecutor(clients) as pool:
        return [*pool.map(work, items)]


def podman_ids(podman: Podman) -> list[str]:
    listed: list[dict[str, Any]] = json.loads(podman.out("ps", "--all", "--format", "json"))
    return [entry["Id"] for entry in listed]
