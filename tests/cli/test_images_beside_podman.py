"""Pyman and Podman, an old one and a new one, look at one graph root: they say the same of it."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.storage.images import busybox, tar_of
from tests.storage.others import Others, missing

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.oci_runtime("runc", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(missing("podman", "buildah")), reason=missing("podman", "buildah")),
]

BASE = 'FROM scratch\nCOPY file /a\nENV A=b\nLABEL who="me"\nCMD ["/bin/true"]\n'
ABOVE = "FROM localhost/base:1\nCOPY file /x\nLABEL z=1\n"


@pytest.fixture(scope="module")
def others(module_engine: Engine) -> Others:
    """Three images in the engine's store, and some that they were built from."""
    place = module_engine.path
    others = Others(place, around=module_engine.place)
    others.podman("import", "-", "localhost/files:1", stdin=tar_of(busybox()))
    (place / "file").write_text("content" * 1000)
    for name, text in (("base:1", BASE), ("registry.example/org/above", ABOVE)):
        (place / "Containerfile").write_text(text)
        tag = name if "/" in name else f"localhost/{name}"
        others.buildah("build", "--layers", f"--file={place}/Containerfile", "-t", tag, str(place))
    others.podman("tag", "localhost/base:1", "quay.example/other:2")
    return others


_SPACE = re.compile(r"(?<=\d) (?=[kM]?B\b)")
_AGO = re.compile(r"(Less than a second|\d+ seconds?|About a minute|\d+ minutes?) ago")


def settled(text: str) -> str:
    """Without what changes from second to second, and the columns' widths with it."""
    return re.sub(" {2,}", "  ", _AGO.sub("SOME TIME AGO", text)).strip()


@pytest.mark.parametrize(
    "words",
    [
        ("images", "--sort", "repository"),
        ("images", "--sort", "repository", "--digests", "--no-trunc", "--history"),
        ("images", "-q", "--sort", "id"),
        ("images", "-q", "--no-trunc", "--sort", "size"),
        ("images", "base"),
        ("images", "--noheading", "other"),
        ("image", "ls", "--filter", "label=who=me", "--sort", "repository"),
        ("image", "list", "-a", "-q", "--sort", "id"),
        ("images", "--filter", "reference=registry.example/org/*", "--format", "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.Size}}"),
        ("images", "--sort", "repository", "--format",
         "{{.CreatedAt}} {{.CreatedTime}} {{.Labels}} {{.Containers}} {{.ReadOnly}} {{.Dangling}} {{.ParentId}}"),
        ("images", "--sort", "size", "--format", "table {{.Tag}}\t{{.VirtualSize}}\t{{.RepoDigests}}"),
        ("history", "--no-trunc", "above"),
        ("history", "-q", "above"),
        ("history", "-H=false", "base:1"),
        ("history", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}", "above"),
        ("image", "tree", "above"),
        ("image", "tree", "--whatrequires", "base:1"),
        ("inspect", "above"),
        ("image", "inspect", "files:1", "other:2"),
        ("image", "inspect", "--format", "{{.Id}} {{.RepoTags}} {{.Config.Env}} {{.Config.Labels}} {{.RootFS.Layers}} {{.Size}}", "above"),
        ("image", "inspect", "--format", "{{.Created}} {{.Os}}/{{.Architecture}} {{json .Config.Cmd}}", "base:1"),
    ],
)  # fmt: skip
def test_the_same_is_shown(shared_engine: Engine, others: Others, words: tuple[str, ...]) -> None:
    theirs = others.podman(*words)
    assert theirs
    ours = shared_engine.out(*words)
    if words[0] == "history":
        # Podman 5 has no space in these sizes.
        ours, theirs = _SPACE.sub("", ours), _SPACE.sub("", theirs)
    assert settled(ours) == settled(theirs)


def test_json_of_images_is_the_same(shared_engine: Engine, others: Others) -> None:
    ours, theirs = (
        json.loads(ask("images", "--format", "json", "--sort", "repository"))
        for ask in (shared_engine.out, others.podman)
    )
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        expected["SharedSize"] = mine["SharedSize"]  # Podman's is always 0
        assert {key: mine[key] for key in expected} == expected
        assert set(mine) - set(expected) <= {"Arch", "Os", "Repository", "Tag"}


def test_json_of_the_history_is_the_same(shared_engine: Engine, others: Others) -> None:
    ours, theirs = (
        json.loads(ask("history", "--format", "json", "above")) for ask in (shared_engine.out, others.podman)
    )
    for layer in ours:
        layer.pop("tags", None)  # newer Podmans have it
    for layer in theirs:
        layer.pop("tags", None)
    assert ours == theirs


def test_an_image_changes_the_same(shared_engine: Engine, others: Others) -> None:
    """Without what any run leaves in a root filesystem."""
    files = {"etc/hosts": b"", "etc/x": b"", "run/.containerenv": b"", "run/x": b"", "proc/x": b""}
    others.podman("import", "-", "localhost/run:1", stdin=tar_of(files))
    theirs = sorted(others.podman("image", "diff", "localhost/run:1").splitlines())
    assert {"A /etc/x", "A /run/x"} <= {*theirs}
    assert sorted(shared_engine.out("image", "diff", "run:1").splitlines()) == theirs
    others.podman("rmi", "localhost/run:1")


def test_names_are_given_and_taken_for_both(shared_engine: Engine, others: Others) -> None:
    shared_engine.cli("tag", "above", "mine:1", "registry.example/mine")
    assert others.podman("image", "exists", "localhost/mine:1") == ""
    others.podman("tag", "above", "theirs:1")
    assert shared_engine.cli("image", "exists", "localhost/theirs:1").returncode == 0
    shared_engine.cli("untag", "above", "mine:1", "registry.example/mine", "theirs:1")
    assert shared_engine.cli("image", "exists", "mine:1", check=False).returncode == 1
    assert "mine" not in others.podman("images")
    assert "theirs" not in others.podman("images")


@pytest.mark.parametrize(
    "words", [("image", "inspect"), ("history",), ("untag",), ("image", "tree"), ("inspect",)]
)
def test_what_is_not_there_ends_with_the_same_status(
    shared_engine: Engine, others: Others, words: tuple[str, ...]
) -> None:
    with pytest.raises(AssertionError, match="ended with 125"):
        others.podman(*words, "nope")
    others.podman("ps", "-q")  # one that fails leaves its storage mounted; the next one clears that up
    done = shared_engine.cli(*words, "nope", check=False)
    assert done.returncode == 125
    assert done.stderr.startswith("Error: cannot ")


def test_removing_says_the_same(shared_engine: Engine, others: Others) -> None:
    """The first of two names, and the last one."""

    def ours(*words: str) -> str:
        return shared_engine.out(*words)

    told = []
    for ask in (ours, others.podman):
        others.podman("import", "-", "localhost/gone:1", stdin=tar_of({"gone": b"gone"}))
        others.podman("tag", "gone:1", "gone:2")
        told.append([ask("rmi", "gone:1"), re.sub("[0-9a-f]{64}", "ID", ask("rmi", "gone:2"))])
    assert told[0] == told[1] == ["Untagged: localhost/gone:1", "Untagged: localhost/gone:2\nDeleted: ID"]


def test_a_removal_that_fails_ends_with_the_same_status(shared_engine: Engine, others: Others) -> None:
    used = others.podman("create", "localhost/files:1", "sh")
    for name, status in (("files:1", 2), ("nope", 1)):
        assert shared_engine.cli("rmi", name, check=False).returncode == status
        with pytest.raises(AssertionError, match=f"ended with {status}:"):
            others.podman("rmi", name)
    others.podman("rm", used)
