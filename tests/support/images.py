"""Images in the store of a test's engine, made by the real Podman and Buildah, which work on the same directories."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.engine import Engine

__all__ = ["IMAGE", "add_layer", "buildah", "import_image", "leave_no_mount", "podman"]

IMAGE = "registry.example/box:latest"

_PODMAN = ("--events-backend=file", "--cgroup-manager=cgroupfs", "--runtime=runc")


def podman(
    engine: Engine,
    *words: str | Path,
    stdin: bytes | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """On the engine's store; an ordinary user's in the engine's namespaces. `env`: variables more."""
    return _run(engine, ["podman", *_PODMAN], words, stdin, check=check, env=env)


def buildah(engine: Engine, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _run(engine, ["buildah"], words, None, check=check)


def _run(
    engine: Engine,
    program: list[str],
    words: Sequence[str | Path],
    stdin: bytes | None,
    *,
    check: bool,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    store = [f"--root={engine.root}", f"--runroot={engine.runroot}", "--storage-driver=overlay"]
    line = [*program, *store, *map(str, words)]
    own = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")
    if hasattr(engine.place, "user"):
        line = engine.command("unshare", "env", *(f"--unset={name}" for name in own), *line)
    known = processes.mentions([str(engine.root)])
    done = subprocess.run(
        [*engine.place.prefix("/"), *line],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env={
            **{
                name: text
                for name, text in engine.environment.items()
                if name not in own or "unshare" in line
            },
            **(env or {}),
        },
        cwd="/",
        timeout=60,
        check=False,
    )
    if (
        "--rm" in words
    ):  # Podman's conmon has one more Podman clean up, which mounts the store's directory once more
        assert not processes.wait_gone(processes.mentions([str(engine.root)]) - known, 20)
        leave_no_mount(engine)
    text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.returncode}\n{text.stdout}{text.stderr}")
    return text


def leave_no_mount(engine: Engine) -> None:
    """The others do not always undo that they mount the store's directory on itself."""
    path = f"{engine.root}/overlay"
    subprocess.run(
        [*engine.place.prefix("/"), "umount", "--lazy", "--quiet", path], check=False, capture_output=True
    )


def import_image(engine: Engine, rootfs: Path, name: str = IMAGE, changes: Sequence[str] = ()) -> str:
    """An image of a directory; its id. `changes`: lines as in a Containerfile."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(rootfs, ".", filter=_owned)
    words = [word for change in changes for word in ("--change", change)]
    done = podman(engine, "import", "--quiet", *words, "-", name, stdin=archive.getvalue())
    return done.stdout.strip().removeprefix("sha256:")


def _owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """As in an image of root's, whoever has made the directory."""
    member.uid = member.gid = 1000 if member.name.startswith("./home/worker") else 0
    member.uname = member.gname = ""
    return member


def add_layer(
    engine: Engine, base: str, name: str, files: Mapping[str, Path], config: Sequence[str] = ()
) -> str:
    """An image of `base` and one layer more with these files, by their places; its id. `config`: options of
    `buildah config`. In Docker's format, which has room for everything."""
    container = buildah(engine, "from", "--pull-never", base).stdout.strip()
    try:
        for target, source in files.items():
            buildah(engine, "copy", "--quiet", container, source, target)
        if config:
            buildah(engine, "config", *config, container)
        return buildah(engine, "commit", "--quiet", "--format", "docker", container, name).stdout.strip()
    finally:
        buildah(engine, "rm", container)
