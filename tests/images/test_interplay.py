"""Pyman's own programs beside Podman, Buildah and Skopeo, old and new ones, with one graph root and one view of mounts.

The new ones are those of Debian 13, in which pyman runs then, too: whatever one of them mounts the others see.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.images.filling import others_of
from tests.storage.images import busybox
from tests.storage.others import missing
from tests.support.engine import Engine
from tests.support.images import add_layer, leave_no_mount, podman
from tests.support.leaks import mount_points
from tests.support.registry import digest_of, image_config, tar_layer
from tests.support.rootfs import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.storage.others import Others
    from tests.support.registry import Pushed, RealRegistry
    from tests.support.runtimes import Place

_NEEDED = missing("podman", "buildah", "skopeo", "docker-registry")
pytestmark = [
    pytest.mark.oci_runtime("runc", "trixie"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED),
]

PLAIN = "--tls-verify=false"
RUN = ("run", "--rm", "--network", "none")
STAY = ("run", "--detach", "--network", "none")
SAY = "read word </word; echo $word /dir/* /gone*"


@pytest.fixture
def others(engine: Engine) -> Iterator[Others]:
    others = others_of(engine)
    yield others
    others.podman("rm", "--all", "--force", "--time", "0")
    leave_no_mount(engine)


@pytest.fixture(scope="module")
def app(registry: RealRegistry) -> Pushed:
    """Two layers; the second one takes away of the first."""
    files: dict[str, bytes | str] = {"dir/gone": b"x", "gone": b"x", "bin/sleep": "sh"}
    files.update((name, content) for name, content in busybox().items() if not name.endswith("/"))
    layers = [tar_layer(files), tar_layer({"dir/.wh..wh..opq": b"", ".wh.gone": b"", "word": b"said"})]
    return registry.push("interplay/app", "1", layers, image_config(layers, Cmd=["sh", "-c", SAY]))


def listed(engine: Engine) -> dict[str, tuple[list[str], str]]:
    """Names and digest of every image."""
    images = engine.call("io.pyman.Image.List", {"all": True})["images"]
    return {image["id"]: (sorted(image["names"]), image["digest"]) for image in images}


def theirs(others: Others) -> dict[str, tuple[list[str], str]]:
    return {image["Id"]: (sorted(image.get("Names") or []), image["Digest"]) for image in others.images()}


def config_digest(manifest: bytes) -> str:
    digest: str = json.loads(manifest)["config"]["digest"]
    return digest


def test_what_pyman_pulls_the_others_list_run_and_push(
    engine: Engine, others: Others, app: Pushed, registry: RealRegistry
) -> None:
    id = engine.out("pull", "-q", PLAIN, app.reference)
    assert theirs(others) == {id: ([app.reference], app.digest)}
    assert others.run_in(app.reference, SAY) == "said /dir/* /gone*"
    others.podman("push", PLAIN, app.reference, f"{registry.host}/interplay/podman:1")
    to = f"docker://{registry.host}/interplay/skopeo:1"
    others.skopeo("copy", "--dest-tls-verify=false", others.storage(app.reference), to)
    for path in ("podman", "skopeo"):
        assert config_digest(registry.manifest(f"interplay/{path}", "1")) == f"sha256:{id}"
    engine.cli("rmi", app.reference)
    assert theirs(others) == {}
    for path in ("podman", "skopeo"):
        assert engine.out("pull", "-q", PLAIN, f"{registry.host}/interplay/{path}:1") == id
        assert engine.out(*RUN, id) == "said /dir/* /gone*"
        engine.cli("rmi", f"{registry.host}/interplay/{path}:1")


def test_what_podman_pulls_pyman_lists_runs_and_pushes_with_its_digest(
    engine: Engine, others: Others, app: Pushed, registry: RealRegistry
) -> None:
    id = others.podman("pull", "-q", PLAIN, app.reference)
    assert listed(engine) == {id: ([app.reference], app.digest)}
    assert engine.out(*RUN, app.reference) == "said /dir/* /gone*"
    engine.cli("push", "-q", PLAIN, app.reference, f"{registry.host}/interplay/pyman:1")
    assert registry.manifest("interplay/pyman", "1") == app.manifest
    engine.cli("rmi", app.reference)
    assert theirs(others) == {}


def test_what_buildah_builds_pyman_lists_runs_and_pushes(
    engine: Engine, others: Others, app: Pushed, registry: RealRegistry, tmp_path: Path
) -> None:
    others.podman("pull", "-q", PLAIN, app.reference)
    (tmp_path / "Containerfile").write_text(f"FROM {app.reference}\nCOPY file /word\nLABEL a=b\n")
    (tmp_path / "file").write_text("built\n")
    id = others.buildah("build", "-q", "--layers", "-t", "registry.example/built:1", str(tmp_path))
    assert listed(engine) == theirs(others)
    assert engine.out(*RUN, "registry.example/built:1") == "built /dir/* /gone*"
    digestfile = tmp_path / "digest"
    to = f"{registry.host}/interplay/built:1"
    engine.cli("push", "-q", PLAIN, "--digestfile", digestfile, "registry.example/built:1", to)
    assert digest_of(registry.manifest("interplay/built", "1")) == digestfile.read_text().strip()
    assert config_digest(registry.manifest("interplay/built", "1")) == f"sha256:{id}"
    others.podman("rmi", "registry.example/built:1")
    assert others.podman("pull", "-q", PLAIN, to) == id
    assert others.run_in(to, SAY) == "built /dir/* /gone*"


@pytest.mark.parametrize("first", ["pyman", "podman"])
def test_a_store_that_one_of_them_has_made_the_others_go_on_with(
    oci_runtime: Place, app: Pushed, first: str
) -> None:
    engine = Engine(oci_runtime)
    others = others_of(engine)
    try:
        if first == "podman":
            others.podman("create", "--name", "theirs", "--network", "none", PLAIN, app.reference, "sh")
        engine.start()
        if first == "pyman":
            assert not (engine.root / "libpod").exists()
        assert engine.out(*RUN, PLAIN, app.reference) == "said /dir/* /gone*"
        assert others.run_in(app.reference, SAY) == "said /dir/* /gone*"
        assert listed(engine) == theirs(others)
        assert engine.out("system", "check") == "No problems found"
        others.podman("rm", "--all")
        engine.cli("rmi", app.reference)
        assert theirs(others) == {}
        leave_no_mount(engine)
    finally:
        engine.close()


@pytest.mark.oci_runtime("trixie")
def test_podmans_own_check_of_the_store_finds_nothing(
    engine: Engine, others: Others, registry: RealRegistry, tmp_path: Path
) -> None:
    """Of layers whose archives say everything: what is not in them Podman would take for damage of its own layers, too."""
    make_rootfs(tmp_path / "context/files")
    (tmp_path / "context/word").write_text("said")
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY files /\nCOPY word /\nCMD sleep 1000\n")
    built = [
        "-t",
        "registry.example/built:1",
        "-f",
        str(tmp_path / "Containerfile"),
        str(tmp_path / "context"),
    ]
    others.buildah("build", "-q", "--layers", *built)
    to = f"{registry.host}/interplay/whole:1"
    others.podman("push", PLAIN, "registry.example/built:1", to)
    others.podman("rmi", "--all")
    engine.cli("pull", "-q", PLAIN, to)
    engine.cli(*STAY, "--name", "ours", to)
    engine.cli("exec", "ours", "sh", "-c", "echo more >/new; rm /word")
    engine.cli("commit", "ours", "registry.example/committed:1")
    engine.cli("image", "mount", to)
    assert others.podman("system", "check") == ""
    engine.cli("image", "unmount", to)
    for path in (engine.root / "overlay").glob("*/diff/new"):
        path.write_text("less\n")
    with pytest.raises(AssertionError, match="Damaged layer"):
        others.podman("system", "check")


@pytest.fixture
def chunked(others: Others, app: Pushed, registry: RealRegistry) -> tuple[str, bytes]:
    """The image with layers of zstd:chunked, and its manifest."""
    reference = f"{registry.host}/interplay/chunked:1"
    others.podman("pull", "-q", PLAIN, app.reference)
    how = ["--compression-format", "zstd:chunked", "--force-compression"]
    others.podman("push", PLAIN, *how, app.reference, reference)
    others.podman("rmi", app.reference)
    manifest = registry.manifest("interplay/chunked", "1")
    assert manifest.count(b"+zstd") == 2
    assert b"io.github.containers.zstd-chunked.manifest-checksum" in manifest
    return reference, manifest


@pytest.mark.oci_runtime("trixie")
def test_layers_of_zstd_chunked_that_pyman_pulls_podman_runs(
    engine: Engine, others: Others, app: Pushed, chunked: tuple[str, bytes]
) -> None:
    reference, manifest = chunked
    id = engine.out("pull", "-q", PLAIN, reference)
    assert theirs(others) == {id: ([reference], digest_of(manifest))}
    assert config_digest(manifest) == f"sha256:{id}" == digest_of(app.config)
    assert engine.out(*RUN, reference) == others.run_in(reference, SAY) == "said /dir/* /gone*"
    assert others.podman("pull", "-q", PLAIN, reference) == id
    others.podman("rmi", reference)
    assert listed(engine) == {}


@pytest.mark.oci_runtime("trixie")
@pytest.mark.parametrize("partial", ["false", "true"])
def test_layers_of_zstd_chunked_that_podman_pulls_pyman_runs_and_pushes(
    engine: Engine,
    others: Others,
    registry: RealRegistry,
    chunked: tuple[str, bytes],
    partial: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where Podman may pull parts it fetches the files alone that it lacks, and never sees the archive."""
    reference, manifest = chunked
    configuration = tmp_path / "podman.conf"
    options = f'[storage.options.pull_options]\nenable_partial_images = "{partial}"\n'
    configuration.write_text(f'[storage]\ndriver = "overlay"\n{options}')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(configuration))
    id = others.podman("pull", "-q", PLAIN, reference)
    layers = json.loads((engine.root / "overlay-layers/layers.json").read_text())
    assert ["toc-digest" in layer for layer in layers] == [partial == "true"] * 2
    assert listed(engine) == theirs(others) == {id: ([reference], digest_of(manifest))}
    assert engine.out(*RUN, reference) == others.run_in(reference, SAY) == "said /dir/* /gone*"
    engine.cli("push", "-q", PLAIN, reference, f"{registry.host}/interplay/chunked:2")
    assert registry.manifest("interplay/chunked", "2") == manifest
    engine.cli("push", "-q", reference, f"dir:{tmp_path}/packed")
    packed = json.loads((tmp_path / "packed/manifest.json").read_text())["layers"]
    assert [layer["digest"] for layer in packed] == [layer["diff-digest"] for layer in layers]
    assert engine.out("pull", "-q", PLAIN, reference) == id
    assert engine.out("system", "check") == "No problems found"
    engine.cli("rmi", reference)
    assert theirs(others) == {}
    names = set(os.listdir(engine.root / "overlay-layers"))
    assert names <= {"layers.json", "layers.lock", "volatile-layers.json"}


@pytest.mark.parametrize("first", ["pyman", "podman"])
@pytest.mark.parametrize("undone", ["in the same order", "the other way round"])
def test_both_mount_an_image_at_once(
    engine: Engine, others: Others, app: Pushed, first: str, undone: str
) -> None:
    engine.cli("pull", "-q", PLAIN, app.reference)
    order: list[tuple[str, Callable[..., str]]] = [("pyman", engine.out), ("podman", others.podman)]
    if first == "podman":
        order.reverse()
    paths = {ask("image", "mount", app.reference) for _, ask in order}
    for path in paths:
        assert seen(engine, path) == ["bin", "dir", "etc", "word"]
    for _, ask in order:
        assert json.loads(ask("image", "mount", "--format", "json"))
    if undone == "the other way round":
        order.reverse()
    for left, (_, ask) in enumerate(order, -1):
        ask("image", "unmount", app.reference)
        others.images()
        for _, other in order:
            assert bool(json.loads(other("image", "mount", "--format", "json"))) is (left < 0)
    assert engine.out("image", "mount") == others.podman("image", "mount") == ""
    engine.cli("rmi", app.reference)
    assert not {path for path in mounts_of(engine) if path.endswith("/merged")}


def mounts_of(engine: Engine) -> set[str]:
    found: set[str] = mount_points()
    for pid in engine.place.mount_namespaces:
        found |= mount_points(pid)
    return {path for path in found if path.startswith(f"{engine.path}/")}


def seen(engine: Engine, path: str) -> list[str]:
    """The names in a directory as the engines see it; none if it is not there."""
    pids = engine.place.mount_namespaces
    within = f"/proc/{pids[0]}/root{path}" if pids else path
    return sorted(os.listdir(within)) if os.path.isdir(within) else []


def test_nobody_removes_what_a_container_of_another_engine_uses(
    engine: Engine, others: Others, app: Pushed
) -> None:
    others.podman("pull", "-q", PLAIN, app.reference)
    engine.cli(*STAY, "--name", "ours", app.reference, "sleep", "1000")
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    id = others.podman("create", "--name", "theirs", "--network", "none", *limits, app.reference, "sh")
    with pytest.raises(AssertionError, match="ended with 2:"):
        others.podman("rmi", app.reference)
    done = engine.cli("rmi", app.reference, check=False)
    assert done.returncode == 2
    engine.cli("rm", "-f", "-t", "0", "ours")
    done = engine.cli("rmi", app.reference, check=False)
    assert (done.returncode, "theirs" in done.stderr or id[:12] in done.stderr) == (2, True)
    others.podman("rm", "theirs")
    engine.cli("rmi", app.reference)
    assert theirs(others) == {}


def test_containers_of_both_run_while_all_change_the_store(
    engine: Engine, others: Others, app: Pushed, registry: RealRegistry
) -> None:
    rounds = 3
    engine.cli("pull", "-q", PLAIN, app.reference)
    for number in range(rounds):
        for who in ("ours", "theirs"):
            layers = [*app.layers, tar_layer({"word": f"{who}{number}\n".encode()})]
            config = image_config(layers, Cmd=["sh", "-c", SAY])
            registry.push(f"interplay/{who}", str(number), layers, config)
    engine.cli(*STAY, "--name", "kept", app.reference, "sleep", "1000")
    mounted = engine.out("image", "mount", app.reference)

    def pyman_works() -> None:
        for number in range(rounds):
            name = f"{registry.host}/interplay/ours:{number}"
            engine.cli("pull", "-q", PLAIN, name)
            assert engine.out(*RUN, name) == f"ours{number} /dir/* /gone*"
            engine.cli("tag", name, f"registry.example/ours:{number}")
            if number % 2:
                engine.cli("rmi", name, f"registry.example/ours:{number}")

    def podman_works() -> None:
        for number in range(rounds):
            name = f"{registry.host}/interplay/theirs:{number}"
            others.podman("images", check=False)  # it fails if one that it has listed is gone
            others.podman("pull", "-q", PLAIN, name)
            assert others.run_in(name, SAY) == f"theirs{number} /dir/* /gone*"
            if number % 2:
                others.podman("rmi", name)

    def pyman_runs() -> None:
        for _ in range(rounds * 2):
            assert engine.out(*RUN, app.reference) == "said /dir/* /gone*"

    at_once(pyman_works, podman_works, pyman_runs)
    images = listed(engine)
    assert images == theirs(others)
    assert len(images) == 1 + 2 * (rounds - rounds // 2)
    assert seen(engine, mounted) == ["bin", "dir", "etc", "word"]
    assert engine.out("exec", "kept", "sh", "-c", SAY) == "said /dir/* /gone*"
    assert engine.out("system", "check") == "No problems found"
    for names, _ in images.values():
        assert others.run_in(names[0], "read word </word; echo $word")
    engine.cli("image", "unmount", app.reference)
    engine.cli("rm", "-f", "-t", "0", "kept")
    engine.cli("rmi", "-a")
    assert theirs(others) == {}


@pytest.mark.oci_runtime("rootless", "rootless-trixie")
def test_the_engines_of_an_ordinary_user_share_a_store(engine: Engine, app: Pushed) -> None:
    def ids() -> set[str]:
        listed = podman(engine, "images", "--quiet", "--no-trunc").stdout
        return {line.removeprefix("sha256:") for line in listed.split()}

    id = engine.out("pull", "-q", PLAIN, app.reference)
    assert ids() == {id}
    word = engine.path / "word"
    word.write_text("built\n")
    above = add_layer(engine, app.reference, "registry.example/above:1", {"/word": word})
    assert set(listed(engine)) == ids() == {id, above}
    assert engine.out(*RUN, "registry.example/above:1") == "built /dir/* /gone*"
    path = engine.out("unshare", *engine.command("image", "mount", app.reference))
    assert podman(engine, "image", "mount", app.reference).stdout.strip() == path
    assert engine.out("unshare", "ls", path).split() == ["bin", "dir", "etc", "word"]
    engine.cli("unshare", *engine.command("image", "unmount", app.reference))
    podman(engine, "rmi", "registry.example/above:1")
    assert engine.out("unshare", "ls", path).split() == ["bin", "dir", "etc", "word"]
    podman(engine, "image", "unmount", app.reference)
    assert engine.out("image", "mount") == ""
    engine.cli("rmi", app.reference)
    assert ids() == set()
    leave_no_mount(engine)


def at_once(*acts: Callable[[], None]) -> None:
    """Raises what one of them has raised, once all have ended."""
    failures: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
