"""Files in manifest lists, and what other programs find of them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import import_image, others_of
from tests.images.made import digest_of
from tests.images.test_annotated_lists import digest, inspected
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

_NEEDED = missing("podman", "skopeo", "docker-registry")
pytestmark = [
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
    pytest.mark.oci_runtime("runc"),
]
LIST = "localhost/list:1"
OCI = "application/vnd.oci"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture
def files(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """A directory with files, beside a list with an image."""
    import_image(engine, "localhost/base:1")
    engine.cli("manifest", "create", LIST, "localhost/base:1")
    (tmp_path / "sbom.json").write_text('{"a": 1}')
    (tmp_path / "notes").write_text("plain words")
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    yield tmp_path
    leave_no_mount(engine)


def push(engine: Engine, registry: RealRegistry, name: str = "list", *, check: bool = True) -> Any:
    to = f"docker://{registry.host}/{name}:1"
    return engine.cli("manifest", "push", "-q", "--tls-verify=false", LIST, to, check=check)


def manifests(registry: RealRegistry, name: str = "list") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The members of the list there, and the document of the last one."""
    members = json.loads(registry.manifest(name, "1"))["manifests"]
    return members, json.loads(registry.manifest(name, members[-1]["digest"]))


def test_files_become_an_artifact_that_goes_with_the_list(
    engine: Engine, registry: RealRegistry, files: Path
) -> None:
    names = ("sbom.json", "notes", "picture", "bytes")
    words = ["--artifact", "--artifact-type", "application/vnd.example.set", "--annotation", "of=files"]
    id = engine.out("manifest", "add", *words, "--arch", "arm64", LIST, *names, cwd=files)
    assert id == engine.call("io.pyman.Image.List", {"filters": {"manifest": ["true"]}})["images"][0]["id"]
    entry = inspected(engine)["manifests"][1]
    assert entry["files"] == [f"{files}/{name}" for name in names]
    push(engine, registry)
    members, manifest = manifests(registry)
    assert members[1]["digest"] == entry["digest"]
    assert (members[1]["artifactType"], members[1]["annotations"]) == (
        "application/vnd.example.set",
        {"of": "files"},
    )
    assert members[1]["platform"]["architecture"] == "arm64"
    assert manifest["artifactType"] == "application/vnd.example.set"
    assert manifest["config"] == {
        "mediaType": f"{OCI}.empty.v1+json",
        "digest": digest_of(b"{}"),
        "size": 2,
        "data": base64.b64encode(b"{}").decode(),
    }
    kinds = ("application/json", "text/plain", "image/png", "application/octet-stream")
    assert manifest["layers"] == [
        {
            "mediaType": kind,
            "digest": digest_of((files / name).read_bytes()),
            "size": (files / name).stat().st_size,
            "annotations": {"org.opencontainers.image.title": name},
        }
        for name, kind in zip(names, kinds, strict=True)
    ]
    out = files / "out"
    others_of(engine).skopeo(
        "copy",
        "-q",
        "--src-tls-verify=false",
        f"docker://{registry.host}/list@{entry['digest']}",
        f"dir:{out}",
    )
    for name in names:
        data = (files / name).read_bytes()
        assert (out / digest_of(data).partition(":")[2]).read_bytes() == data


def test_what_an_artifact_is_can_be_said(engine: Engine, registry: RealRegistry, files: Path) -> None:
    (files / "config").write_text('{"said": true}')
    words = [
        *("--artifact-config", "config", "--artifact-config-type", "application/vnd.example.config"),
        *("--artifact-layer-type", "text/x-notes", "--artifact-exclude-titles"),
        *("--artifact-subject", "localhost/base:1"),
    ]
    engine.cli("manifest", "add", "--artifact", *words, LIST, "notes", cwd=files)
    push(engine, registry, "said")
    _, manifest = manifests(registry, "said")
    assert manifest["artifactType"] == "application/vnd.unknown.artifact.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.example.config"
    assert manifest["config"]["digest"] == digest_of(b'{"said": true}')
    assert manifest["subject"]["digest"] == digest(engine, "localhost/base:1")
    (layer,) = manifest["layers"]
    assert layer == {
        "mediaType": "text/x-notes",
        "digest": digest_of(b"plain words"),
        "size": len(b"plain words"),
    }


def test_an_artifact_is_meant_by_its_file_and_goes_with_all_that_is_kept(
    engine: Engine, registry: RealRegistry, files: Path
) -> None:
    for name in ("notes", "bytes"):
        engine.cli("manifest", "add", "--artifact", LIST, name, cwd=files)
    engine.cli("manifest", "annotate", "--annotation", "a=b", LIST, "notes")
    first, second = inspected(engine)["manifests"][1:]
    assert (first["annotations"], "annotations" in second) == ({"a": "b"}, False)
    kept = next(engine.root.glob("overlay-images/*/artifacts.json"))
    assert set(json.loads(kept.read_bytes())["detached"].values()) == {f"{files}/notes", f"{files}/bytes"}
    engine.cli("manifest", "remove", LIST, f"{files}/notes")
    assert [each["digest"] for each in inspected(engine)["manifests"][1:]] == [second["digest"]]
    assert set(json.loads(kept.read_bytes())["detached"].values()) == {f"{files}/bytes"}
    others_of(engine).podman("manifest", "annotate", "--annotation", "c=d", LIST, second["digest"])
    push(engine, registry, "rest")
    assert len(manifests(registry, "rest")[0]) == 2


def test_a_file_that_has_changed_or_is_gone_is_not_pushed(
    engine: Engine, registry: RealRegistry, files: Path
) -> None:
    engine.cli("manifest", "add", "--artifact", LIST, "notes", cwd=files)
    (files / "notes").write_text("other words")
    changed = push(engine, registry, "changed", check=False)
    assert (changed.returncode, "is not what its digest" in changed.stderr) == (125, True)
    (files / "notes").unlink()
    gone = push(engine, registry, "changed", check=False)
    assert (gone.returncode, f"cannot read '{files}/notes'" in gone.stderr) == (125, True)
    assert registry.request("GET", "/v2/changed/manifests/1")[0] == 404


def test_what_cannot_be_added_is_refused(engine: Engine, files: Path) -> None:
    before = inspected(engine)
    (files / "large").write_text("x" * (1 << 20) + "x")
    for words, message in (
        (["--artifact", LIST, "none"], "No such file"),
        (["--artifact", LIST, "."], "it is not a file"),
        (["--artifact", "--all", LIST, "notes"], "all images of a list"),
        (["--artifact", "--artifact-type", "wrong", LIST, "notes"], "as a media type"),
        (["--artifact", "--artifact-config", "bytes", LIST, "notes"], "it is no text"),
        (["--artifact", "--artifact-config", "large", LIST, "notes"], "it is too large"),
        (["--artifact-type", "a/b", LIST, "localhost/base:1"], "without --artifact"),
    ):
        done = engine.cli("manifest", "add", *words, cwd=files, check=False)
        assert (done.returncode, message in done.stderr) == (125, True), done.stderr
    assert inspected(engine) == before
