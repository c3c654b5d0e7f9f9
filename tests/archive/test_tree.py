"""New archives of trees, and of what a container has changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import StorageFailed
from supervisor.archive import jobs
from supervisor.kernel import mounts
from supervisor.kernel.idmaps import IdRange
from tests.archive.layers import Layer, digest_of, tree_of, unpacked, written
from tests.archive.test_podman import CAPABILITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.archive.podman import Podman

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount an overlay")


def base(place: Path) -> list[str]:
    """Two layers, the nearest first."""
    for name in ("one/etc/old", "one/gone", "one/both/a", "two/both/b", "one/etc/deep/er"):
        (place / name).mkdir(parents=True)
    for name in (
        "one/etc/passwd",
        "one/etc/old/file",
        "one/gone/file",
        "one/both/a/f",
        "two/both/b/f",
        "two/top",
    ):
        (place / name).write_text(name)
    return [str(place / "two"), str(place / "one")]


def change(root: Path) -> None:
    """What a container does."""
    (root / "etc/passwd").write_text("changed")
    subprocess.run(["rm", "-r", root / "gone", root / "etc/old", root / "both/a/f"], check=True)
    (root / "etc/old").mkdir()
    (root / "etc/old/new").write_text("new")
    (root / "fresh").mkdir(mode=0o700)
    (root / "fresh/file").write_bytes(b"x" * 1000)
    os.link(root / "fresh/file", root / "fresh/link")
    (root / "fresh/symlink").symlink_to("file")
    os.mkfifo(root / "fresh/pipe")
    (root / "fresh" / ("long" * 60)).write_text("long")
    os.chown(root / "fresh/file", 5, 3_000_000)
    os.setxattr(root / "fresh/file", "security.capability", CAPABILITY)
    (root / "etc/deep/er/file").write_text("deep")
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.open(root, os.O_PATH)
        made.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Callable[[list[str], str], Path]]:
    """Mounts an overlay, with an upper directory or without."""
    mounted: list[str] = []

    def mount(lower: list[str], upper: str = "") -> Path:
        target = tmp_path / f"merged-{len(mounted)}"
        target.mkdir()
        work = f"{upper}-work" if upper else ""
        if upper:
            os.makedirs(upper)
            os.makedirs(work)
        mounts.overlay(str(target), lower, upper, work)
        mounted.append(str(target))
        return target

    yield mount
    for target in mounted:
        mounts.unmount(target)


async def test_a_committed_layer_shows_the_same_tree_when_it_is_unpacked(
    overlay: Callable[..., Path], tmp_path: Path
) -> None:
    lower = base(tmp_path)
    upper = str(tmp_path / "upper")
    root = overlay(lower, upper)
    change(root)
    with written(tmp_path / "layer") as out:
        packed = await jobs.pack_tree(
            upper, out, layer=True, lowers=lower, tar_split=str(tmp_path / "split.gz"), compression="gzip"
        )
    await unpacked((tmp_path / "layer").read_bytes(), tmp_path, diff_id=packed.diff_id, digest=packed.digest)
    expected = dict(tree_of(root))
    del expected["socket"]
    assert tree_of(overlay([str(tmp_path / "diff"), *lower])) == expected
    assert os.getxattr(tmp_path / "diff/fresh/file", "security.capability") == CAPABILITY
    assert (packed.uids, packed.gids) == ([0, 5], [0, 3_000_000])


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE")
async def test_marks_of_fuse_overlayfs_are_the_same_as_the_kernels(tmp_path: Path) -> None:
    below = [
        Layer()
        .directory("etc")
        .file("etc/f")
        .directory("etc/old")
        .file("etc/old/a")
        .file("gone")
        .file("hidden/x"),
        Layer()
        .file(".wh.gone")
        .directory("etc")
        .directory("etc/old")
        .file("etc/old/.wh..wh..opq")
        .file("etc/old/new"),
    ]
    for number, layer in enumerate(below):
        (tmp_path / str(number)).mkdir()
        await unpacked(layer.data(), tmp_path / str(number), whiteouts="none")
    lower = [str(tmp_path / name / "diff") for name in ("1", "0")]
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={':'.join(lower)},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'}"
    root = tmp_path / "merged"
    mount = partial(trio.run_process, capture_stderr=True)
    await mount(["fuse-overlayfs", "-o", options, str(root)])
    try:
        assert set(tree_of(root)) == {"etc", "etc/f", "etc/old", "etc/old/new", "hidden", "hidden/x"}
        (root / "etc/f").unlink()
        (root / "etc/old/new").unlink()
        (root / "etc/old").rmdir()
        (root / "etc/old").mkdir()
        (root / "etc/old/newer").write_text("1")
        (root / "gone").mkdir()
    finally:
        await mount(["umount", str(root)])
    upper = str(tmp_path / "upper")
    with written(tmp_path / "layer") as out:
        await jobs.pack_tree(upper, out, layer=True, lowers=lower)
    names = [row[0] for row in members_of(tmp_path / "layer")]
    assert names == ["etc", "etc/.wh.f", "etc/old", "etc/old/.wh..wh..opq", "etc/old/newer", "gone"]
    assert await jobs.changes(upper, lower) == jobs.Changes(
        ["/etc"], ["/etc/old/newer", "/gone"], ["/etc/f", "/etc/old"]
    )


async def test_a_committed_layer_can_be_packed_again_from_the_upper_directory(
    overlay: Callable[..., Path], tmp_path: Path
) -> None:
    lower = base(tmp_path)
    upper = str(tmp_path / "upper")
    change(overlay(lower, upper))
    with written(tmp_path / "layer") as out:
        first = await jobs.pack_tree(
            upper, out, layer=True, lowers=lower, tar_split=str(tmp_path / "split.gz")
        )
    with written(tmp_path / "again") as out:
        second = await jobs.pack(upper, str(tmp_path / "split.gz"), out)
    assert first.digest == second.digest == digest_of((tmp_path / "layer").read_bytes())


async def test_a_tree_is_exported_with_the_ids_of_the_container_and_without_what_is_excluded(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    (root / "dev/inner").mkdir(parents=True)
    (root / "dev-other").write_text("stays")
    (root / "file").write_text("data")
    for path in (root, root / "dev-other", root / "file"):
        os.chown(path, 100_007, 200_000)
    os.mknod(root / "whiteout", 0o020000, 0)
    os.chown(root / "whiteout", 100_000, 200_000)
    with written(tmp_path / "out") as out:
        await jobs.pack_tree(
            str(root), out, uids=[IdRange(0, 100_000, 10)], gids=[IdRange(3, 200_000, 1)], exclude=["/dev"]
        )
    with tarfile.open(tmp_path / "out") as tar:
        found = {member.name: (member.uid, member.gid, member.type) for member in tar}
    assert found == {
        "dev-other": (7, 3, tarfile.REGTYPE),
        "file": (7, 3, tarfile.REGTYPE),
        "whiteout": (0, 3, tarfile.CHRTYPE),
    }
    with written(tmp_path / "out2") as out, pytest.raises(StorageFailed, match="does not exist in the"):
        await jobs.pack_tree(str(root), out, uids=[IdRange(0, 1, 1)])


async def test_the_same_tree_gives_the_same_archive(tmp_path: Path) -> None:
    base(tmp_path / "tree")
    digests = set()
    for name in ("a", "b"):
        with written(tmp_path / name) as out:
            digests.add((await jobs.pack_tree(str(tmp_path / "tree"), out, compression="zstd")).digest)
    assert len(digests) == 1


async def test_changes_are_told_as_podman_diff_tells_them(podman: Podman) -> None:
    layers = [
        Layer()
        .directory("etc")
        .directory("etc/old")
        .file("etc/passwd", b"1")
        .file("etc/old/file")
        .directory("gone")
        .file("gone/file")
        .directory("both")
        .directory("both/a")
        .file("both/a/f")
        .directory("etc/deep")
        .directory("etc/deep/er")
        .file("gone-already/file")
        .data(),
        Layer()
        .directory("both")
        .directory("both/b")
        .file("both/b/f")
        .file("top")
        .file(".wh.gone-already")
        .data(),
    ]
    podman.load(layers)
    created = podman.run("create", "--network", "none", "localhost/layers", "true").stdout.decode().strip()
    root = podman.run("mount", created).stdout.decode().strip()
    try:
        change(Path(root))
        (Path(root) / "gone-already").mkdir()
        (Path(root) / "top").chmod(0o600)
        theirs = json.loads(podman.run("diff", "--format", "json", created).stdout)
        upper = next(
            line.split("upperdir=")[1].split(",")[0].split(" ")[0]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f" {root} " in line
        )
        lowers = [str(podman.layer(layer)[0]) for layer in reversed(layers)]
        (podman.place / "commit.tar").touch()
        with written(podman.place / "ours.tar") as out:
            await jobs.pack_tree(upper, out, layer=True, lowers=lowers)
        ours = await jobs.changes(upper, lowers)
    finally:
        podman.run("umount", created)
    assert {key: sorted(theirs.get(key) or []) for key in ("changed", "added", "deleted")} == {
        "changed": ours.changed,
        "added": ours.added,
        "deleted": ours.deleted,
    }
    podman.run("commit", "--quiet", "--format", "docker", created, "localhost/committed")
    (podman.place / "theirs.tar").write_bytes(podman.saved("localhost/committed")[-1])
    assert members_of(podman.place / "ours.tar") == members_of(podman.place / "theirs.tar")


def members_of(path: Path) -> list[tuple[str, bytes, int, int, int, int, int, str]]:
    """Podman gives its white-outs a target, as they are links to one another on the disk."""
    with tarfile.open(path) as tar:
        return sorted(
            (
                m.name,
                m.type,
                m.mode & 0o7777,
                m.uid,
                m.gid,
                m.size,
                int(m.mtime),
                "" if m.isfile() else m.linkname,
            )
            for m in tar
        )
