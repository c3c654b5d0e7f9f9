"""How trees differ that layers show, without mounting them."""

from __future__ import annotations

import json
import os
import tarfile
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from pyman.errors import StorageFailed
from supervisor.archive import jobs
from tests.archive.layers import Layer, unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.archive.podman import Podman

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the marks of an overlay")


def base() -> Layer:
    return (
        Layer()
        .directory("etc")
        .file("etc/passwd", b"1")
        .file("etc/mode")
        .file("etc/owner")
        .file("etc/time")
        .file("etc/content", b"abc")
        .file("etc/attribute", pax_headers={"SCHILY.xattr.user.word": "said"})
        .file("etc/same", b"same")
        .symlink("etc/link", "passwd")
        .directory("gone")
        .directory("gone/deep")
        .file("gone/deep/file")
        .directory("was-directory")
        .file("was-directory/file")
        .file("was-file", b"file")
        .directory("was-link")
        .directory("quiet")
        .directory("quiet/inner")
        .file("quiet/inner/file", b"x")
        .member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        .directory("old")
        .file("old/one")
        .file("old/two")
    )


def other() -> Layer:
    """Made by somebody else, with much in common."""
    return (
        Layer()
        .directory("etc")
        .file("etc/passwd", b"1")
        .file("etc/mode", mode=0o600)
        .file("etc/owner", uid=7, gid=8)
        .file("etc/time", mtime=1_600_000_001)
        .file("etc/content", b"abcd")
        .file("etc/attribute", pax_headers={"SCHILY.xattr.user.word": "other"})
        .file("etc/same", b"same")
        .symlink("etc/link", "group")
        .file("was-directory", b"file")
        .directory("was-file")
        .file("was-file/inside")
        .symlink("was-link", "/etc")
        .directory("quiet")
        .directory("quiet/inner")
        .file("quiet/inner/file", b"x")
        .file("quiet/inner/more", b"x")
        .member("null", tarfile.CHRTYPE, devmajor=1, devminor=5)
        .directory("old", mode=0o700)
        .file("old/three")
    )


def above() -> list[Layer]:
    """What goes upon the base."""
    return [
        Layer()
        .directory("etc")
        .file("etc/.wh.passwd")
        .file(".wh.gone")
        .directory("old")
        .file("old/.wh..wh..opq")
        .file("old/four"),
        Layer()
        .directory("gone")
        .file("gone/new")
        .file("was-file", b"longer")
        .directory("quiet")
        .directory("quiet/inner", mode=0o750)
        .file("quiet/inner/file", b"yy"),
    ]


# Every directory is named, as 4.3 does not look at their times.
IMAGES = {
    "base": [base()],
    "other": [other()],
    "above": [base(), *above()],
    "upon-other": [other(), Layer().file(".wh.etc").file("fresh")],
    "empty": [Layer().directory("etc")],
}
LAYERS = {name: [layer.data() for layer in layers] for name, layers in IMAGES.items()}


async def trees(place: Path) -> dict[str, list[str]]:
    """The directories of the layers of all images, topmost first; what is the same layer is so once."""
    made: dict[tuple[bytes, ...], str] = {}
    found = {}
    for name, layers in LAYERS.items():
        chain = []
        for number in range(len(layers)):
            key = tuple(layers[: number + 1])
            if key not in made:
                directory = place / str(len(made))
                directory.mkdir()
                await unpacked(layers[number], directory)
                made[key] = str(directory / "diff")
            chain.append(made[key])
        found[name] = chain[::-1]
    return found


async def test_what_is_told_is_what_podman_tells_of_two_images(podman: Podman, tmp_path: Path) -> None:
    for name, layers in LAYERS.items():
        podman.load(layers, f"localhost/{name}:latest")
    chains = await trees(tmp_path)
    for new, old in permutations(IMAGES, 2):
        told = podman.run("image", "diff", "--format", "json", f"localhost/{new}", f"localhost/{old}").stdout
        theirs = json.loads(told)
        ours = await jobs.compare(chains[new], chains[old])
        assert (new, old, ours.changed, ours.added, ours.deleted) == (
            new,
            old,
            *(sorted(theirs.get(kind) or []) for kind in ("changed", "added", "deleted")),
        )


async def test_each_kind_of_change_is_seen(tmp_path: Path) -> None:
    chains = await trees(tmp_path)
    found = await jobs.compare(chains["other"], chains["base"])
    etc = {"attribute", "content", "link", "mode", "owner", "time"}
    assert set(found.changed) == {
        *("/etc", *(f"/etc/{name}" for name in etc), "/null", "/old", "/quiet", "/quiet/inner"),
        *("/was-directory", "/was-file", "/was-link"),
    }
    assert found.added == ["/old/three", "/quiet/inner/more", "/was-file/inside"]
    assert found.deleted == ["/gone", "/old/one", "/old/two"]
    same = await jobs.compare(chains["above"], chains["above"])
    assert same == jobs.Changes([], [], [])
    nothing = await jobs.compare(chains["empty"], [])
    assert nothing == jobs.Changes([], ["/etc"], [])


async def test_fractions_of_a_second_count_where_both_have_them(tmp_path: Path) -> None:
    times = {"whole": 1_000_000_000, "part": 1_000_000_700, "other-part": 1_000_000_701}
    for name, time in times.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name / "file", ns=(0, time))
    one, two, three = (str(tmp_path / name) for name in times)
    assert (await jobs.compare([one], [two])).changed == []
    assert (await jobs.compare([two], [three])).changed == ["/file"]


async def test_the_time_of_a_directory_counts_too(tmp_path: Path) -> None:
    """Podman 4.3 does not see it, newer ones do."""
    for name, time in (("new", 1), ("old", 2)):
        (tmp_path / name / "directory").mkdir(parents=True)
        os.utime(tmp_path / name / "directory", (time, time))
    found = await jobs.compare([str(tmp_path / "new")], [str(tmp_path / "old")])
    assert found == jobs.Changes(["/directory"], [], [])


async def test_targets_of_links_count_also_where_they_are_as_long(tmp_path: Path) -> None:
    """Podman 4.3 does not see it, newer ones do."""
    for name, target in (("new", "one"), ("old", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(target)
        os.utime(tmp_path / name / "link", (0, 0), follow_symlinks=False)
    found = await jobs.compare([str(tmp_path / "new")], [str(tmp_path / "old")])
    assert found.changed == ["/link"]


async def test_links_lead_nowhere(tmp_path: Path) -> None:
    """A directory of one tree is a link out of the other, and the reverse; a link leads to itself."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "new/etc").symlink_to("/etc")
    (tmp_path / "old/etc").mkdir()
    (tmp_path / "old/etc/passwd").touch()
    (tmp_path / "new/proc").mkdir()
    (tmp_path / "new/proc/1").symlink_to("/proc/1")
    (tmp_path / "old/proc").symlink_to("../../../../proc")
    (tmp_path / "new/self").symlink_to("self")
    found = await jobs.compare([str(tmp_path / "new")], [str(tmp_path / "old")])
    assert found == jobs.Changes(["/etc", "/proc"], ["/proc/1", "/self"], [])


async def test_names_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    inner = tmp_path / "new" / "/".join(["n" * 250] * 14)
    inner.mkdir(parents=True)
    directory = os.open(inner, os.O_PATH)
    for number in range(10_000):
        os.mknod(f"{number:04}", 0o100644, dir_fd=directory)
    os.close(directory)
    with pytest.raises(StorageFailed, match="their names have more than"):
        await jobs.compare([str(tmp_path / "new")], [str(tmp_path / "old")])
