"""Images that come and go through a real supervisor, beside the other engines on its store."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.images import made
from tests.images.filling import others_of
from tests.images.made import archive_of, digest_of
from tests.storage.images import busybox, tar_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

_NEEDED = missing("podman", "skopeo", "buildah", "docker-registry")
pytestmark = [
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
    pytest.mark.oci_runtime("runc"),
]
IMAGE = "io.pyman.Image"
PLAIN = {"tls_verify": False}


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@contextmanager
def _open(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def stream(
    engine: Engine, method: str, parameters: dict[str, Any], *descriptors: int
) -> list[dict[str, Any]]:
    """Every reply; the last is the result."""
    replies = []
    with engine.wire() as wire:
        wire.send(f"{IMAGE}.{method}", parameters, more=True, descriptors=descriptors)
        while True:
            reply = wire.receive()
            if "error" in reply:
                raise VarlinkError(reply["error"], reply.get("parameters") or {})
            replies.append(reply["parameters"])
            if not reply.get("continues"):
                return replies


def load(engine: Engine, path: Path) -> dict[str, Any]:
    with _open(path) as fd:
        return stream(engine, "Load", {}, fd)[-1]


def save(engine: Engine, path: Path, *names: str, **parameters: Any) -> None:
    with _open(path, os.O_WRONLY | os.O_CREAT) as fd:
        stream(engine, "Save", {"names": names, "path": str(path), **parameters}, fd)


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(event["Status"], event["Name"]) for event in engine.events(type=["image"])]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def shell(name: str = "localhost/shell:1") -> bytes:
    """A docker-archive of an image with a shell."""
    return archive_of(made.Image(tar_of(busybox()), made.layer("word", b"said"), Cmd=["sh"]).docker(name))


def names(engine: Engine) -> dict[str, list[str]]:
    found = engine.call(f"{IMAGE}.List", {})["images"]
    return {image["id"]: image["names"] for image in found}


def test_an_archive_is_loaded_run_by_podman_and_saved_the_same(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "in.tar", shell())
    loaded = load(engine, path)
    assert loaded["names"] == ["localhost/shell:1"]
    assert others_of(engine).run_in("localhost/shell:1", "read word </word; echo $word") == "said"
    leave_no_mount(engine)
    save(engine, tmp_path / "out.tar", "localhost/shell:1")
    with tarfile.open(path) as before, tarfile.open(tmp_path / "out.tar") as after:
        for name in before.getnames():
            if name != "manifest.json":
                assert before.extractfile(name).read() == after.extractfile(name).read()  # type: ignore[union-attr]
    assert told(engine) == [("loadfromarchive", str(path)), ("save", f"{tmp_path}/out.tar")]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_was_saved_podman_loads_and_the_other_way_round(
    engine: Engine, tmp_path: Path, form: str
) -> None:
    others = others_of(engine)
    id = load(engine, write(tmp_path / "in.tar", shell()))["ids"][0]
    out = tmp_path / "out"
    if form.endswith("dir"):
        stream(engine, "Save", {"names": ["shell:1"], "format": form, "path": str(out)})
    else:
        save(engine, out, "shell:1", format=form)
    others.podman("rmi", "--all", "--force")
    assert names(engine) == {}
    others.podman("load", "-q", "-i", str(out))
    assert list(names(engine)) == [id]
    again = tmp_path / "again"
    others.podman("save", "-q", "--format", form, "-o", str(again), id)
    others.podman("rmi", "--all", "--force")
    result = stream(engine, "Load", {"path": str(again)})[-1]
    assert result == {**result, "ids": [id], "names": [f"sha256:{id}"]}
    leave_no_mount(engine)


def test_several_images_and_names_go_into_one_archive_and_come_back(engine: Engine, tmp_path: Path) -> None:
    one, two = made.image(), made.image()
    members = {**one.docker(), **two.docker()}
    items = [
        json.loads(each.docker(*tags)["manifest.json"])[0]
        for each, tags in ((one, ("a:1", "a:2")), (two, ()))
    ]
    members["manifest.json"] = json.dumps(items).encode()
    loaded = load(engine, write(tmp_path / "in.tar", archive_of(members)))
    assert loaded["ids"] == [one.id, two.id]
    assert loaded["names"] == ["docker.io/library/a:1", "docker.io/library/a:2", f"sha256:{two.id}"]
    save(engine, tmp_path / "out.tar", "a:1", "a:2", two.id, multi_image_archive=True)
    save(engine, tmp_path / "named.tar", "a:1", "b:1", "registry.example/c")
    others_of(engine).podman("rmi", "--all", "--force")
    assert load(engine, tmp_path / "out.tar")["names"] == loaded["names"]
    assert names(engine)[two.id] == []
    load(engine, tmp_path / "named.tar")
    assert set(names(engine)[one.id]) == {
        "docker.io/library/a:1", "docker.io/library/a:2", "localhost/b:1", "registry.example/c:latest",
    }  # fmt: skip


def test_an_archive_comes_and_goes_through_pipes(engine: Engine, tmp_path: Path) -> None:
    data = gzip.compress(shell())
    reader, writer = os.pipe()
    with engine.wire() as wire:
        wire.send(f"{IMAGE}.Load", {}, more=True, descriptors=[reader])
        os.close(reader)
        with os.fdopen(writer, "wb") as file:
            file.write(data)
        while (reply := wire.receive()).get("continues"):
            pass
    assert reply["parameters"]["names"] == ["localhost/shell:1"]
    reader, writer = os.pipe()
    with engine.wire() as wire:
        wire.send(f"{IMAGE}.Save", {"names": ["shell:1"]}, more=True, descriptors=[writer])
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            saved = file.read()
        while (reply := wire.receive()).get("continues"):
            pass
    assert "error" not in reply
    write(tmp_path / "out.tar", saved)
    assert load(engine, tmp_path / "out.tar")["names"] == ["localhost/shell:1"]


@pytest.mark.parametrize("what", ["layer", "config", "layer count", "cut off", "hostile layer"])
def test_a_load_that_fails_leaves_nothing_behind(engine: Engine, tmp_path: Path, what: str) -> None:
    image = made.image()
    members = image.docker("a:1")
    first = f"{digest_of(image.diffs[0])[7:]}.tar"
    if what == "layer":
        members[first] = made.layer("one", b"other")
    elif what == "config":
        members[f"{image.id}.json"] = b"[]"
    elif what == "layer count":
        members |= image.docker(Layers=[first])
    elif what == "hostile layer":
        image = made.Image(made.layer("ok"), made.archive_of({"../../../outside": b"x", "link": "/etc"}))
        members = image.docker("a:1")
    data = archive_of(members)
    if what == "cut off":
        data = gzip.compress(data)[:-30]
    path = write(tmp_path / "in.tar", data)
    with pytest.raises(VarlinkError) as caught:
        load(engine, path)
    assert caught.value.name in ("io.pyman.ArchiveRefused", "io.pyman.DigestMismatch")
    assert names(engine) == {}
    assert told(engine) == []
    for directory in ("overlay-images", "overlay-layers"):
        left = [each for each in _files(engine.root / directory) if each.endswith(".json")]
        for each in left:
            assert json.loads((engine.root / directory / each).read_bytes() or b"[]") in ([], None)
    assert [each for each in _files(engine.root / "overlay") if len(each) == 64] == []
    assert not (tmp_path / "outside").exists()


def _files(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.exists() else []


def _fill(pipe: int) -> None:
    while True:
        os.write(pipe, bytes(1 << 20))


def test_a_load_whose_caller_goes_away_has_not_happened(engine: Engine) -> None:
    reader, writer = os.pipe()
    with engine.wire() as wire:
        wire.send(f"{IMAGE}.Load", {}, more=True, descriptors=[reader])
        os.close(reader)
        os.write(writer, shell()[:60_000])
    # The program that reads is gone, too: nobody holds the pipe.
    with pytest.raises(BrokenPipeError):
        _fill(writer)
    os.close(writer)
    assert names(engine) == {}


def test_a_tar_archive_becomes_an_image_that_podman_runs(engine: Engine, tmp_path: Path) -> None:
    request = {
        "reference": "made/here",
        "changes": ["ENV WORD=said", 'CMD ["sh", "-c", "echo $WORD"]', "LABEL a=b"],
        "message": "by hand",
        "platform": {"arch": "amd64"},
    }
    path = write(tmp_path / "in.tar.gz", gzip.compress(tar_of(busybox())))
    with _open(path) as fd:
        result = stream(engine, "Import", request, fd)[-1]
    others = others_of(engine)
    assert result["names"] == ["localhost/made/here:latest"]
    assert others.run_in("localhost/made/here", "echo $WORD") == "said"
    leave_no_mount(engine)
    shown = json.loads(others.podman("inspect", result["ids"][0]))[0]
    assert shown["Comment"] == "by hand"
    assert shown["Config"]["Labels"] == {"a": "b"}
    assert told(engine) == [("import", "localhost/made/here:latest")]
    with _open(write(tmp_path / "bad.tar", b"no archive at all" * 100)) as fd, pytest.raises(VarlinkError):
        stream(engine, "Import", {}, fd)
    with _open(path) as fd, pytest.raises(VarlinkError, match="InvalidArgument"):
        stream(engine, "Import", {"changes": ["RUN x"]}, fd)
    assert len(names(engine)) == 1


def test_a_supervisor_that_is_killed_within_an_import_has_not_made_an_image(engine: Engine) -> None:
    files = {f"file{number}": os.urandom(100_000) for number in range(100)}
    data = archive_of(files)
    reader, writer = os.pipe()
    with engine.wire() as wire:
        wire.send(f"{IMAGE}.Import", {"reference": "never"}, more=True, descriptors=[reader])
        os.close(reader)
        with os.fdopen(writer, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            assert wire.receive()["parameters"]["progress"]["action"] == "unpacking"
            engine.kill()
    assert names(engine) == {}
    assert told(engine) == []
    with os.fdopen(os.memfd_create("archive"), "w+b") as whole:
        whole.write(data)
        whole.seek(0)
        result = stream(engine, "Import", {"reference": "now"}, whole.fileno())[-1]
    assert names(engine) == {result["ids"][0]: ["localhost/now:latest"]}
    # What was left is gone at the latest with what the second one has tidied up.
    assert [path for path in (engine.root / "pyman" / "store").rglob("*") if path.name in files] == []


def test_an_import_without_a_name_is_known_by_its_id(engine: Engine, tmp_path: Path) -> None:
    with _open(write(tmp_path / "in.tar", tar_of(busybox()))) as fd:
        result = stream(engine, "Import", {}, fd)[-1]
    assert names(engine) == {result["ids"][0]: []}


def test_places_are_pulled_from_and_pushed_to_by_name(engine: Engine, tmp_path: Path) -> None:
    image = made.image()
    made.write(tmp_path / "layout", image.layout("a", "b"))
    made.write(tmp_path / "dir", image.directory())
    write(tmp_path / "in.tar", archive_of(image.docker("registry.example/c:1")))
    for reference, name in (
        (f"oci:{tmp_path}/layout:b", ["localhost/b:latest"]),
        (f"dir:{tmp_path}/dir", [f"sha256:{image.id}"]),
        (f"docker-archive:{tmp_path}/in.tar", ["registry.example/c:1"]),
        ("containers-storage:registry.example/c:1", ["registry.example/c:1"]),
    ):
        pulled = stream(engine, "Pull", {"reference": reference})[-1]
        assert (pulled["ids"], pulled["names"]) == ([image.id], name)
    assert names(engine) == {image.id: ["localhost/b:latest", "registry.example/c:1"]}
    others = others_of(engine)
    for kind in ("oci", "dir", "oci-archive", "docker-archive"):
        pushed = stream(engine, "Push", {"name": "b", "destination": f"{kind}:{tmp_path}/{kind}"})[-1]
        assert pushed["ids"] == [image.id]
        others.skopeo("copy", f"{kind}:{tmp_path}/{kind}", f"dir:{tmp_path}/copied")
        digest = json.loads((tmp_path / "copied" / "manifest.json").read_bytes())["config"]["digest"]
        assert digest == f"sha256:{image.id}"
    with pytest.raises(VarlinkError, match="docker-daemon"):
        stream(engine, "Pull", {"reference": "docker-daemon:a:1"})
    assert told(engine)[-1] == ("pull-error", "docker-daemon:a:1")
    with pytest.raises(VarlinkError, match="no registry"):
        stream(engine, "Pull", {"reference": f"dir:{tmp_path}/dir", "all_tags": True})


def test_the_command_line_takes_relative_paths_and_its_own_streams(engine: Engine, tmp_path: Path) -> None:
    image = made.image()
    made.write(tmp_path / "layout", image.layout("a"))
    assert engine.out("pull", "-q", "oci:layout:a", cwd=tmp_path) == image.id
    assert engine.out("push", "-q", "a", "docker-archive:out.tar", cwd=tmp_path) == ""
    assert engine.out("pull", "-q", "docker-archive:out.tar:localhost/a", cwd=tmp_path) == image.id
    engine.cli("save", "-q", "-o", "saved.tar", "a", cwd=tmp_path)
    assert "localhost/a:latest" in engine.out("load", "-q", "-i", "saved.tar", cwd=tmp_path)
    assert [each for each in told(engine) if each[0] in ("save", "loadfromarchive")] == [
        ("save", f"{tmp_path}/saved.tar"),
        ("loadfromarchive", f"{tmp_path}/saved.tar"),
    ]


def test_an_image_of_another_store_is_pulled(engine: Engine) -> None:
    others = others_of(engine)
    others.root, others.run = engine.path / "other", engine.path / "other-run"
    others.podman("import", "-q", "-", "localhost/theirs:1", stdin=tar_of(busybox()))
    id = others.podman("inspect", "--format", "{{.Id}}", "localhost/theirs:1")
    reference = f"containers-storage:[overlay@{others.root}+{others.run}]localhost/theirs:1"
    pulled = stream(engine, "Pull", {"reference": reference})[-1]
    assert pulled["ids"] == [id]
    assert names(engine) == {id: ["localhost/theirs:1"]}
    with pytest.raises(VarlinkError, match="NotSupported"):
        stream(engine, "Pull", {"reference": "containers-storage:[vfs@/nowhere]a"})


def test_an_image_is_pushed_and_podman_pulls_it(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    id = load(engine, write(tmp_path / "in.tar", shell()))["ids"][0]
    to = f"{registry.host}/pushed/app:1"
    replies = stream(engine, "Push", {"name": "shell:1", "destination": to, "access": PLAIN})
    assert replies[-1]["digest"] == digest_of(registry.manifest("pushed/app", "1"))
    states = {each["progress"]["action"] for each in replies if each.get("progress")}
    assert states <= {"packing", "uploading", "done"}
    assert "done" in states
    others = others_of(engine)
    others.podman("rmi", "--all", "--force")
    assert others.podman("pull", "-q", "--tls-verify=false", to) == id
    assert told(engine)[-1] == ("push", to)
    again = stream(engine, "Push", {"name": to, "access": PLAIN, "quiet": True})
    assert again == [{**again[0], "ids": [id], "digest": replies[-1]["digest"]}]


def test_a_push_that_fails_says_so_and_tells_no_event(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    load(engine, write(tmp_path / "in.tar", shell()))
    before = told(engine)
    for destination, error in (
        ("localhost:1/nobody/there:1", "RegistryFailed"),
        (f"{registry.host}/UPPER", "InvalidArgument"),
        ("docker-daemon:a:1", "NotSupported"),
        (f"dir:{tmp_path}", "InvalidArgument"),
    ):
        request = {"name": "shell:1", "destination": destination, "access": {**PLAIN, "retry": 0}}
        with pytest.raises(VarlinkError, match=error):
            stream(engine, "Push", request)
    assert told(engine) == before


def test_manifest_lists_are_podmans_and_podmans_are_ours(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    load(engine, write(tmp_path / "in.tar", shell()))
    others = others_of(engine)
    digest = engine.call(f"{IMAGE}.List", {})["images"][0]["digest"]
    id = engine.call(f"{IMAGE}.ManifestCreate", {"name": "ours", "images": ["localhost/shell:1"]})["id"]
    theirs = json.loads(others.podman("manifest", "inspect", "ours"))
    ours = engine.call(f"{IMAGE}.ManifestInspect", {"name": "ours"})["manifest"]
    assert [each["digest"] for each in theirs["manifests"]] == [digest]
    assert theirs["manifests"] == ours["manifests"]
    assert ours["manifests"][0]["platform"]["architecture"] == "amd64"
    others.podman("manifest", "annotate", "ours", "--annotation", "a=b", digest)
    ours = engine.call(f"{IMAGE}.ManifestInspect", {"name": "ours"})["manifest"]
    assert ours["manifests"][0]["annotations"] == {"a": "b"}

    others.podman("manifest", "create", "theirs")
    request = {
        "name": "theirs",
        "images": ["containers-storage:localhost/shell:1"],
        "annotations": {"c": "d"},
    }
    engine.call(f"{IMAGE}.ManifestAdd", request)
    wish = {"name": "theirs", "digest": digest, "platform": {"variant": "v3"}, "os_version": "7"}
    engine.call(f"{IMAGE}.ManifestAnnotate", wish)
    (member,) = json.loads(others.podman("manifest", "inspect", "theirs"))["manifests"]
    assert member["annotations"] == {"c": "d"}
    assert member["platform"] == {"architecture": "amd64", "os": "linux", "os.version": "7", "variant": "v3"}

    with pytest.raises(VarlinkError, match="InvalidArgument"):
        engine.call(f"{IMAGE}.ManifestCreate", {"name": "ours"})
    assert engine.call(f"{IMAGE}.ManifestCreate", {"name": "ours", "amend": True})["id"] == id
    to = f"docker://{registry.host}/lists/ours:1"
    pushed = stream(engine, "ManifestPush", {"name": "ours", "destination": to, "access": PLAIN})[-1]
    index = registry.manifest("lists/ours", "1")
    assert pushed["digest"] == digest_of(index)
    (member,) = json.loads(index)["manifests"]
    assert registry.manifest("lists/ours", member["digest"])
    to = f"docker://{registry.host}/lists/theirs:1"
    others.podman("manifest", "push", "--all", "--tls-verify=false", "ours", to)
    leave_no_mount(engine)
    engine.call(f"{IMAGE}.ManifestAnnotate", {"name": "ours", "digest": digest, "remove": True})
    assert json.loads(others.podman("manifest", "inspect", "ours"))["manifests"] in ([], None)


def test_lists_are_made_found_and_removed_on_the_command_line(engine: Engine, tmp_path: Path) -> None:
    load(engine, write(tmp_path / "in.tar", shell()))
    id = engine.out("manifest", "create", "lists:1", "shell:1")
    assert engine.cli("manifest", "exists", "lists:1", check=False).returncode == 0
    assert engine.cli("manifest", "exists", "shell:1", check=False).returncode == 1
    shown = json.loads(engine.out("manifest", "inspect", "lists:1"))
    digest = shown["manifests"][0]["digest"]
    assert engine.out("manifest", "annotate", "--annotation", "a=b", "lists:1", digest) == id
    engine.cli("push", "-q", "lists:1", "oci:layout:x", cwd=tmp_path)
    others_of(engine).skopeo("copy", "--all", f"oci:{tmp_path}/layout:x", f"dir:{tmp_path}/copied")
    assert engine.cli("manifest", "rm", "shell:1", check=False).returncode == 125
    assert id in engine.out("manifest", "rm", "lists:1")
    assert engine.cli("manifest", "exists", "lists:1", check=False).returncode == 1
    assert list(names(engine).values()) == [["localhost/shell:1"]]


def test_members_elsewhere_are_named_and_passed_on_with_the_list(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    from tests.support.registry import tar_layer

    remote = registry.push("source/app", "1", [tar_layer({"a": b"b"})])
    request = {"name": "mixed", "images": [f"docker://{remote.reference}"], "access": PLAIN}
    engine.call(f"{IMAGE}.ManifestCreate", request)
    assert [each for each in names(engine).values() if each] == [["localhost/mixed:latest"]]
    to = f"docker://{registry.host}/target/app:1"
    stream(
        engine, "ManifestPush", {"name": "mixed", "destination": to, "access": PLAIN, "remove_after": True}
    )
    (member,) = json.loads(registry.manifest("target/app", "1"))["manifests"]
    assert member["digest"] == remote.digest
    assert registry.manifest("target/app", remote.digest) == remote.manifest
    assert names(engine) == {}
    assert told(engine)[-2:] == [("push", to), ("remove", told(engine)[-1][1])]
    shown = engine.call(f"{IMAGE}.ManifestInspect", {"name": to, "access": PLAIN})["manifest"]
    assert shown["manifests"][0]["digest"] == remote.digest
    layout = f"oci:{tmp_path}/layout:x"
    stream(engine, "Pull", {"reference": f"{registry.host}/target/app:1", "access": PLAIN})
    engine.call(f"{IMAGE}.ManifestCreate", {"name": "again", "images": [f"{registry.host}/target/app:1"]})
    stream(engine, "ManifestPush", {"name": "again", "destination": layout})
    others_of(engine).skopeo("copy", "--all", layout, f"dir:{tmp_path}/copied")


def test_buildah_builds_on_the_engines_store(engine: Engine, tmp_path: Path) -> None:
    shutil.copy("/bin/busybox", tmp_path / "busybox")
    (tmp_path / "Containerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo from within"]\n'
    )
    request = {
        "arguments": ["--isolation", "chroot", "-t", "built:1", "."],
        "cwd": str(tmp_path),
        "environment": {"PATH": os.environ["PATH"]},
        "tags": ["built:1"],
    }
    with _open(tmp_path / "log", os.O_RDWR | os.O_CREAT) as log, engine.wire(timeout=60) as wire:
        wire.send(f"{IMAGE}.Build", request, descriptors=[log, log, log])
        reply = wire.receive()["parameters"]
        said = os.pread(log, 100_000, 0).decode()
    assert reply["exit_code"] == 0, said
    assert "from within" in said
    assert names(engine) == {reply["id"]: ["localhost/built:1"]}
    assert told(engine) == [("build", "built:1")]


def test_a_build_whose_caller_goes_away_ends_and_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    shutil.copy("/bin/busybox", tmp_path / "busybox")
    (tmp_path / "Containerfile").write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nRUN ["/bin/sh", "-c", "echo begun; sleep 1000"]\n'
    )
    reader, writer = os.pipe()
    with open("/dev/null", "rb") as null, engine.wire() as wire:
        request = {
            "arguments": ["--isolation", "chroot", "."],
            "cwd": str(tmp_path),
            "environment": {"PATH": os.environ["PATH"]},
        }
        wire.send(f"{IMAGE}.Build", request, descriptors=[null.fileno(), writer, writer])
        os.close(writer)
        said = b""
        while b"\nbegun" not in said:
            said += os.read(reader, 65536) or pytest.fail(said.decode())
    # All that had the pipe have ended when it is at its end.
    while os.read(reader, 65536):
        pass
    os.close(reader)
    assert names(engine) == {}
    assert others_of(engine).podman("ps", "--all", "--external", "-q") == ""
