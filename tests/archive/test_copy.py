"""The program that copies, against trees that want to lead it out of themselves, change meanwhile, or have no end."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyman.errors import InvalidArgument, NotFound, NotSupported, PymanError
from supervisor.archive import copies
from supervisor.archive.copies import Archive, At, Inside, Mount, Open
from tests.support.copying import archive

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has mounts of its own here")

OWNER = (0, 0)


@pytest.fixture
def place() -> Iterator[Path]:
    """Two roots, and something outside of both that is not to be reached."""
    made = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    for name in ("one/srv/dir", "two/srv", "outside"):
        (made / name).mkdir(parents=True)
    (made / "outside" / "secret").write_text("secret")
    (made / "one" / "srv" / "file").write_text("one")
    try:
        yield made
    finally:
        subprocess.run(["rm", "-rf", made], check=True)  # deeper than Python goes


def at(place: Path, root: str, path: str, *, contents: bool = False, **more: object) -> At:
    return At(Inside(root, path=str(place / root), **more), path, contents)  # type: ignore[arg-type]


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def test_links_lead_where_they_lead_in_the_root(place: Path) -> None:
    srv, outside = place / "one" / "srv", place / "outside"
    (srv / "absolute").symlink_to(outside)
    (srv / "up").symlink_to("../../outside")
    (srv / "loop").symlink_to("loop")
    (srv / "root").symlink_to("/../../../srv/dir")
    with opened(srv / "file") as file:
        for path in ("/srv/absolute/x", "/srv/up/x"):
            with pytest.raises(NotFound):
                await copies.copy(Open(file, "file"), at(place, "one", path), owner=OWNER)
        with pytest.raises(PymanError, match="symbolic links"):
            await copies.copy(Open(file, "file"), at(place, "one", "/srv/loop"), owner=OWNER)
        await copies.copy(Open(file, "file"), at(place, "one", "/srv/root/../../../../srv/root"), owner=OWNER)
    assert (srv / "dir" / "file").read_text() == "one"
    with opened(place / "two") as target:
        for path in ("/srv/absolute/secret", "/srv/up/secret", "/../outside/secret", "/proc/self/root/tmp"):
            with pytest.raises(NotFound):
                await copies.copy(at(place, "one", path), Open(target, "x"), owner=OWNER)
    assert os.listdir(outside) == ["secret"]


async def test_an_archive_goes_nowhere_else(place: Path) -> None:
    srv, outside = place / "one" / "srv", place / "outside"
    (srv / "absolute").symlink_to(outside)
    data = place / "a.tar"
    for members in (
        [("absolute/x", b"1")],
        [("link", str(outside)), ("link/x", b"1")],
        [("link", "../../outside"), ("link/x", b"1")],
    ):
        data.write_bytes(archive(*members))
        with opened(data) as file, pytest.raises(PymanError):
            await copies.copy(Archive(file), at(place, "one", "/srv"), owner=OWNER)
    assert os.listdir(outside) == ["secret"]


@contextmanager
def swapping(directory: Path, other: str, *targets: str) -> Iterator[None]:
    """A directory that is a link every other moment, which goes by another name meanwhile."""
    over = threading.Event()
    link = directory.with_name(other)
    exchange = ctypes.CDLL(None, use_errno=True).renameat2

    def swap() -> None:
        number = 0
        while not over.is_set():
            link.symlink_to(targets[number % len(targets)])
            number += 1
            for _ in range(2):
                assert exchange(-100, bytes(link), -100, bytes(directory), 2) == 0
            link.unlink()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(place: Path) -> None:
    """Neither out of the root nor into the other one, whoever of the two does it."""
    source, target, outside = place / "one" / "srv" / "dir", place / "two" / "srv" / "dir", place / "outside"
    (place / "two" / "secret").mkdir()
    (place / "two" / "secret" / "secret").write_text("secret")
    for number in range(20):
        (source / f"f{number}").write_text("one")
    target.mkdir()
    links = (str(outside), "../../outside", "/0/srv", "/1/secret", "../../1/secret", "/proc/self/root")
    copied = 0
    with swapping(source, "a", *links), swapping(target, "b", *links):
        for _ in range(30):
            try:
                await copies.copy(at(place, "one", "/srv"), at(place, "two", "/"), owner=OWNER)
                copied += 1
            except PymanError:
                pass
    assert os.listdir(outside) == ["secret"]
    assert os.listdir(place / "two" / "secret") == ["secret"]
    assert len([path for path in place.rglob("secret") if path.is_file()]) == 2
    assert not list(place.rglob(".pyman-*"))


async def test_out_of_a_root_that_changes_come_its_own_files_alone(place: Path) -> None:
    source, outside = place / "one" / "srv" / "dir", place / "outside"
    (source / "secret").write_text("own")
    with swapping(source, "a", str(outside), "../../outside", "/proc/1/root/etc"):
        for number in range(20):
            (place / f"to{number}").mkdir()
            with opened(place / f"to{number}") as target:
                try:
                    await copies.copy(at(place, "one", "/srv"), Open(target), owner=OWNER)
                except PymanError:
                    continue
    texts = {path.read_text() for path in place.glob("to*/**/secret") if path.is_file()}
    assert texts <= {"own"}


async def test_what_is_too_deep_is_refused(place: Path) -> None:
    deep = os.open(place / "one" / "srv" / "dir", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=deep)
        inner = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    with opened(place / "two") as target, pytest.raises(NotSupported, match="within one another"):
        await copies.copy(at(place, "one", "/srv"), Open(target), owner=OWNER)
    with pytest.raises(NotFound):
        await copies.copy(at(place, "one", "/x/" * 500), at(place, "two", "/"), owner=OWNER)


async def test_what_is_mounted_belongs_to_the_root(place: Path) -> None:
    """Also where there is no place for it yet, which is made for nobody but who goes there."""
    mounts = [
        Mount("/mounted", str(place / "outside")),
        Mount("/srv/dir", str(place / "outside"), readonly=True),
        Mount("/other/deep", str(place / "two"), "srv"),
    ]
    with opened(place / "one" / "srv" / "file") as file:

        async def put(path: str) -> None:
            await copies.copy(Open(file, "file"), at(place, "one", path, mounts=mounts), owner=OWNER)

        await put("/mounted/new")
        assert (place / "outside" / "new").read_text() == "one"
        with pytest.raises(PymanError, match="Read-only"):
            await put("/srv/dir/new")
        assert not (place / "one" / "other").exists()
        await put("/other/deep/")
        assert (place / "two" / "srv" / "file").read_text() == "one"
    assert os.listdir(place / "one" / "mounted") == []


async def test_unseen_places_are_refused_by_any_way(place: Path) -> None:
    (place / "one" / "way").symlink_to("srv/dir")
    with opened(place / "one" / "srv" / "file") as file:
        for path in ("/srv/dir", "/srv/dir/x", "/way/x", "/srv/./dir/../dir/"):
            with pytest.raises(NotSupported, match="only while it runs"):
                await copies.copy(
                    Open(file, "file"), at(place, "one", path, unseen=["/srv/dir"]), owner=OWNER
                )


async def test_a_copy_within_what_is_copied_is_refused_however_it_is_reached(place: Path) -> None:
    mounts = [Mount("/again", str(place / "one" / "srv"))]
    with opened(place / "one") as host:
        for path in ("/srv/dir", "/again/dir"):
            with pytest.raises(InvalidArgument, match="into itself"):
                await copies.copy(Open(host, "one"), at(place, "one", path, mounts=mounts), owner=OWNER)
