"""The file that an archive is written to: whole under its name, or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from pyman.cli.output_file import OutputFile
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["unnamed", "beside"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory, with and without a file system that knows files without a name."""
    if request.param == "beside":
        real = os.open

        def refuse(path: str, flags: int, mode: int = 0o777, **options: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "not supported")
            return real(path, flags, mode, **options)

        monkeypatch.setattr("pyman.cli.output_file.os.open", refuse)
    mask = os.umask(0o027)
    yield tmp_path
    os.umask(mask)


def test_it_appears_when_it_is_whole(place: Path) -> None:
    with OutputFile(str(place / "a.tar")) as file:
        os.write(file.fileno(), b"whole")
        assert not (place / "a.tar").exists()
        file.keep()
    assert [path.name for path in place.iterdir()] == ["a.tar"]
    assert (place / "a.tar").read_bytes() == b"whole"
    assert stat.S_IMODE((place / "a.tar").stat().st_mode) == 0o640


def test_what_was_not_finished_leaves_nothing(place: Path) -> None:
    (place / "old.tar").write_bytes(b"old")
    for name in ("a.tar", "old.tar"):
        with contextlib.suppress(KeyboardInterrupt), OutputFile(str(place / name)) as file:
            os.write(file.fileno(), b"half")
            raise KeyboardInterrupt
    assert [path.name for path in place.iterdir()] == ["old.tar"]
    assert (place / "old.tar").read_bytes() == b"old"


def test_what_is_there_is_replaced_and_keeps_its_mode(place: Path) -> None:
    (place / "real.tar").write_bytes(b"old and longer")
    (place / "real.tar").chmod(0o604)
    (place / "link.tar").symlink_to("real.tar")
    with OutputFile(str(place / "link.tar")) as file:
        os.write(file.fileno(), b"new")
        file.keep()
    assert (place / "link.tar").is_symlink()
    assert (place / "real.tar").read_bytes() == b"new"
    assert stat.S_IMODE((place / "real.tar").stat().st_mode) == 0o604
    assert len(list(place.iterdir())) == 2


def test_a_pipe_is_written_to_directly(place: Path) -> None:
    os.mkfifo(place / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((place / "pipe").read_bytes()))
    reader.start()
    with OutputFile(str(place / "pipe")) as file:
        os.write(file.fileno(), b"through")
        file.keep()
    reader.join()
    assert read == [b"through"]
    assert stat.S_ISFIFO((place / "pipe").stat().st_mode)


@pytest.mark.parametrize(
    "name, reason",
    [("none/a.tar", "No such file or directory"), (".", "Is a directory"), ("f/a", "Not a directory")],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(
    place: Path, name: str, reason: str
) -> None:
    (place / "f").touch()
    with pytest.raises(InvalidArgument, match=f"cannot write '.*': {reason}"), OutputFile(str(place / name)):
        pass
