"""What one image changes of another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.archive.layers import Layer
from tests.support.images import podman

if TYPE_CHECKING:
    from tests.support.engine import Engine

ONE = Layer().directory("etc").file("etc/both").file("etc/mode").file("etc/gone").directory("run").data()
TWO = (
    Layer()
    .directory("etc")
    .file("etc/both")
    .file("etc/mode", mode=0o640)
    .directory("etc/new")
    .file("etc/new/file")
    .directory("run", mode=0o700)
    .data()
)


@pytest.fixture
def filled(shared_engine: Engine) -> Engine:
    for name, data in (("one", ONE), ("two", TWO)):
        podman(shared_engine, "import", "--quiet", "-", f"localhost/{name}:1", stdin=data)
    return shared_engine


def told(text: str) -> dict[str, list[str]]:
    return {kind: sorted(paths) for kind, paths in json.loads(text).items()}


@pytest.mark.parametrize("verb", [("image", "diff"), ("diff",)], ids=" ".join)
def test_two_images_that_have_nothing_in_common_are_compared(filled: Engine, verb: tuple[str, ...]) -> None:
    ours = filled.out(*verb, "--format", "json", "two:1", "one:1")
    theirs = podman(filled, *verb, "--format", "json", "two:1", "one:1").stdout
    assert told(ours) == told(theirs)
    assert filled.out(*verb, "two:1", "one:1").splitlines() == [
        "C /etc",
        "D /etc/gone",
        "C /etc/mode",
        "A /etc/new",
        "A /etc/new/file",
    ]
    assert told(filled.out(*verb, "--format", "json", "one:1", "one:1")) == {}
