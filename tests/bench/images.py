"""Rows about images: pull, load, listing many, running one; and what a pull costs others."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.context import pyman_time
from tests.bench.measure import Failed, command_time, interleave, median
from tests.bench.report import Limit, Result
from tests.support import processes
from tests.support.oci_image import big_image, write_layout
from tests.support.registry import RealRegistry
from tests.support.rootfs import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.context import Bench
    from tests.bench.podman import Podman
    from tests.support.engine import Engine

__all__ = ["image_run", "images", "load", "pull", "pull_beside"]

MANY = 300


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _copy(*words: str) -> None:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"skopeo copy: {done.stderr.strip()}")


@contextlib.contextmanager
def _layout() -> Iterator[Path]:
    """The image of about 150 MB in four layers, as an OCI image layout."""
    with _directory() as directory:
        write_layout(directory / "layout", big_image(make_rootfs(directory / "rootfs")))
        yield directory


@contextlib.contextmanager
def _served() -> Iterator[str]:
    """The same in a registry on loopback: its reference there."""
    with _layout() as directory, RealRegistry() as registry:
        reference = f"{registry.host}/big:latest"
        _copy("--dest-tls-verify=false", f"oci:{directory}/layout:latest", f"docker://{reference}")
        yield reference


def _afresh(command: Callable[[], float], remove: Callable[[], object]) -> Callable[[], float]:
    """With an empty store: what was brought in is removed before the next turn, and not timed."""

    def turn() -> float:
        seconds = command()
        remove()
        return seconds

    return turn


def _both(bench: Bench, sides: tuple[Engine, Podman], row: str, what: str, *words: str) -> Result:
    engine, podman = sides
    times = interleave(
        bench.count,
        {
            "pyman": _afresh(
                lambda: pyman_time(engine, *words), lambda: engine.cli("rmi", "--all", "--force")
            ),
            "podman": _afresh(lambda: podman.time(*words), lambda: podman.out("rmi", "--all", "--force")),
        },
    )
    mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    return Result(row, what, "ms", mine, theirs, limit=Limit(1.0, times=True), samples=times["pyman"])


def pull(bench: Bench) -> list[Result]:
    """An image of about 150 MB from a registry on loopback."""
    with _served() as reference, bench.both_in_memory() as (engine, podman):
        before = processes.present_memory(engine.pid)
        what = "`pull` of an image of 150 MB in 4 layers, 16 000 files"
        result = _both(
            bench, (engine, podman), "pull", what, "pull", "--quiet", "--tls-verify=false", reference
        )
        grown = (processes.highest_memory(engine.pid) - before) / 1e6
    return [
        result,
        Result("pull", "growth of the daemon's memory by it", "MB", grown, limit=Limit(40, open=True)),
    ]


def load(bench: Bench) -> list[Result]:
    """The same image out of an archive."""
    with _layout() as directory, bench.both_in_memory() as sides:
        archive = f"{directory}/big.tar"
        _copy(f"oci:{directory}/layout:latest", f"docker-archive:{archive}:localhost/big:latest")
        return [
            _both(bench, sides, "load", "`load` of the same image", "load", "--quiet", "--input", archive)
        ]


def _many(path: Path) -> None:
    """A docker-archive of 300 images of one layer each, which is the same."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as inner:
        inner.addfile(tarfile.TarInfo("file"), io.BytesIO())
    data = layer.getvalue()
    diff_id = f"sha256:{hashlib.sha256(data).hexdigest()}"
    members = {"layer.tar": data}
    manifest = []
    for number in range(MANY):
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "2024-01-01T00:00:00Z",
                "config": {"Cmd": ["true"], "Labels": {"number": str(number)}},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "history": [{"created_by": "one"}],
            }
        ).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        members[name] = config
        tag = f"localhost/image-{number}:latest"
        manifest.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
    members["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def images(bench: Bench) -> list[Result]:
    """`images` where there are 300."""
    with _directory() as directory, bench.both_in_memory() as (engine, podman):
        archive = f"{directory}/many.tar"
        _many(Path(archive))
        engine.cli("load", "--quiet", "--input", archive, timeout=300)
        podman.out("load", "--quiet", "--input", archive, timeout=600)
        # Podman 4.3 takes almost a minute for it.
        times = interleave(
            min(bench.count, 3),
            {"pyman": lambda: pyman_time(engine, "images"), "podman": lambda: podman.time("images")},
        )
    mine, theirs = (median(times[name]) * 1e3 for name in ("pyman", "podman"))
    what = f"`images`, {MANY} images"
    return [Result("images", what, "ms", mine, theirs, limit=Limit(1.2, times=True), samples=times["pyman"])]


def _with_image(engine: Engine, directory: Path) -> str:
    """The bench's root file system as an image in the engine's store."""
    write_layout(directory / "layout", big_image(make_rootfs(directory / "rootfs"))[:1])
    _copy(f"oci:{directory}/layout:latest", f"docker-archive:{directory}/small.tar:localhost/small:latest")
    engine.cli("load", "--quiet", "--input", f"{directory}/small.tar")
    return "localhost/small:latest"


def image_run(bench: Bench) -> list[Result]:
    """`run` of an image beside `run` of a directory."""
    words = ("run", "--rm", "--network", "none")
    with _directory() as directory, bench.engine() as engine:
        image = _with_image(engine, directory)
        times = interleave(
            bench.count,
            {
                "image": lambda: pyman_time(engine, *words, image, "/bin/busybox", "true"),
                "rootfs": lambda: pyman_time(
                    engine, *words, "--rootfs", f"{bench.rootfs}:O", "/bin/busybox", "true"
                ),
            },
        )
    mine, plain = (median(times[name]) * 1e3 for name in ("image", "rootfs"))
    what = "`run --rm --network none` of an image, more than of a directory"
    return [
        Result("image-run", "`run --rm --network none IMAGE true`", "ms", mine, plain, "a directory"),
        Result("image-run", what, "ms", mine - plain, limit=Limit(5)),
    ]


def pull_beside(bench: Bench) -> list[Result]:
    """`run` while pulls go on: what the slowest of them takes longer than usual."""
    words = ("run", "--rm", *bench.root, "true")
    with _served() as reference, bench.both_in_memory() as (engine, _podman):
        usual: list[float] = []
        pulling = ["pull", "--quiet", "--tls-verify=false", reference]
        beside: list[float] = []
        for _ in range(3):
            done = threading.Event()

            def bring(done: threading.Event = done) -> None:
                with contextlib.suppress(Failed):
                    command_time(engine.command(*pulling), engine.environment)
                done.set()

            thread = threading.Thread(target=bring)
            thread.start()
            while not done.is_set():
                beside.append(pyman_time(engine, *words))
            thread.join()
            engine.cli("rmi", "--all", "--force")
            usual += [pyman_time(engine, *words) for _ in range(len(beside) - len(usual))]
    delay = (median(beside) - median(usual)) * 1e3
    worst, otherwise = ((max(times) - median(usual)) * 1e3 for times in (beside, usual))
    what = f"a `run` while an image is pulled, longer than usual ({len(beside)} of them)"
    processors = os.cpu_count()
    return [
        Result("pull-beside", f"{what}, median", "ms", delay),
        Result("pull-beside", "the slowest of as many without a pull", "ms", otherwise),
        Result("pull-beside", f"the slowest, {processors} processors", "ms", worst, limit=Limit(50)),
    ]
