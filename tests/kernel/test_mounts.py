"""Mounts are made with any name and any number of layers, and undone without complaint."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from tests.support.leaks import mounts_about

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextmanager
def undone(*targets: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for target in targets:
            while mounts.mounted(str(target)):
                mounts.unmount(str(target), lazy=True)


def layer(path: Path, name: str) -> str:
    path.mkdir(parents=True)
    (path / name).write_text(name)
    return str(path)


@pytest.mark.parametrize("name", ["plain", "a:b,c", "back\\slash\\:", "sp ace\ttab", "ü=,lowerdir=/etc"])
def test_an_overlay_works_with_any_name(tmp_path: Path, name: str) -> None:
    here = tmp_path / name
    lower = layer(here / "lower", "below")
    target = here / "merged"
    for directory in ("upper", "work", "merged"):
        (here / directory).mkdir()
    with undone(target):
        mounts.overlay(str(target), [lower], str(here / "upper"), str(here / "work"))
        assert mounts.mounted(str(target))
        assert mounts.mounts_below(str(tmp_path)) == [str(target)]
        (target / "new").write_text("x")
        (target / "below").unlink()
        assert (here / "upper" / "new").exists()
        assert (here / "lower" / "below").exists()
        mounts.unmount(str(target))
        assert not mounts.mounted(str(target))


def test_an_overlay_of_many_long_names_works_and_the_first_layer_is_on_top(tmp_path: Path) -> None:
    layers = [layer(tmp_path / (f"{number:03}" + "l" * 120), "same") for number in range(500)]
    with open(os.path.join(layers[0], "same"), "w", encoding="ascii") as file:
        file.write("top")
    for directory in ("upper", "work", "merged"):
        (tmp_path / directory).mkdir()
    target = tmp_path / "merged"
    with undone(target):
        mounts.overlay(str(target), layers, str(tmp_path / "upper"), str(tmp_path / "work"))
        assert (target / "same").read_text() == "top"


def test_without_an_upper_directory_an_overlay_is_read_only(tmp_path: Path) -> None:
    layers = [layer(tmp_path / "a", "one"), layer(tmp_path / "b", "two")]
    target = tmp_path / "merged"
    target.mkdir()
    with undone(target):
        mounts.overlay(str(target), layers)
        assert sorted(os.listdir(target)) == ["one", "two"]
        with pytest.raises(OSError, match="Read-only"):
            (target / "new").write_text("x")


def test_a_tmpfs_has_size_and_mode_and_no_programs(tmp_path: Path) -> None:
    target = tmp_path / "shm"
    target.mkdir()
    with undone(target):
        mounts.tmpfs(str(target), size=1 << 20, mode=0o700)
        assert os.statvfs(target).f_blocks * os.statvfs(target).f_frsize == 1 << 20
        assert os.stat(target).st_mode & 0o7777 == 0o700
        program = target / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(PermissionError):
            subprocess.run([program], check=False)


def test_a_bind_shows_a_tree_elsewhere_and_can_be_read_only(tmp_path: Path) -> None:
    source = layer(tmp_path / "source", "file")
    target = tmp_path / "target"
    target.mkdir()
    with undone(target):
        mounts.bind(source, str(target), readonly=True)
        assert (target / "file").read_text() == "file"
        with pytest.raises(OSError, match="Read-only"):
            (target / "new").write_text("x")
        (tmp_path / "source" / "new").write_text("x")


def test_an_overlay_without_a_place_is_seen_by_nobody_and_ends_with_its_descriptor(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lo:w,er", "below")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    before = mounts_about(tmp_path)
    descriptor = mounts.detached_overlay(lower, str(tmp_path / "upper"), str(tmp_path / "work"))
    try:
        assert mounts_about(tmp_path) == before
        assert os.listdir(f"/proc/self/fd/{descriptor}") == ["below"]
        os.unlink("below", dir_fd=descriptor)
    finally:
        os.close(descriptor)
    assert os.listdir(tmp_path / "upper") == ["below"]
    assert os.listdir(lower) == ["below"]


def test_a_refused_overlay_without_a_place_leaves_no_descriptor(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", "below")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Invalid argument"):
        mounts.detached_overlay(lower, lower, lower, ["no-such-option"])
    assert os.listdir("/proc/self/fd") == before


def test_flags_are_those_of_the_mount(tmp_path: Path) -> None:
    lower = layer(tmp_path / "lower", "below")
    target = tmp_path / "target"
    target.mkdir()
    with undone(target):
        other = layer(tmp_path / "other", "besides")
        mounts.overlay(str(target), [lower, other], flags=["nodev", "noexec"])
        flags = os.statvfs(target).f_flag
        assert flags & (os.ST_NODEV | os.ST_NOEXEC) == os.ST_NODEV | os.ST_NOEXEC
        assert mounts.file_system_of(str(target)) == "overlay"
        assert not mounts.is_dead(str(target))
    assert mounts.file_system_of(str(tmp_path / "absent")) == ""


def test_unmounting_what_is_not_mounted_is_no_error(tmp_path: Path) -> None:
    mounts.unmount(str(tmp_path))
    mounts.unmount(str(tmp_path / "absent"), lazy=True)
    assert not mounts.mounted(str(tmp_path / "absent"))
    assert not mounts.mounted(str(tmp_path))


def test_a_busy_mount_goes_only_lazily(tmp_path: Path) -> None:
    target = tmp_path / "busy"
    target.mkdir()
    with undone(target):
        mounts.tmpfs(str(target))
        with open(target / "open", "w", encoding="ascii"):
            with pytest.raises(OSError, match="busy"):
                mounts.unmount(str(target))
            mounts.unmount(str(target), lazy=True)
            assert not mounts.mounted(str(target))


def test_mounts_below_are_found_deepest_first_and_only_below(tmp_path: Path) -> None:
    outer, inner, beside = tmp_path / "a", tmp_path / "a" / "b", tmp_path / "ab"
    for directory in (outer, beside):
        directory.mkdir()
    with undone(inner, outer, beside):
        mounts.tmpfs(str(outer))
        mounts.tmpfs(str(beside))
        inner.mkdir()
        mounts.tmpfs(str(inner))
        assert mounts.mounts_below(str(outer)) == [str(inner), str(outer)]
        assert mounts.mounts_below(str(tmp_path / "none")) == []


def test_a_failed_mount_names_its_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as info:
        mounts.tmpfs(str(tmp_path / "absent"))
    assert info.value.filename == str(tmp_path / "absent")
