"""Images that come and go, of root's engine and of an ordinary user's."""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.made import Image, archive_of, layer
from tests.storage.images import busybox, tar_of
from tests.storage.others import missing
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc", "rootless")
IMAGE = "io.pyman.Image"


@pytest.fixture
def opened() -> Iterator[Callable[..., int]]:
    """Descriptors of root's files: what counts is the descriptor."""
    made: list[int] = []

    def opened(path: Path, flags: int = os.O_RDONLY) -> int:
        made.append(os.open(path, flags | os.O_CLOEXEC, 0o600))
        return made[-1]

    yield opened
    for fd in made:
        os.close(fd)


def stream(engine: Engine, method: str, parameters: dict[str, Any], *descriptors: int) -> dict[str, Any]:
    with engine.wire(timeout=60) as wire:
        return list(wire.stream(f"{IMAGE}.{method}", parameters, descriptors))[-1]


def test_an_image_is_loaded_and_saved_and_its_layers_are_the_same_bytes(
    engine: Engine, tmp_path: Path, opened: Callable[..., int]
) -> None:
    image = Image(tar_of(busybox()), layer("word", b"said"), Cmd=["sh"])
    (tmp_path / "in.tar").write_bytes(archive_of(image.docker("localhost/shell:1")))
    loaded = stream(engine, "Load", {}, opened(tmp_path / "in.tar"))
    assert loaded["names"] == ["localhost/shell:1"]
    for form in ("docker-archive", "oci-archive"):
        out = tmp_path / form
        stream(engine, "Save", {"names": ["shell:1"], "format": form}, opened(out, os.O_WRONLY | os.O_CREAT))
        again = stream(engine, "Load", {}, opened(out))
        assert again["ids"] == loaded["ids"] == [image.id]
    with tarfile.open(tmp_path / "docker-archive") as archive:
        names = set(archive.getnames())
    assert {name for name in image.docker() if name.endswith(".tar")} <= names


def test_a_tar_archive_is_imported_and_what_fails_leaves_nothing(
    engine: Engine, tmp_path: Path, opened: Callable[..., int]
) -> None:
    (tmp_path / "in.tar").write_bytes(tar_of(busybox()))
    (tmp_path / "bad.tar").write_bytes(archive_of({"ok": b"x", "dir/../../outside": b"x"})[:-2000])
    result = stream(engine, "Import", {"reference": "made"}, opened(tmp_path / "in.tar"))
    with pytest.raises(VarlinkError):
        stream(engine, "Import", {"reference": "bad"}, opened(tmp_path / "bad.tar"))
    images = engine.call(f"{IMAGE}.List", {})["images"]
    assert [(image["id"], image["names"]) for image in images] == [
        (result["ids"][0], ["localhost/made:latest"])
    ]


@pytest.mark.skipif(bool(missing("buildah")), reason=missing("buildah"))
def test_buildah_builds_in_the_engines_own_namespaces(
    engine: Engine, tmp_path: Path, opened: Callable[..., int]
) -> None:
    context = engine.path / "context"
    context.mkdir(mode=0o755)
    shutil.copy("/bin/busybox", context / "busybox")
    (context / "Containerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo within"]\n'
    )
    request = {
        "arguments": ["--isolation", "chroot", "-t", "built:1", "."],
        "cwd": str(context),
        "environment": {"PATH": os.environ["PATH"]},
    }
    log = opened(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    with engine.wire(timeout=60) as wire:
        wire.send(f"{IMAGE}.Build", request, descriptors=[opened(tmp_path / "log"), log, log])
        reply = wire.receive()
    said = (tmp_path / "log").read_text()
    assert reply["parameters"]["exit_code"] == 0, said
    assert "within" in said
    images = engine.call(f"{IMAGE}.List", {})["images"]
    assert {name for image in images for name in image["names"]} == {"localhost/built:1"}


@pytest.mark.skipif(bool(missing("buildah")), reason=missing("buildah"))
def test_a_build_ends_with_the_supervisor(engine: Engine) -> None:
    context = engine.path / "context"
    context.mkdir(mode=0o755)
    shutil.copy("/bin/busybox", context / "busybox")
    (context / "Containerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo begun; sleep 1000"]\n'
    )
    request = {
        "arguments": ["--isolation", "chroot", "."],
        "cwd": str(context),
        "environment": {"PATH": os.environ["PATH"]},
    }
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        with engine.wire(timeout=60) as wire:
            wire.send(f"{IMAGE}.Build", request, descriptors=[null, writer, writer])
            os.close(writer)
            said = b""
            while b"\nbegun" not in said:
                said += os.read(reader, 65536) or pytest.fail(said.decode())
            engine.kill()
            # All that had the pipe have ended when it is at its end.
            while os.read(reader, 65536):
                pass
    finally:
        os.close(reader)
        os.close(null)
