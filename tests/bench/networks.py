"""Rows about containers on bridges: a command, a crowd, an ordinary user's, and what goes through a published port.

The script runs in a network namespace of its own, so each engine has a default network there, of other addresses.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from tests.bench.context import pyman_time, side_by_side
from tests.bench.measure import command_time, interleave, median, wait_until
from tests.bench.report import Limit, Result
from tests.bench.rootless import becoming, both_of_user, user_time
from tests.support.hosts import Machine, wired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.bench.context import Bench

__all__ = ["bridge", "crowd", "rootless", "throughput"]

CLIENTS = 8
PORTS = {"pyman": 5201, "podman": 5202}
USERS_PORTS = {"pyman": 5211, "podman": 5212}
"""Others: Podman may leave a rule for a port of a container that is gone."""
SECONDS = 2
"""Of each turn of iperf3."""


def bridge(bench: Bench) -> list[Result]:
    """`run --rm … true` on the default bridge."""
    root = ("--rootfs", f"{bench.rootfs}:O", "true")
    on, off = ("run", "--rm", "--network", "bridge", *root), ("run", "--rm", "--network", "none", *root)
    with bench.engine() as engine, bench.clean_podman() as podman:
        times = interleave(
            bench.count,
            {
                "pyman": lambda: pyman_time(engine, *on),
                "none": lambda: pyman_time(engine, *off),
                "podman": lambda: podman.time(*on),
            },
        )
    mine, none, theirs = (median(times[name]) * 1e3 for name in ("pyman", "none", "podman"))
    more = median([a - b for a, b in zip(times["pyman"], times["none"], strict=True)]) * 1e3
    what = "`run --rm … true` on the default bridge"
    bench.say(f"  with --network none: {none:.1f} ms")
    return [
        Result("bridge", what, "ms", mine, theirs, limit=Limit(0.45, times=True), samples=times["pyman"]),
        Result(
            "bridge", "the same: what it takes more than with `--network none`", "ms", more, limit=Limit(20)
        ),
    ]


def rootless(bench: Bench) -> list[Result]:
    """The same by an ordinary user. One container lives throughout, so that what a user's containers share is there."""
    with _other_host(), both_of_user(bench) as (engine, podman):
        engine.start()
        for out, rootfs in ((engine.out, engine.rootfs), (podman.out, podman.rootfs)):
            out(
                "run", "--detach", "--name", "x", "--network", "bridge", "--rootfs", rootfs, "sleep", "100000"
            )
        own = becoming(engine)
        words = ("run", "--rm", "--network", "bridge", "--rootfs")
        times = interleave(
            bench.count,
            {
                "pyman": lambda: user_time(engine, own, *words, engine.rootfs, "true"),
                "podman": lambda: podman.time(*words, podman.rootfs, "true"),
            },
        )
        podman.out("rm", "--force", "--time", "0", "x")
    mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    what = "the same by an ordinary user"
    limit = Limit(0.5, times=True)
    return [Result("rootless-bridge", what, "ms", mine, theirs, limit=limit, samples=times["pyman"])]


def crowd(bench: Bench) -> list[Result]:
    """So many containers are started on a bridge, by eight clients at once. Both engines lie in memory: each turn makes
    files right after another one's were removed."""
    number = 24 if bench.options.quick else 100
    words = ("run", "--detach", "--network", "bridge", "--rootfs", f"{bench.rootfs}:O", "sleep", "100000")
    with bench.both_in_memory() as (engine, podman):

        def all_of(argv: list[str], env: dict[str, str], remove: Callable[[], None]) -> float:
            begun = time.perf_counter()
            side_by_side(lambda _: command_time(argv, env), range(number), CLIENTS)
            seconds = time.perf_counter() - begun
            remove()
            return seconds

        sides = {
            "pyman": lambda: all_of(engine.command(*words), engine.environment, engine.remove_containers),
            "podman": lambda: all_of(podman.command(*words), podman.environment, podman.remove_containers),
        }
        times = interleave(1 if bench.options.quick else 3, sides)
    mine, theirs = (number / median(times[name]) for name in ("pyman", "podman"))
    what = f"`run -d` on a bridge, {number} by {CLIENTS} clients at once"
    return [Result("bridge-rate", what, "/s", mine, theirs, limit=Limit(2, times=True, least=True))]


def throughput(bench: Bench) -> list[Result]:
    """iperf3 on another host sends to a server in a container, by a published port; then the same by an ordinary user's.

    Root's engines are on hosts of their own, so that a packet goes through the rules of one of them alone."""
    with _other_host() as other, Machine() as host, wired(host) as beside:
        with bench.engine(host) as engine, bench.clean_podman() as podman, _libraries(bench.rootfs):
            _serve(engine.out, PORTS["pyman"], bench.rootfs)
            _serve(podman.out, PORTS["podman"], bench.rootfs)
            sides = {"pyman": (beside, PORTS["pyman"]), "podman": (other, PORTS["podman"])}
            found = [_rates(bench, sides, "TCP from another host by a published port, iperf3")]
            # Before the directories go that they look into.
            engine.remove_containers()
            podman.remove_containers()
        with both_of_user(bench) as (users, users_podman):
            users.start()
            with _libraries(users.rootfs), _libraries(users_podman.rootfs):
                _serve(users.out, USERS_PORTS["pyman"], users.rootfs)
                _serve(users_podman.out, USERS_PORTS["podman"], users_podman.rootfs)
                sides = {name: (other, port) for name, port in USERS_PORTS.items()}
                found.append(_rates(bench, sides, "the same to an ordinary user's container on a bridge"))
                users_podman.out("rm", "--all", "--force", "--time", "0")
    return found


def _serve(out: Callable[..., str], port: int, rootfs: Path) -> None:
    ports = ("--publish", f"{port}:5201")
    root = ("--volume", "/usr:/usr:ro", "--rootfs", rootfs)
    out("run", "--detach", "--network", "bridge", *ports, *root, "iperf3", "--server")


def _rates(bench: Bench, sides: Mapping[str, tuple[Machine, int]], what: str) -> Result:
    turns = 3 if bench.options.quick else bench.count
    rates = interleave(turns, {name: _sending(*side) for name, side in sides.items()})
    mine, theirs = (median(rates[name]) for name in ("pyman", "podman"))
    limit = Limit(1, times=True, least=True)
    return Result("port", what, "Gbit/s", mine, theirs, limit=limit, samples=rates["pyman"])


def _sending(other: Machine, port: int) -> Callable[[], float]:
    seconds = ("--time", str(SECONDS))
    argv = ("iperf3", "--client", "192.0.2.1", "--port", str(port), *seconds, "--json")

    def turn() -> float:
        told: dict[str, Any] = {}

        def answers() -> bool:
            """Not while it comes up, nor while it is at the end of the turn before."""
            told.clear()
            told.update(json.loads(other.run(*argv, check=False)))
            return "error" not in told

        wait_until(answers, f"iperf3 answers on port {port}", pause=0.05)
        return float(told["end"]["sum_received"]["bits_per_second"]) / 1e9

    return turn


@contextlib.contextmanager
def _other_host() -> Iterator[Machine]:
    here = Machine()
    here.pid = os.getpid()
    with wired(here) as other:
        here.run("ip", "route", "add", "default", "via", "192.0.2.2")
        yield other


@contextlib.contextmanager
def _libraries(rootfs: Path) -> Iterator[None]:
    """With the host's programs in /usr they are found."""
    links = [rootfs / "lib", rootfs / "lib64"]
    for link in links:
        link.symlink_to(f"usr/{link.name}")
    try:
        yield
    finally:
        for link in links:
            link.unlink()
