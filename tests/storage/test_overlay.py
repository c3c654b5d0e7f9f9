"""Whether the kernel or fuse-overlayfs makes views is found out once, and told in one sentence if neither does."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from pyman.errors import DiskFull, InternalError, OverlayUnavailable, StorageFailed
from supervisor.kernel import ancestry, children, mounts
from supervisor.kernel.idmaps import IdRange
from supervisor.settings.layout import Layout
from supervisor.settings.load import Options, load
from supervisor.storage import fuse
from supervisor.storage.overlay import Overlays, Way
from tests.support.leaks import mounts_about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Overlays]:
    def made(uid: int = 0, options: tuple[str, ...] | None = None) -> Overlays:
        chosen = Options(root=f"{tmp_path}/root", tmpdir=f"{tmp_path}/tmp", storage_opt=options)
        environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "CONTAINERS_CONF": "/dev/null"}
        settings = load(chosen, environ, uid)
        layout = Layout.of(settings)
        os.makedirs(layout.static, exist_ok=True)
        return Overlays(settings, layout)

    return made


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """The kernel refuses with that error; a list that grows with its being asked."""
    asked = []

    def detached(*_: object) -> int:
        asked.append(number)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(mounts, "detached_overlay", detached)
    return asked


@pytest.mark.parametrize("uid", [0, 1000])
def test_this_kernel_makes_them_and_is_asked_without_a_trace(
    make: Callable[..., Overlays], tmp_path: Path, uid: int
) -> None:
    overlays = make(uid)
    before = mounts_about(tmp_path)
    assert overlays.way() == Way()
    assert overlays.way().native
    assert mounts_about(tmp_path) == before
    assert os.listdir(tmp_path / "root/pyman") == []


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Path]:
    """Where the engine's storage will be: a file system that has no extended attributes."""
    place = tmp_path / "root"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", place], check=True)
    yield place
    mounts.unmount(str(place), lazy=True)


@pytest.mark.parametrize("uid", [0, 1000])
async def test_a_file_system_without_attributes_gets_the_program(
    make: Callable[..., Overlays], bare: Path, tmp_path: Path, uid: int
) -> None:
    if not fuse.find() or fuse.unusable(fuse.find()):
        pytest.skip("needs fuse-overlayfs")
    ancestry.become_subreaper()
    overlays = make(uid)
    way = await trio.to_thread.run_sync(overlays.way)
    assert way.program == fuse.find()
    assert way.refusal
    target = tmp_path / "containers/one/rootfs"
    for path in (target, bare / "upper", bare / "work", tmp_path / "lower/directory/inside"):
        path.mkdir(parents=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(children.reap_orphans, lambda _ref, _status: None)
        mount = partial(
            overlays.mount, str(target), [str(tmp_path / "lower")], f"{bare}/upper", f"{bare}/work"
        )
        await trio.to_thread.run_sync(mount)
        try:
            assert overlays.ready(str(target))
            shutil.rmtree(target / "directory")
            (target / "directory").mkdir()
            assert os.listdir(target / "directory") == []
        finally:
            await trio.to_thread.run_sync(overlays.unmount, str(target))
            nursery.cancel_scope.cancel()
    assert not overlays.ready(str(target))
    assert (tmp_path / "lower/directory/inside").is_dir()


@pytest.mark.parametrize(
    "number",
    [errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV, errno.ENOSYS, errno.EIO],
)
def test_a_refusal_leads_to_the_program_and_is_not_asked_for_again(
    make: Callable[..., Overlays], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = refuse(monkeypatch, number)
    monkeypatch.setattr(fuse, "find", lambda: "/bin/true")
    monkeypatch.setattr(fuse, "unusable", lambda _program: "")
    overlays = make(1000)
    expected = Way("/bin/true", os.strerror(number).lower())
    assert [overlays.way(), overlays.way()] == [expected, expected]
    assert asked == [number]


def test_a_full_disk_is_no_refusal(
    make: Callable[..., Overlays], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overlays = make(1000)
    with monkeypatch.context() as patched:
        refuse(patched, errno.ENOSPC)
        with pytest.raises(DiskFull, match="cannot try an overlay in"):
            overlays.way()
    assert os.listdir(tmp_path / "root/pyman") == []
    assert overlays.way().native


def test_neither_is_one_error_with_both_reasons_and_the_program_is_found_once_it_is_there(
    make: Callable[..., Overlays], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.EPERM)
    monkeypatch.setattr(fuse, "find", lambda: "")
    overlays = make(1000)
    with pytest.raises(OverlayUnavailable) as refused:
        overlays.way()
    assert "the kernel refuses overlays" in refused.value.message
    assert "(operation not permitted), and fuse-overlayfs is not installed" in refused.value.message
    assert refused.value.hint.startswith("install fuse-overlayfs")
    assert refused.value.code == "OverlayUnavailable"
    monkeypatch.setattr(fuse, "find", lambda: "/bin/true")
    monkeypatch.setattr(fuse, "DEVICE", "/dev/no-such-device")
    with pytest.raises(OverlayUnavailable, match="/dev/no-such-device cannot be opened: No such file"):
        overlays.way()
    monkeypatch.setattr(fuse, "DEVICE", "/dev/null")
    assert overlays.way().program == "/bin/true"


def test_a_program_of_the_settings_is_taken_without_asking_the_kernel(
    make: Callable[..., Overlays], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = refuse(monkeypatch, errno.EPERM)
    monkeypatch.setattr(fuse, "DEVICE", "/dev/null")
    assert make(0, ("mount_program=/bin/true",)).way() == Way("/bin/true")
    with pytest.raises(OverlayUnavailable, match="'/no/such' is not a program that can be executed"):
        make(0, ("overlay.mount_program=/no/such",)).way()
    assert asked == []


def test_the_kernels_way_takes_no_maps_where_no_program_does(
    make: Callable[..., Overlays], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuse, "find", lambda: "")
    with pytest.raises(InternalError, match="takes no maps of ids"):
        make().mount(str(tmp_path), ["/etc"], "/upper", "/work", uids=[IdRange(0, 1, 1)])


async def test_a_mount_point_within_the_directory_is_refused(
    make: Callable[..., Overlays], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "DEVICE", "/dev/null")
    overlays = make(0, ("mount_program=/bin/true",))
    (tmp_path / "link").symlink_to(tmp_path)
    for lower in ("/", str(tmp_path), str(tmp_path / "link")):
        mount = partial(overlays.mount, str(tmp_path / "x"), ["/etc", lower], "/upper", "/work")
        with pytest.raises(StorageFailed, match="its mount point lies in it"):
            await trio.to_thread.run_sync(mount)
