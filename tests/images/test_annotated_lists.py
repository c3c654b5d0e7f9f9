"""What is said of manifest lists and their members, beside the other engines on the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import import_image, others_of
from tests.images.made import digest_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storage.others import Others
    from tests.support.engine import Engine

_NEEDED = missing("podman", "buildah", "skopeo", "docker-registry")
pytestmark = [
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
    pytest.mark.oci_runtime("runc"),
]
LIST = "localhost/list:1"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture
def others(engine: Engine) -> Iterator[Others]:
    """A list with one member, `localhost/base:1`."""
    import_image(engine, "localhost/base:1")
    engine.cli("manifest", "create", LIST, "localhost/base:1")
    yield others_of(engine)
    leave_no_mount(engine)


def inspected(engine: Engine, name: str = LIST) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.out("manifest", "inspect", name))
    return found


def test_features_of_the_operating_system_are_noted_as_buildah_notes_them(
    engine: Engine, others: Others
) -> None:
    others.buildah("manifest", "create", "localhost/theirs:1", "localhost/base:1")
    (digest,) = (each["digest"] for each in inspected(engine)["manifests"])
    words = ["--os-features", "sse4,avx", "--os-version", "7"]
    engine.cli("manifest", "annotate", *words, LIST, digest)
    others.buildah("manifest", "annotate", *words, "localhost/theirs:1", digest)
    ours, theirs = (
        json.loads(others.buildah("manifest", "inspect", name)) for name in (LIST, "localhost/theirs:1")
    )
    assert ours["manifests"] == theirs["manifests"]
    assert ours["manifests"][0]["platform"]["os.features"] == ["sse4", "avx"]
    # What is not said stays.
    engine.cli("manifest", "annotate", "--annotation", "a=b", LIST, digest)
    platform = inspected(engine)["manifests"][0]["platform"]
    assert (platform["os.features"], platform["os.version"]) == (["sse4", "avx"], "7")


def test_a_list_has_annotations_and_a_subject_of_its_own_which_go_with_it(
    engine: Engine, others: Others, registry: RealRegistry
) -> None:
    engine.cli("manifest", "annotate", "--index", "--annotation", "of=list", LIST)
    engine.cli("manifest", "annotate", "--subject", "localhost/base:1", LIST)
    document = inspected(engine)
    assert document["annotations"] == {"of": "list"}
    assert document["subject"]["digest"] == digest(engine, "localhost/base:1")
    assert "annotations" not in document["manifests"][0]
    engine.cli("manifest", "push", "-q", "--tls-verify=false", LIST, f"docker://{registry.host}/list:1")
    raw = registry.manifest("list", "1")
    there = json.loads(raw)
    assert there["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert (there["annotations"], there["subject"]) == (document["annotations"], document["subject"])
    subject = document["subject"]
    assert subject["size"] == len(others.skopeo("inspect", "--raw", others.storage("localhost/base:1")))
    seen = others.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/list:1")
    assert digest_of(seen.encode()) == digest_of(raw.strip())
    # A list may belong to another one.
    engine.cli("manifest", "create", "localhost/second:1", "localhost/base:1")
    engine.cli("manifest", "annotate", "--index", "--subject", LIST, "localhost/second:1")
    subject = inspected(engine, "localhost/second:1")["subject"]
    assert (subject["mediaType"], subject["digest"]) == (there["mediaType"], digest(engine, LIST))
    # Another change leaves it.
    engine.cli("manifest", "add", "localhost/second:1", "localhost/base:1")
    assert "subject" in inspected(engine, "localhost/second:1")


def digest(engine: Engine, name: str) -> str:
    listed = engine.call("io.pyman.Image.List", {"all": True})["images"]
    found: str = next(image["digest"] for image in listed if name in image["names"])
    return found


@pytest.mark.usefixtures("others")
def test_what_cannot_be_said_is_refused(engine: Engine) -> None:
    before = inspected(engine)
    (digest,) = (each["digest"] for each in before["manifests"])
    for words, message in (
        (["--annotation", "a=b", LIST], "needs an image of the list"),
        (["--index", LIST, digest], "--index together with"),
        (["--index", "--arch", "arm64", LIST], "are those of an image in it"),
        (["--subject", "localhost/base:1", LIST, digest], "only a list as a whole has one"),
        (["--index", "--subject", "localhost:1/nothing:1", LIST], "nothing:1"),
    ):
        done = engine.cli("manifest", "annotate", *words, check=False)
        assert done.returncode == 125
        assert message in done.stderr
    assert inspected(engine) == before
