"""Places in arguments, as the supervisor is told them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pyman.cli.places import placed, to_read, to_write
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_are_absolute_and_everything_else_is_as_it_was(here: Path) -> None:
    assert placed("oci:a/../b:name:1") == f"oci:{here}/b:name:1"
    assert placed("dir:with:colon") == f"dir:{here}/with:colon"
    assert placed("docker-archive:a.tar:@1") == f"docker-archive:{here}/a.tar:@1"
    assert placed("docker-archive:a.tar:b:1") == f"docker-archive:{here}/a.tar:b:1"
    assert placed("oci-archive:/a.tar") == "oci-archive:/a.tar"
    for same in (
        "alpine:1",
        "docker://a/b",
        "containers-storage:a",
        "localhost:5000/a",
        "oci:",
        "dir:",
        "oci",
        "",
    ):
        assert placed(same) == same


def test_an_archive_is_opened_by_the_one_who_names_it(here: Path) -> None:
    (here / "a.tar").write_bytes(b"archive")
    with to_read("docker-archive:a.tar:name") as (descriptor,):
        assert os.read(descriptor, 10) == b"archive"
    for other in ("alpine", "oci:a", "dir:a.tar"):
        with to_read(other) as none:
            assert none == ()
    with pytest.raises(InvalidArgument):
        to_read("oci-archive:absent")


def test_only_what_is_no_file_is_opened_for_writing(here: Path) -> None:
    (here / "a.tar").write_bytes(b"archive")
    for text in ("docker-archive:a.tar", "docker-archive:absent", "oci:a", "alpine"):
        with to_write(text) as none:
            assert none == ()
    with to_write("docker-archive:/dev/null") as (descriptor,):
        assert os.write(descriptor, b"x") == 1
