"""`pyman cp`: which of its arguments is in a container, and what the supervisor is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyman.cli.copy import COPY_OPTIONS, _parsed, copy
from pyman.cli.options import parse
from pyman.errors import InvalidArgument, NotFound, NotSupported

if TYPE_CHECKING:
    from pathlib import Path


class _Context:
    """Remembers what it is asked to call."""

    def __init__(self) -> None:
        self.method = ""
        self.request: dict[str, Any] = {}
        self.descriptor = ""
        self.warned = ""

    def call(self, method: str, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
        self.method, self.request = method, request
        self.descriptor = "".join(os.readlink(f"/proc/self/fd/{number}") for number in descriptors)
        return {"files": 1, "size": 1, "left_out": 2}

    def warn(self, text: str) -> None:
        self.warned = text


def _run(*words: str) -> _Context:
    context = _Context()
    assert copy(context, parse(words, COPY_OPTIONS, command="cp")) == 0  # type: ignore[arg-type]
    return context


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("c:/x", ("c", "/x")),
        ("c:x:y", ("c", "x:y")),
        ("./c:x", ("", "./c:x")),
        ("/c:x", ("", "/c:x")),
        ("..", ("", "..")),
        ("-", ("", "-")),
        ("x", ("", "x")),
    ],
)
def test_a_colon_is_a_containers_unless_a_path_begins_with_a_dot_or_a_slash(
    text: str, found: tuple[str, str]
) -> None:
    assert _parsed(text) == found


@pytest.mark.parametrize("text", ["", "c:", ":/x"])
def test_half_a_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        _parsed(text)


def test_what_is_the_clients_is_opened_and_named(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("tree")
    asked = _run(f"{tmp_path}/link/.", "c:/x")
    assert asked.method == "Container.CopyIn"
    assert asked.descriptor == f"{tmp_path}/tree"
    assert asked.request == {
        "name": "c", "path": "/x", "source": "link", "contents": True, "archive": True, "overwrite": False,
    }  # fmt: skip
    assert "2 files were left out" in asked.warned
    asked = _run("--archive=false", "--overwrite", "c:x/.", f"{tmp_path}/file")
    assert asked.method == "Container.CopyOut"
    assert asked.descriptor == str(tmp_path)
    assert asked.request == {
        "name": "c", "path": "x/.", "target": "file", "exists": True, "contents": True, "archive": False,
        "overwrite": True,
    }  # fmt: skip
    assert _run("c:x", str(tmp_path)).request["target"] == ""
    assert _run("c:x", f"{tmp_path}/new").request["target"] == "new"
    asked = _run("a:x", "b:y")
    assert (asked.method, asked.request["source"], asked.request["target"]) == (
        "Container.CopyAcross",
        "a",
        "b",
    )


def test_what_cannot_be_is_said_before_anybody_is_asked(tmp_path: Path) -> None:
    for words in (("x", "y"), ("/etc", "/tmp"), ("-", "-")):
        with pytest.raises(InvalidArgument, match="one of the two has to be in a container"):
            _run(*words)
    for target in (f"{tmp_path}/new/", f"{tmp_path}/no/new"):
        with pytest.raises(NotFound):
            _run("c:x", target)
    with pytest.raises(InvalidArgument, match="neither a file nor a directory"):
        _run("c:x", "/dev/null")
    with pytest.raises(NotFound, match="on the host"):
        _run(f"{tmp_path}/nothing", "c:x")
    for option in ("--pause", "--extract"):
        with pytest.raises(NotSupported):
            _run(option, "x", "c:y")
