"""Images removed, pruned and mounted, through a real supervisor, beside Podman and Buildah."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from supervisor.storage.table import locked
from tests.images.filling import import_image, others_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.skipif(bool(missing("podman", "buildah")), reason=missing("podman", "buildah")),
    pytest.mark.oci_runtime("runc"),
]

IMAGE = "io.pyman.Image"


def remove(engine: Engine, *names: str, **options: Any) -> dict[str, Any]:
    return engine.call(f"{IMAGE}.Remove", {"names": list(names), **options})


def listed(engine: Engine, **parameters: Any) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = engine.call(f"{IMAGE}.List", parameters)["images"]
    return images


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(event["Status"], event["Name"]) for event in engine.events(type=["image"])]


def build_upon(engine: Engine, base: str, name: str, *steps: str) -> None:
    """Each step is an image of its own, which only the next one is built upon."""
    lines = [f"FROM {base}", *(f"LABEL step{number}={step}" for number, step in enumerate(steps))]
    directory = engine.path / "context"
    directory.mkdir(exist_ok=True)
    (directory / "Containerfile").write_text("\n".join(lines))
    others_of(engine).buildah("build", "--layers", "-t", name, str(directory))
    leave_no_mount(engine)


def test_a_name_of_several_is_only_taken_away(engine: Engine) -> None:
    id = import_image(engine, "localhost/a:1")
    engine.call(f"{IMAGE}.Tag", {"name": id, "targets": ["b:1"]})
    (removed,) = remove(engine, "a:1")["images"]
    assert (removed["untagged"], removed["deleted"]) == (["localhost/a:1"], [])
    assert [image["names"] for image in listed(engine)] == [["localhost/b:1"]]
    engine.call(f"{IMAGE}.Tag", {"name": id, "targets": ["c:1"]})
    reply = remove(engine, id[:12])
    assert reply["images"] == []
    assert reply["errors"][0]["code"] == "ImageInUse"
    assert "localhost/c:1" in reply["errors"][0]["message"]
    (removed,) = remove(engine, id[:12], force=True)["images"]
    assert removed["deleted"] == [id]
    assert removed["size"] > 0
    assert listed(engine) == []
    assert told(engine) == [
        ("tag", "b:1"),
        ("untag", "localhost/a:1"),
        ("tag", "c:1"),
        ("untag", "localhost/b:1"),
        ("untag", "localhost/c:1"),
        ("remove", "localhost/b:1"),
    ]
    assert [path for path in (engine.root / "overlay").iterdir() if len(path.name) == 64] == []


def test_both_names_at_once_remove_the_image(engine: Engine) -> None:
    id = import_image(engine, "localhost/a:1")
    engine.call(f"{IMAGE}.Tag", {"name": id, "targets": ["b:1"]})
    (removed,) = remove(engine, "a:1", "b:1")["images"]
    assert removed["untagged"] == ["localhost/a:1", "localhost/b:1"]
    assert removed["deleted"] == [id]


def test_what_is_not_there_is_an_error_unless_that_is_ignored(engine: Engine) -> None:
    import_image(engine, "localhost/a:1")
    reply = remove(engine, "nothing", "a:1")
    assert [error["code"] for error in reply["errors"]] == ["NoSuchImage"]
    assert len(reply["images"]) == 1
    assert remove(engine, "nothing", ignore=True) == {"images": [], "errors": []}
    with pytest.raises(VarlinkError, match="cannot remove images"):
        remove(engine)
    with pytest.raises(VarlinkError, match="not both"):
        remove(engine, "x", all=True)


def test_what_only_this_image_was_built_from_goes_with_it(engine: Engine) -> None:
    base = import_image(engine, "localhost/base:1")
    build_upon(engine, "localhost/base:1", "localhost/app:1", "one", "two", "three")
    every = {image["id"] for image in listed(engine, all=True)}
    assert len(every) == 4
    (removed,) = remove(engine, "app:1")["images"]
    assert set(removed["deleted"]) == every - {base}
    assert [image["id"] for image in listed(engine, all=True)] == [base]
    build_upon(engine, "localhost/base:1", "localhost/app:1", "one", "two", "three")
    (removed,) = remove(engine, "app:1", no_prune=True)["images"]
    assert len(removed["deleted"]) == 1
    assert len(listed(engine, all=True)) == 3


def test_an_image_that_a_container_uses_stays_and_the_container_is_named(engine: Engine) -> None:
    import_image(engine, "localhost/a:1")
    others = others_of(engine)
    others.buildah("from", "--name", "worker", "localhost/a:1")
    reply = remove(engine, "a:1")
    assert [error["code"] for error in reply["errors"]] == ["ImageInUse"]
    assert "worker of another engine" in reply["errors"][0]["message"]
    assert len(listed(engine)) == 1
    (removed,) = remove(engine, "a:1", force=True)["images"]
    assert removed["untagged"] == ["localhost/a:1"]
    assert others.buildah("containers", "-q") == ""
    leave_no_mount(engine)


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (("rmi", "a:1"), ("a:1",)),
        (("rmi", "a:1"), ("--mount", "type=image,source=a:1,destination=/image", "b:1")),
        (("rmi", "--force", "a:1"), ("a:1",)),
        (("image", "prune", "--all", "--force"), ("a:1",)),
    ],
)
def test_what_is_left_of_a_container_that_was_removed_is_waited_for(
    engine: Engine, words: tuple[str, ...], how: tuple[str, ...]
) -> None:
    """Its end is told before its layer is gone, for which another engine's work in the store is waited for here."""
    id = import_image(engine, "localhost/a:1")
    others = [import_image(engine, "localhost/b:1")] if "b:1" in how else []
    engine.cli("run", "--detach", "--tty", "--rm", "--name", "user", "--network", "none", *how, "sh")
    with contextlib.ExitStack() as work:
        work.enter_context(locked(f"{engine.root}/overlay-layers/layers.lock"))
        engine.cli("kill", "user")
        engine.cli("wait", "--ignore", "--condition", "removed", "user")
        assert engine.out("ps", "--all", "--quiet") == ""
        with engine.spawn(*words) as removal:
            with pytest.raises(subprocess.TimeoutExpired):
                removal.wait(0.5)
            assert id in {image["id"] for image in listed(engine)}
            work.close()
            assert removal.wait(20) == 0
    assert [image["id"] for image in listed(engine)] == others


def test_a_prune_takes_what_is_dangling_or_all_that_is_unused(engine: Engine) -> None:
    used = import_image(engine, "localhost/used:1")
    others = others_of(engine)
    others.buildah("from", "--name", "worker", "localhost/used:1")
    leave_no_mount(engine)
    kept = import_image(engine, "localhost/kept:1")
    import_image(engine, "localhost/gone:1")
    engine.call(f"{IMAGE}.Untag", {"name": "gone:1", "targets": []})
    reply = engine.call(f"{IMAGE}.Prune", {})
    assert [len(image["deleted"]) for image in reply["images"]] == [1]
    assert {image["id"] for image in listed(engine)} == {used, kept}
    reply = engine.call(f"{IMAGE}.Prune", {"all": True, "filters": {"until": ["24h"]}})
    assert reply == {"images": [], "errors": []}
    reply = engine.call(f"{IMAGE}.Prune", {"all": True})
    assert [image["deleted"] for image in reply["images"]] == [[kept]]
    assert [image["id"] for image in listed(engine)] == [used]
    reply = engine.call(f"{IMAGE}.Prune", {"all": True, "external": True})
    assert [image["deleted"] for image in reply["images"]] == [[used]]
    assert others.buildah("containers", "-q") == ""


def test_an_image_is_mounted_read_only_counted_and_told(engine: Engine) -> None:
    id = import_image(engine, "localhost/a:1")
    (mounted,) = engine.call(f"{IMAGE}.Mount", {"names": ["a:1"]})["images"]
    path = Path(mounted["path"])
    assert sorted(os.listdir(path)) == ["bin", "etc"]
    with pytest.raises(OSError, match="Read-only"):
        (path / "new").touch()
    assert engine.call(f"{IMAGE}.Mount", {"names": [id]})["images"][0]["path"] == str(path)
    listing = engine.call(f"{IMAGE}.Mount", {})["images"]
    assert [(image["id"], image["path"]) for image in listing] == [(id, str(path))]
    document = engine.call(f"{IMAGE}.Inspect", {"names": ["a:1"]})["images"][0]
    assert document["GraphDriver"]["Data"]["MergedDir"] == str(path)
    engine.call(f"{IMAGE}.Unmount", {"names": ["a:1"]})
    assert os.path.ismount(path)
    engine.call(f"{IMAGE}.Unmount", {"all": True})
    assert not os.path.ismount(path)
    assert engine.call(f"{IMAGE}.Unmount", {"names": ["a:1"]}) == {"images": []}
    reply = engine.call(f"{IMAGE}.Mount", {"names": ["nothing", "a:1"]})["images"]
    assert [bool(image.get("error")) for image in reply] == [True, False]
    engine.call(f"{IMAGE}.Unmount", {"names": ["a:1"], "force": True})
    assert [status for status, _ in told(engine)] == [
        "mount",
        "mount",
        "unmount",
        "unmount",
        "mount",
        "unmount",
    ]
