"""Manifest lists pushed in other compressions: images of the store, and those that are only elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import import_image, others_of
from tests.images.test_configured_transfers import configure
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry, tar_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storage.others import Others
    from tests.support.engine import Engine

_NEEDED = missing("podman", "skopeo", "docker-registry")
pytestmark = [
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
    pytest.mark.oci_runtime("runc"),
]
LIST = "localhost/list:1"
OCI = "application/vnd.oci.image"
ZSTD = "io.github.containers.compression.zstd"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture
def others(engine: Engine, registry: RealRegistry) -> Iterator[Others]:
    """A list of an image of the store and one that is only in a registry, for two machines."""
    import_image(engine, "localhost/base:1")
    registry.push("far", "1", [tar_layer({"file": b"far" * 1000}), tar_layer({"more": b"more"})])
    engine.cli("manifest", "create", LIST, "localhost/base:1")
    engine.cli(
        "manifest", "add", "--tls-verify=false", "--arch", "arm64", LIST, f"docker://{registry.host}/far:1"
    )
    yield others_of(engine)
    leave_no_mount(engine)


def push(engine: Engine, registry: RealRegistry, name: str, *words: str) -> list[dict[str, Any]]:
    """The members of the list in the registry, each with its `layers`."""
    engine.cli(
        "manifest", "push", "-q", "--tls-verify=false", *words, LIST, f"docker://{registry.host}/{name}:1"
    )
    members: list[dict[str, Any]] = json.loads(registry.manifest(name, "1"))["manifests"]
    for member in members:
        manifest = json.loads(registry.manifest(name, member["digest"]))
        assert manifest.get("mediaType", member["mediaType"]) == member["mediaType"]
        member["layers"] = [
            layer["mediaType"].removeprefix(f"{OCI}.layer.v1.") for layer in manifest["layers"]
        ]
    return members


def read_by_skopeo(others: Others, registry: RealRegistry, name: str, digest: str) -> None:
    """Every blob is what its digest says, and holds what the configuration names."""
    place = others.place / f"read-{digest[-8:]}"
    others.skopeo(
        "copy", "-q", "--src-tls-verify=false", "--dest-decompress",
        f"docker://{registry.host}/{name}@{digest}", f"dir:{place}",
    )  # fmt: skip
    layers = json.loads((place / "manifest.json").read_bytes())["layers"]
    config = json.loads(others.skopeo("inspect", "--config", f"dir:{place}"))
    assert [layer["digest"] for layer in layers] == config["rootfs"]["diff_ids"]


def test_a_compression_is_that_of_every_image_wherever_it_comes_from(
    engine: Engine, others: Others, registry: RealRegistry
) -> None:
    unasked = push(engine, registry, "unasked")
    assert [set(member["layers"]) for member in unasked] == [{"tar+gzip"}, {"tar+gzip"}]
    for member in push(engine, registry, "zstd", "--compression-format", "zstd", "--compression-level", "19"):
        assert set(member["layers"]) == {"tar+zstd"}
        assert member["annotations"] == {ZSTD: "true"}
        read_by_skopeo(others, registry, "zstd", member["digest"])
    for member in push(engine, registry, "none", "--compression-format", "none"):
        assert set(member["layers"]) == {"tar"}
        assert "annotations" not in member


def test_a_layer_that_is_there_in_another_compression_is_taken_unless_it_is_forced(
    engine: Engine, others: Others, registry: RealRegistry
) -> None:
    before = push(engine, registry, "again")
    words = ["--compression-format", "zstd"]
    kept = push(engine, registry, "again", *words, "--force-compression=false")
    assert [member["layers"] for member in kept] == [member["layers"] for member in before]
    forced = push(engine, registry, "again", *words)
    assert {layer for member in forced for layer in member["layers"]} == {"tar+zstd"}
    read_by_skopeo(others, registry, "again", forced[1]["digest"])


def test_each_platform_gets_images_in_the_compressions_that_are_added(
    engine: Engine, others: Others, registry: RealRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = push(engine, registry, "plain")
    members = push(engine, registry, "added", "--add-compression", "gzip,zstd")
    assert members[:2] == plain
    assert [member["platform"]["architecture"] for member in members] == ["amd64", "arm64"] * 2
    assert [member.get("annotations") for member in members] == [None, None, {ZSTD: "true"}, {ZSTD: "true"}]
    assert [set(member["layers"]) for member in members[2:]] == [{"tar+zstd"}] * 2
    for member in members[2:]:
        read_by_skopeo(others, registry, "added", member["digest"])
    configure(engine, monkeypatch, add_compression=["zstd"])
    assert push(engine, registry, "configured") == members
    assert push(engine, registry, "docker", "--format", "oci", "--add-compression", "gzip") == plain
    # The list here is as it was.
    assert len(json.loads(engine.out("manifest", "inspect", LIST))["manifests"]) == 2


def test_a_format_is_that_of_every_image(engine: Engine, others: Others, registry: RealRegistry) -> None:
    engine.cli(
        "manifest", "push", "-q", "--tls-verify=false", "-f", "v2s2", LIST, f"docker://{registry.host}/v2:1"
    )
    index = json.loads(registry.manifest("v2", "1"))
    assert index["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    kinds = {member["mediaType"] for member in index["manifests"]}
    assert kinds == {"application/vnd.docker.distribution.manifest.v2+json"}
    read_by_skopeo(others, registry, "v2", index["manifests"][1]["digest"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--add-compression lzma", "compressed with 'lzma'"),
        ("--add-compression zstd -f v2s2", "zstd in the format v2s2"),
        ("--add-compression zstd --all=false", "where the images are not pushed"),
        ("--compression-format zstd -f v2s2", "zstd in the format v2s2"),
        ("--compression-level 20", "the level 20"),
    ],
)
@pytest.mark.usefixtures("others")
def test_what_does_not_go_together_is_refused(
    engine: Engine, registry: RealRegistry, words: str, message: str
) -> None:
    to = f"docker://{registry.host}/refused:1"
    done = engine.cli("manifest", "push", "--tls-verify=false", *words.split(), LIST, to, check=False)
    assert done.returncode == 125
    assert message in done.stderr
