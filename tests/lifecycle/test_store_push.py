"""Images pushed into stores: the engine's own, and those of other graph roots, which the other engines read."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.made import Image, archive_of, digest_of, layer
from tests.storage.images import busybox, tar_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount, podman
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = [
    pytest.mark.oci_runtime("runc", "rootless"),
    pytest.mark.skipif(bool(missing("podman", "skopeo")), reason=missing("podman", "skopeo")),
]
IMAGE = "io.pyman.Image"
SHELL = "localhost/shell:1"


class Store:
    """Another graph root, as Podman has it in the engine's namespaces."""

    def __init__(self, engine: Engine, name: str = "other") -> None:
        self._engine = engine
        self.root = engine.path / name
        self.run = engine.path / f"{name}-run"

    def place(self, name: str, *, driver: str = "overlay@", options: str = "") -> str:
        return f"containers-storage:[{driver}{self.root}+{self.run}{options}]{name}"

    def podman(self, *words: str, stdin: bytes | None = None) -> str:
        # The last of these options counts.
        return podman(
            self._engine, f"--root={self.root}", f"--runroot={self.run}", *words, stdin=stdin
        ).stdout.strip()

    def images(self) -> dict[str, list[str]]:
        listed = json.loads(self.podman("images", "--all", "--format", "json"))
        return {image["Id"]: image.get("Names") or [] for image in listed}

    def layers(self, name: str) -> list[bytes]:
        """As Podman saves them."""
        file = self._engine.path / "saved.tar"
        self.podman("save", "--quiet", "--output", str(file), name)
        with tarfile.open(file) as archive:

            def member(name: str) -> bytes:
                found = archive.extractfile(name)
                assert found is not None
                return found.read()

            return [member(name) for name in json.loads(member("manifest.json"))[0]["Layers"]]

    def litter(self) -> list[str]:
        """What is there besides the images and layers that Podman sees."""
        known = {record["id"] for record in self._records("layers")}
        found = [path for path in self.root.glob("overlay/*") if len(path.name) == 64]
        left = [str(path) for path in found if path.name not in known]
        left += map(str, self.root.glob("pyman/store/*"))
        return left

    def _records(self, kind: str) -> list[dict[str, Any]]:
        path = self.root / f"overlay-{kind}/{kind}.json"
        return json.loads(path.read_bytes()) if path.exists() else []


@pytest.fixture
def other(engine: Engine) -> Iterator[Store]:
    store = Store(engine)
    yield store
    subprocess.run(
        [*engine.place.prefix("/"), "umount", "--lazy", "--quiet", str(store.root / "overlay")],
        check=False,
        capture_output=True,
    )


def stream(engine: Engine, method: str, parameters: dict[str, Any], *descriptors: int) -> dict[str, Any]:
    with engine.wire(timeout=60) as wire:
        return list(wire.stream(f"{IMAGE}.{method}", parameters, descriptors))[-1]


@pytest.fixture
def image(engine: Engine, tmp_path: Path) -> Image:
    """In the engine's store."""
    made = Image(tar_of(busybox()), layer("word", b"said"), Cmd=["sh"])
    (tmp_path / "in.tar").write_bytes(archive_of(made.docker(SHELL)))
    fd = os.open(tmp_path / "in.tar", os.O_RDONLY)
    try:
        stream(engine, "Load", {}, fd)
    finally:
        os.close(fd)
    return made


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(event["Status"], event["Name"]) for event in engine.events(type=["image"])][1:]


def names(engine: Engine) -> dict[str, list[str]]:
    found = engine.call(f"{IMAGE}.List", {"all": True})["images"]
    return {image["id"]: sorted(image["names"]) for image in found}


def push(engine: Engine, destination: str, name: str = SHELL, **wish: Any) -> dict[str, Any]:
    return stream(engine, "Push", {"name": name, "destination": destination, **wish})


def test_a_push_to_the_own_store_is_a_further_name_and_one_event(engine: Engine, image: Image) -> None:
    digest = engine.call(f"{IMAGE}.List", {})["images"][0]["digest"]
    own = f"containers-storage:[overlay@{engine.root}+{engine.runroot}]registry.example/own:2"
    assert push(engine, "containers-storage:short")["digest"] == digest
    assert push(engine, own)["digest"] == digest
    assert names(engine) == {
        image.id: sorted((SHELL, "docker.io/library/short:latest", "registry.example/own:2"))
    }
    assert told(engine) == [("push", "containers-storage:short"), ("push", own)]
    listed = json.loads(podman(engine, "images", "--format", "json").stdout)
    assert sorted(listed[0]["Names"]) == names(engine)[image.id]
    leave_no_mount(engine)


def test_another_format_is_a_further_manifest_in_the_own_store(engine: Engine, image: Image) -> None:
    digest = push(engine, "containers-storage:registry.example/oci:1", format="oci")["digest"]
    seen = json.loads(podman(engine, "image", "inspect", "registry.example/oci:1").stdout)[0]
    assert seen["Id"] == image.id
    assert f"registry.example/oci@{digest}" in seen["RepoDigests"]
    assert seen["ManifestType"] == "application/vnd.oci.image.manifest.v1+json"
    leave_no_mount(engine)


def test_a_store_that_is_not_there_is_made_and_podman_runs_what_is_pushed(
    engine: Engine, image: Image, other: Store
) -> None:
    to = other.place("registry.example/there:1")
    digest = push(engine, to)["digest"]
    assert told(engine) == [("push", to)]
    assert other.images() == {image.id: ["registry.example/there:1"]}
    seen = json.loads(other.podman("image", "inspect", "there:1"))[0]
    assert seen["Digest"] == digest
    assert seen["RootFS"]["Layers"] == [digest_of(each) for each in image.diffs]
    assert other.layers("there:1") == image.diffs
    assert other.litter() == []
    # And back, under the name that it has there.
    engine.call(f"{IMAGE}.Remove", {"all": True, "force": True})
    assert stream(engine, "Pull", {"reference": to})["ids"] == [image.id]
    assert names(engine) == {image.id: ["registry.example/there:1"]}


@pytest.mark.usefixtures("image")
def test_what_is_pushed_runs_there(engine: Engine, other: Store) -> None:
    if hasattr(engine.place, "user"):
        pytest.skip("a Podman in the engine's namespaces has no cgroups")
    push(engine, other.place("registry.example/there:1"))
    limits = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    script = "read word </word; echo $word"
    assert other.podman("run", "--rm", *limits, "there:1", "sh", "-c", script) == "said"


def test_an_image_joins_what_podman_has_there(engine: Engine, image: Image, other: Store) -> None:
    theirs = other.podman("import", "-q", "-", "localhost/theirs:1", stdin=image.diffs[0])
    push(engine, other.place("localhost/ours:1"))
    push(engine, other.place("localhost/theirs:1", driver=""))
    found = other.images()
    assert found[theirs.removeprefix("sha256:")] == []
    assert sorted(found[image.id]) == ["localhost/ours:1", "localhost/theirs:1"]
    records = json.loads((other.root / "overlay-layers/layers.json").read_bytes())
    assert len(records) == len(image.diffs), "the layer that they have in common is there once"
    other.podman("rmi", "--all", "--force")
    assert list(other.root.glob("overlay/?" + "?" * 63)) == []
    # What Podman has made and taken away, it is pushed to again.
    push(engine, other.place(f"@{image.id}"))
    assert other.images() == {image.id: []}


@pytest.mark.usefixtures("image")
def test_an_image_is_pushed_as_skopeo_reads_it(engine: Engine, other: Store) -> None:
    digest = push(engine, other.place("short", options=":overlay.mountopt=nodev"), format="v2s2")["digest"]
    argv = ["skopeo", "inspect", "--raw", other.place("docker.io/library/short:latest")]
    if hasattr(engine.place, "user"):
        argv = engine.command("unshare", "env", "--unset=CONTAINERS_CONF", *argv)
    done = subprocess.run(
        [*engine.place.prefix("/"), *argv],
        capture_output=True,
        env=engine.environment,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert digest_of(done.stdout) == digest
    types = {each["mediaType"] for each in json.loads(done.stdout)["layers"]}
    assert types == {"application/vnd.docker.image.rootfs.diff.tar"}


REFUSALS = [
    ("[vfs@{root}+{run}]a:1", {}, "NotSupported", "'vfs'"),
    ("[overlay@{root}+{run}:overlay.bogus=1]a:1", {}, "NotSupported", "'overlay.bogus'"),
    ("[overlay@{root}+{run}:overlay.size=1G]a:1", {}, "NotSupported", "'overlay.size'"),
    ("[overlay@{root}+{run}:overlay.mount_program=x]a:1", {}, "InvalidArgument", "mount_program"),
    ("[overlay@{root}+{run}]@" + "0" * 64, {}, "InvalidArgument", "its id is not 0000"),
    ("[overlay@{root}+{run}]a@sha256:" + "0" * 64, {}, "InvalidArgument", "the manifest that is written"),
    ("[overlay@{root}+{run}]UPPER", {}, "InvalidArgument", "UPPER"),
    ("[overlay@{root}+{run}]a:1", {"compression": "zstd"}, "InvalidArgument", "has their files"),
    ("a:1", {"compression": "gzip"}, "InvalidArgument", "has their files"),
    ("a@sha256:" + "0" * 64, {}, "InvalidArgument", "the manifest that is written"),
    ("@" + "0" * 64, {}, "InvalidArgument", "its id is not 0000"),
    ("[overlay@relative]a:1", {}, "InvalidArgument", "absolute"),
    ("[overlay@/proc/nothing]a:1", {}, "StorageFailed", "/proc/nothing"),
]


@pytest.mark.usefixtures("image")
def test_what_cannot_be_done_is_refused_by_name_and_nothing_is_made(engine: Engine, other: Store) -> None:
    before = names(engine)
    for place, wish, kind, word in REFUSALS:
        text = "containers-storage:" + place.format(root=other.root, run=other.run)
        assert refused(engine, text, **wish) == (f"io.pyman.{kind}", word), place
        assert not other.root.exists()
    assert (names(engine), told(engine)) == (before, [])


def refused(engine: Engine, text: str, **wish: Any) -> tuple[str, str]:
    """The error, and which of the words that are looked for it says."""
    with pytest.raises(VarlinkError) as caught:
        push(engine, text, **wish)
    message = caught.value.parameters["message"]
    return caught.value.name, next((word for *_, word in REFUSALS if word in message), message)


@pytest.mark.usefixtures("image")
def test_a_store_of_somebody_else_or_of_another_kind_is_left_alone(engine: Engine) -> None:
    made = {name: engine.path / name for name in ("foreign", "vfs", "partly", "file")}
    for name in ("foreign", "vfs/vfs-images", "partly"):
        (engine.path / name).mkdir(parents=True)
    os.chown(made["foreign"], 12345, 12345)
    (made["partly"] / "overlay-images").symlink_to("/etc")
    made["file"].write_text("")
    if hasattr(engine.place, "user"):
        for path in (made["vfs"], made["partly"], made["file"]):
            engine.place.user.owns(path)
    found = {}
    for name, root in made.items():
        before = sorted(root.rglob("*"))
        found[name] = refused(engine, f"containers-storage:[{root}]a:1")[0].rpartition(".")[2]
        assert sorted(root.rglob("*")) == before
    assert found == {
        "foreign": "PermissionDenied",
        "vfs": "NotSupported",
        "partly": "InvalidArgument",
        "file": "InvalidArgument",
    }
    assert told(engine) == []


@pytest.mark.usefixtures("image")
def test_a_manifest_list_is_refused(engine: Engine, other: Store) -> None:
    engine.call(f"{IMAGE}.ManifestCreate", {"name": "list:1", "images": [SHELL]})
    request = {"name": "list:1", "destination": other.place("a:1")}
    with pytest.raises(VarlinkError, match=r"NotSupported .*manifest list"):
        stream(engine, "ManifestPush", request)
    assert not other.root.exists()


def test_a_damaged_layer_leaves_nothing_there(engine: Engine, image: Image, other: Store) -> None:
    push(engine, other.place("localhost/first:1"), name=SHELL)
    more = Image(*image.diffs, layer("more", b"x"))
    with (engine.path / "more.tar").open("w+b") as file:
        file.write(archive_of(more.docker("localhost/more:1")))
        file.seek(0)
        stream(engine, "Load", {}, file.fileno())
    (word,) = engine.root.glob("overlay/*/diff/more")
    word.write_bytes(b"y")
    before = other.images()
    with pytest.raises(VarlinkError):
        push(engine, other.place("localhost/more:1"), name="localhost/more:1")
    assert other.images() == before
    assert other.litter() == []
    assert told(engine)[-1][0] == "loadfromarchive"
