"""The place where a container that is nobody to its engine reaches its root filesystem."""

from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest

from supervisor.kernel import mounts
from supervisor.kernel.idmaps import IdRange
from supervisor.settings.layout import Layout
from supervisor.settings.load import load
from supervisor.settings.model import Options
from supervisor.storage import reach
from supervisor.storage.others import maps_of_others

if TYPE_CHECKING:
    from pathlib import Path

IDS = [f"{number:064x}" for number in range(16)]
OWNER = (300_000, 400_000)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(load(Options(root=str(tmp_path / "root"), tmpdir=str(tmp_path / "tmp")), {}, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Below a directory that nobody else may enter."""
    made = tmp_path / "closed/root"
    made.mkdir(parents=True)
    (made / "file").write_text("here")
    made.parent.chmod(0o700)
    return made


def _readable(path: str, uid: int, gid: int) -> bool:
    argv = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "cat", path]
    return subprocess.run(argv, capture_output=True, check=False).stdout == b"here"


def test_the_containers_root_alone_passes(layout: Layout, root: Path) -> None:
    place = reach.show(layout, IDS[0], str(root), OWNER)
    try:
        assert _readable(f"{place}/file", *OWNER)
        assert not _readable(f"{root}/file", *OWNER)
        assert not _readable(f"{place}/file", OWNER[0] + 1, OWNER[1])
        own = os.stat(os.path.dirname(place))
        assert (own.st_uid, own.st_gid, stat.S_IMODE(own.st_mode)) == (*OWNER, 0o700)
        for above in (os.path.dirname(os.path.dirname(place)), "/run/pyman-roots"):
            assert stat.S_IMODE(os.stat(above).st_mode) == 0o711, "others may pass, and list nothing"
        assert reach.shown(layout) == {os.path.dirname(place): IDS[0]}
        assert reach.mounted_below(layout) == {place: IDS[0], os.path.dirname(place): IDS[0]}
    finally:
        reach.hide(layout, IDS[0])
    assert not os.path.lexists(os.path.dirname(place))
    assert (root / "file").read_text() == "here"


def test_the_containers_user_outside_can_change_nothing_on_the_way(
    layout: Layout, root: Path, tmp_path: Path
) -> None:
    """Neither have the root filesystem mounted elsewhere nor keep the place."""
    place = reach.show(layout, IDS[0], str(root), OWNER)
    own = os.path.dirname(place)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    change = f"mkdir {own}/more; mv {place} {own}/moved; rmdir {own}/moved; ln -s {elsewhere} {place}; chmod 777 {own}"
    argv = ["setpriv", f"--reuid={OWNER[0]}", f"--regid={OWNER[1]}", "--clear-groups", "sh", "-c", change]
    mounts.unmount(place)
    subprocess.run(argv, capture_output=True, check=False)
    try:
        assert reach.show(layout, IDS[0], str(root), OWNER) == place
        assert os.listdir(elsewhere) == []
        assert mounts.mounts_below(str(tmp_path)) == []
    finally:
        reach.hide(layout, IDS[0])
        mounts.unmount(str(elsewhere))
    assert not os.path.lexists(own)


def test_what_a_killed_supervisor_has_half_done_is_done_anew(layout: Layout, root: Path) -> None:
    own = os.path.dirname(reach.show(layout, IDS[0], str(root), OWNER))
    mounts.unmount(f"{own}/rootfs")
    place = reach.show(layout, IDS[0], str(root), OWNER)
    assert _readable(f"{place}/file", *OWNER)
    assert len(reach.mounted_below(layout)) == 2
    reach.hide(layout, IDS[0])
    assert reach.mounted_below(layout) == {}


def test_showing_and_hiding_twice_is_once(layout: Layout, root: Path) -> None:
    first = reach.show(layout, IDS[0], str(root), OWNER)
    assert reach.show(layout, IDS[0], str(root), OWNER) == first
    assert list(reach.mounted_below(layout)) == [first, os.path.dirname(first)]
    reach.hide(layout, IDS[0])
    reach.hide(layout, IDS[0])
    assert reach.shown(layout) == {}


def test_many_come_and_go_at_once(layout: Layout, root: Path) -> None:
    """Whoever goes last takes the directories above along, just when another one comes."""

    def come_and_go(id: str) -> None:
        for _ in range(30):
            assert mounts.mounted(reach.show(layout, id, str(root), OWNER))
            reach.hide(layout, id)

    with ThreadPoolExecutor(len(IDS)) as pool:
        list(pool.map(come_and_go, IDS))
    assert reach.shown(layout) == {}


def test_engines_do_not_see_one_anothers(layout: Layout, root: Path) -> None:
    other = msgspec.structs.replace(layout, roots_name="other")
    reach.show(layout, IDS[0], str(root), OWNER)
    assert reach.shown(other) == {}
    reach.hide(other, IDS[0])
    assert reach.shown(layout)
    reach.hide(layout, IDS[0])


# What other engines have


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[1]", '[{"uidmap": "x"}]', "[" * 100_000, "\0"])
def test_records_that_are_none_count_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "overlay-containers").mkdir()
    (tmp_path / "overlay-containers/containers.json").write_text(text)
    assert maps_of_others(str(tmp_path)) == []


def test_a_line_without_ids_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "overlay-containers").mkdir()
    lines = ", ".join(
        f'{{"container_id": 0, "host_id": {id}, "size": {size}}}' for id, size in ((5, -5), (9, 0), (7, 2))
    )
    (tmp_path / "overlay-containers/containers.json").write_text(f'[{{"uidmap": [{lines}]}}]')
    assert maps_of_others(str(tmp_path)) == [((IdRange(0, 7, 2),), ())]


def test_records_without_a_map_are_fine(tmp_path: Path) -> None:
    (tmp_path / "overlay-containers").mkdir()
    (tmp_path / "overlay-containers/volatile-containers.json").write_text('[{"id": "x", "names": ["y"]}]')
    assert maps_of_others(str(tmp_path)) == [((), ())]
