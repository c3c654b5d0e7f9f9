"""The calls on images, through a real supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import import_image
from tests.storage.others import missing
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(bool(missing("podman")), reason=missing("podman")),
    pytest.mark.oci_runtime("runc"),
]

IMAGE = "io.pyman.Image"


def told(engine: Engine) -> list[tuple[str, str, str]]:
    events = engine.events(type=["image"])
    return [(event["Status"], event["ID"][:12], event["Name"]) for event in events]


def listed(engine: Engine, **parameters: Any) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = engine.call(f"{IMAGE}.List", parameters)["images"]
    return images


def test_what_podman_has_imported_is_listed_and_inspected(engine: Engine) -> None:
    id = import_image(engine, "localhost/base:1")
    (image,) = listed(engine)
    assert image["id"] == id
    assert image["names"] == ["localhost/base:1"]
    reply = engine.call(f"{IMAGE}.Inspect", {"names": ["base:1", "nothing"]})
    assert [document["Id"] for document in reply["images"]] == [id]
    assert [error["code"] for error in reply["errors"]] == ["NoSuchImage"]
    assert engine.call(f"{IMAGE}.Exists", {"name": id[:12]}) == {"exists": True}
    assert engine.call(f"{IMAGE}.Exists", {"name": "NOTHING"}) == {"exists": False}
    assert engine.call(f"{IMAGE}.History", {"name": "base:1"})["layers"][0]["id"] == id
    assert engine.call(f"{IMAGE}.Tree", {"name": "base:1"})["layers"][0]["top_of"] == ["localhost/base:1"]


def test_tags_are_given_taken_and_told_once(engine: Engine) -> None:
    id = import_image(engine, "localhost/base:1")
    engine.call(f"{IMAGE}.Tag", {"name": "base:1", "targets": ["x", "registry.example/y:2"]})
    (image,) = listed(engine)
    assert image["names"] == ["localhost/base:1", "localhost/x:latest", "registry.example/y:2"]
    engine.call(f"{IMAGE}.Untag", {"name": id, "targets": ["x"]})
    engine.call(f"{IMAGE}.Untag", {"name": id[:10], "targets": []})
    (image,) = listed(engine)
    assert image["names"] == []
    assert image["dangling"]
    short = id[:12]
    assert told(engine) == [
        ("tag", short, "x"),
        ("tag", short, "registry.example/y:2"),
        ("untag", short, "localhost/x:latest"),
        ("untag", short, "localhost/base:1"),
        ("untag", short, "registry.example/y:2"),
    ]


@pytest.mark.parametrize(
    ("method", "targets", "code"),
    [
        ("Tag", ["CAPITALS"], "InvalidArgument"),
        ("Tag", ["x@sha256:" + "0" * 64], "InvalidArgument"),
        ("Tag", [], "InvalidArgument"),
        ("Untag", ["other"], "InvalidArgument"),
    ],
)
def test_names_that_cannot_be_are_refused_and_nothing_is_told(
    engine: Engine, method: str, targets: list[str], code: str
) -> None:
    import_image(engine, "localhost/base:1")
    with pytest.raises(VarlinkError) as caught:
        engine.call(f"{IMAGE}.{method}", {"name": "base:1", "targets": targets})
    assert caught.value.name == f"io.pyman.{code}"
    assert told(engine) == []


def test_the_configured_policy_counts_after_a_reload(engine: Engine) -> None:
    import_image(engine, "localhost/base:1")
    run = ["run", "--rm", "--retry", "0", "--network", "none", "localhost/base:1", "sh", "-c", "echo ran"]
    assert engine.out(*run) == "ran"
    text = engine.configuration.read_text()
    engine.configuration.write_text(text.replace("[engine]\n", '[engine]\npull_policy = "always"\n', 1))
    assert "engine.pull_policy" in engine.call("io.pyman.System.Reload")["changed"]
    assert engine.cli(*run, check=False).returncode == 125
    assert [event["Status"] for event in engine.events(type=["image"])] == ["pull-error"]
