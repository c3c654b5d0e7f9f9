"""What `cp` does is what the installed Podman's does: what goes where, whose it is, what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.copying import INTO, OUT_OF, SCRIPT, make_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs Podman, and root for its storage"
    ),
    pytest.mark.oci_runtime("runc"),
]

Words = tuple[str | Path, ...]


@pytest.fixture
def both(shared_engine: Engine, rootfs: Path) -> Iterator[dict[str, Callable[..., tuple[int, bytes]]]]:
    """Both engines with a container that never runs, of an image where the script was run. A call gives the exit status
    and what was printed."""
    place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    # Podman refuses a run root whose path is longer than 50 characters.
    podman: list[str | Path] = ["podman", "--root", place / "root", "--runroot", place / "run", "--tmpdir", place / "tmp",
              "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--log-level", "error"]  # fmt: skip
    scene = place / "scene"
    shutil.copytree(rootfs, scene, symlinks=True)
    (scene / "srv").mkdir(exist_ok=True)
    subprocess.run(["chroot", scene, "/bin/sh", "-c", SCRIPT], check=True)
    data = subprocess.run(["tar", "-C", scene, "-c", "."], check=True, capture_output=True).stdout

    def ours(*words: str | Path) -> tuple[int, bytes]:
        with shared_engine.spawn(*words) as child:
            out, _ = child.communicate(timeout=30)
        return child.returncode, out

    def theirs(*words: str | Path) -> tuple[int, bytes]:
        done = subprocess.run([*podman, *words], capture_output=True, check=False)
        return done.returncode, done.stdout

    try:
        shared_engine.cli("import", "--quiet", "-", "localhost/scene:1", input=data)
        subprocess.run([*podman, "import", "-q", "-", "localhost/scene:1"], input=data, check=True)
        yield {"pyman": ours, "podman": theirs}
    finally:
        subprocess.run([*podman, "rm", "--all", "--force"], check=False, capture_output=True)
        subprocess.run([*podman, "rmi", "--all", "--force"], check=False, capture_output=True)
        shutil.rmtree(place)


def _listed(archive: bytes) -> list[str]:
    """Owner, mode, name and size of all that is in an archive."""
    if not archive:
        return []
    options = ["--numeric-owner", "--full-time", "-tv"]
    text = subprocess.run(["tar", *options], input=archive, capture_output=True, check=True).stdout.decode()
    return sorted(line.rstrip("/") for line in text.splitlines())


def test_what_goes_in_is_the_same(both: dict[str, Callable[..., tuple[int, bytes]]], tmp_path: Path) -> None:
    make_source(tmp_path)
    for path in (*tmp_path.rglob("*"), tmp_path):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)
    create = (
        "create",
        "--name",
        "c",
        "--network",
        "none",
        "-w",
        "/srv",
        "--user",
        "worker",
        "localhost/scene:1",
    )
    wrong = []
    for case in INTO:
        seen = {}
        for name, call in both.items():
            assert call(*create, "true")[0] == 0
            status, _ = call("cp", *case.options, f"{tmp_path}/{case.source}", f"c:{case.target}")
            copied = call("cp", f"c:{case.expected}", "-")[1] if case.expected else b""
            seen[name] = status, _listed(copied)
            assert call("rm", "c")[0] == 0
        if seen["pyman"] != seen["podman"]:
            wrong.append((case, seen))
    assert not wrong


def test_what_comes_out_is_the_same(
    both: dict[str, Callable[..., tuple[int, bytes]]], tmp_path: Path
) -> None:
    create = ("create", "--name", "c", "--network", "none", "-w", "/srv", "localhost/scene:1", "true")
    assert [call(*create)[0] for call in both.values()] == [0, 0]
    wrong = []
    for case in OUT_OF:
        seen = {}
        for name, call in both.items():
            target = tmp_path / "target"
            (target / "kept").mkdir(parents=True)
            (target / "there").write_text("old\n")
            (target / "link").symlink_to("there")
            (target / "dir").write_text("old\n")
            status, _ = call("cp", *case.options, f"c:{case.source}", f"{target}{case.target}")
            files = {
                str(path.relative_to(target)): path.read_text()
                for path in target.rglob("*")
                if path.is_file()
            }
            seen[name] = status, files
            shutil.rmtree(target)
        if seen["pyman"] != seen["podman"]:
            wrong.append((case, seen))
    assert not wrong
