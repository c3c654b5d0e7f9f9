"""What containers.conf says of pushes and archives, beside Podman, which reads the same file."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import import_image, others_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.storage.others import Others
    from tests.support.engine import Engine

_NEEDED = missing("podman", "docker-registry")
pytestmark = [
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
    pytest.mark.oci_runtime("runc"),
]
IMAGE = "localhost/base:1"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture
def others(engine: Engine) -> Iterator[Others]:
    import_image(engine, IMAGE)
    yield others_of(engine)
    leave_no_mount(engine)


def configure(engine: Engine, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> None:
    """The same lines for both."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    text = "\n".join(
        line for line in engine.configuration.read_text().splitlines() if line.partition(" ")[0] not in keys
    )
    engine.configuration.write_text(text.replace("[engine]\n", f"[engine]\n{lines}", 1))
    changed = engine.call("io.pyman.System.Reload")["changed"]
    assert {f"engine.{key}" for key in keys} <= set(changed)
    theirs = engine.path / "podman.conf"
    theirs.write_text(f"[engine]\n{lines}")
    monkeypatch.setenv("CONTAINERS_CONF", str(theirs))


def types_in(place: Path) -> list[str]:
    """Of the layers of a manifest on the disk."""
    for path in (place / "manifest.json", *place.glob("blobs/sha256/*")):
        if path.exists() and path.read_bytes()[:1] == b"{":
            document = json.loads(path.read_bytes())
            if "layers" in document:
                return [layer["mediaType"] for layer in document["layers"]]
    raise AssertionError(f"no manifest in {place}")


def test_pushes_compress_as_podmans_do(
    engine: Engine, others: Others, registry: RealRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(engine, monkeypatch, compression_format="zstd")

    def ours(*line: str) -> None:
        engine.cli("push", "-q", "--tls-verify=false", *line)

    for words in ([], ["--format", "oci"]):
        ours(*words, IMAGE, f"{registry.host}/ours:1")
        others.podman("push", "-q", "--tls-verify=false", *words, IMAGE, f"{registry.host}/theirs:1")
        assert types_there(registry, "ours") == types_there(registry, "theirs")
        assert types_there(registry, "ours") == ["application/vnd.oci.image.layer.v1.tar+zstd"]
    # Where Podman 4.3 fails, and newer ones take gzip.
    ours("--format", "v2s2", IMAGE, f"{registry.host}/docker:1")
    assert types_there(registry, "docker") == ["application/vnd.docker.image.rootfs.diff.tar.gzip"]
    for kind in ("dir", "oci"):
        places = {who: engine.path / f"{who}-{kind}" for who in ("ours", "theirs")}
        engine.cli("push", "-q", IMAGE, f"{kind}:{places['ours']}")
        others.podman("push", "-q", IMAGE, f"{kind}:{places['theirs']}")
        assert types_in(places["ours"]) == types_in(places["theirs"]), kind
    # An option wins.
    ours("--compression-format", "gzip", IMAGE, f"{registry.host}/asked:1")
    assert types_there(registry, "asked")[0].endswith("tar+gzip")


def types_there(registry: RealRegistry, name: str) -> list[str]:
    return [layer["mediaType"] for layer in json.loads(registry.manifest(name, "1"))["layers"]]


@pytest.mark.usefixtures("others")
def test_a_level_counts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {}
    for level in (1, 9):
        configure(engine, monkeypatch, compression_level=level)
        engine.cli("push", "-q", IMAGE, f"oci:{engine.path}/level-{level}")
        sizes[level] = _size(engine.path / f"level-{level}")
    assert sizes[9] < sizes[1]
    engine.cli("push", "-q", "--compression-level", "1", IMAGE, f"oci:{engine.path}/asked")
    assert _size(engine.path / "asked") == sizes[1]


def _size(place: Path) -> int:
    return max(path.stat().st_size for path in place.glob("blobs/sha256/*"))


def test_archives_are_saved_with_gzip_as_podman_does(
    engine: Engine, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(engine, monkeypatch, compression_format="zstd", compression_level=19)
    for form in ("oci-dir", "docker-dir"):
        places = {who: engine.path / f"{who}-{form}" for who in ("ours", "theirs")}
        engine.cli("save", "-q", "--format", form, "-o", places["ours"], IMAGE)
        others.podman("save", "-q", "--format", form, "-o", str(places["theirs"]), IMAGE)
        assert types_in(places["ours"]) == types_in(places["theirs"]), form


def test_archives_of_several_images_are_the_rule_where_it_is_said_so(
    engine: Engine, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_image(engine, "localhost/other:1")
    configure(engine, monkeypatch, multi_image_archive=True)
    ours, theirs, single = (engine.path / f"{name}.tar" for name in ("ours", "theirs", "single"))
    engine.cli("save", "-q", "-o", ours, IMAGE, "localhost/other:1")
    others.podman("save", "-q", "-o", str(theirs), IMAGE, "localhost/other:1")
    assert _tags(ours) == _tags(theirs) == [[IMAGE], ["localhost/other:1"]]
    engine.cli("save", "-q", "-m=false", "-o", single, IMAGE, "localhost/other:1")
    assert _tags(single) == [[IMAGE, "localhost/other:1"]]
    assert engine.cli("save", "-q", "--format", "oci-archive", "-o", single, IMAGE).returncode == 0


def _tags(archive: Path) -> list[list[str]]:
    with tarfile.open(archive) as tar:
        found = tar.extractfile("manifest.json")
        assert found is not None
        return [image["RepoTags"] for image in json.load(found)]
