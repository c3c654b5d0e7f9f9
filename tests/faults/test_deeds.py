"""The daemon killed while images are pushed, saved and built: told once if it was done, and not if not.

A push to a registry is held by a door in front of it; all of them between the change and its event by the lock of the
state database, which is taken as soon as something is intended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.telling import IMAGE, intents, kill, state, statuses
from tests.images.filling import import_image
from tests.images.throttle import Throttle
from tests.storage.others import missing
from tests.support.registry import DOCKER_MANIFEST, OCI_MANIFEST, PASSWORD, USER, RealRegistry
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.conftest import Faulty, MakeEngine

_NEEDED = missing("podman", "docker-registry", "buildah")
pytestmark = pytest.mark.skipif(bool(_NEEDED), reason=_NEEDED)
PUT = b"PUT /v2/app/manifests/"
STEPS = ["before the change", "after the change"]


@pytest.fixture
def faulty(make_engine: MakeEngine) -> Faulty:
    engine = make_engine()
    engine.image = import_image(engine, "localhost/base:1")  # type: ignore[attr-defined]
    return engine


def told(engine: Faulty) -> list[tuple[str, str, str]]:
    return [(event["Status"], event["ID"], event["Name"]) for event in engine.events(type=["image"])]


def settled(engine: Faulty) -> None:
    """The next daemon has found out."""
    engine.wait_ready()
    until(lambda: intents(engine) == 0, "something is still to be found out", 40)


# -- registries -------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["open", "with a login"])
def door(request: pytest.FixtureRequest) -> Iterator[tuple[RealRegistry, Throttle]]:
    with RealRegistry(login=request.param) as registry, Throttle(registry.port) as door:
        yield registry, door


def pushed(registry: RealRegistry) -> bool:
    accept = {"Accept": f"{OCI_MANIFEST}, {DOCKER_MANIFEST}"}
    return registry.request("HEAD", "/v2/app/manifests/1", headers=accept)[0] == 200


@pytest.mark.parametrize("step", STEPS)
def test_a_push_to_a_registry(faulty: Faulty, door: tuple[RealRegistry, Throttle], step: str) -> None:
    registry, gate = door
    to = f"{gate.host}/app:1"
    access: dict[str, Any] = {"tls_verify": False}
    if registry.login:
        faulty.cli("login", "--tls-verify=false", "-u", USER, "--password-stdin", gate.host, input=PASSWORD)
    daemon = faulty.daemon
    gate.stop_at(PUT)
    with faulty.wire() as wire, state(faulty) as connection:
        request = {"name": "base:1", "destination": to, "access": access, "quiet": True}
        wire.send(f"{IMAGE}.Push", request, more=True)
        gate.wait_held()
        assert intents(faulty) == 1
        connection.execute("BEGIN IMMEDIATE")
        if step == "after the change":
            gate.open()
            until(lambda: pushed(registry), "it is not pushed")
        kill(faulty, daemon)
        gate.refuse()
        connection.execute("ROLLBACK")
    settled(faulty)
    done = step == "after the change"
    assert pushed(registry) is done
    assert told(faulty) == ([("push", faulty.image, to)] if done else [])  # type: ignore[attr-defined]
    faulty.kill()
    faulty.call_stream(f"{IMAGE}.Push", {"name": "base:1", "destination": to, "access": access})
    assert statuses(faulty) == ["push"] * (1 + done), "the next one is another"


def test_a_password_that_was_given_is_not_kept_and_what_needs_it_is_dropped(faulty: Faulty) -> None:
    with RealRegistry(login=True) as registry, Throttle(registry.port) as gate:
        access = {"tls_verify": False, "username": USER, "password": PASSWORD}
        request = {"name": "base:1", "destination": f"{gate.host}/app:1", "access": access, "quiet": True}
        daemon = faulty.daemon
        gate.stop_at(PUT)
        with faulty.wire() as wire, state(faulty) as connection:
            wire.send(f"{IMAGE}.Push", request, more=True)
            gate.wait_held()
            connection.execute("BEGIN IMMEDIATE")
            gate.open()
            until(lambda: pushed(registry), "it is not pushed")
            kill(faulty, daemon)
            connection.execute("ROLLBACK")
        settled(faulty)
        for path in (faulty.root / "pyman").glob("state.db*"):
            assert PASSWORD.encode() not in path.read_bytes()
            assert USER.encode() not in path.read_bytes()
        assert statuses(faulty) == []
        assert "cannot find out what became of an image: it is not told" in faulty.log_text()
        faulty.call_stream(f"{IMAGE}.Push", request)
        assert statuses(faulty) == ["push"]


def test_a_registry_that_is_gone_delays_nothing(faulty: Faulty) -> None:
    with RealRegistry() as registry, Throttle(registry.port) as gate:
        request = {"name": "base:1", "destination": f"{gate.host}/app:1", "access": {"tls_verify": False}}
        daemon = faulty.daemon
        gate.stop_at(PUT)
        with faulty.wire() as wire:
            wire.send(f"{IMAGE}.Push", {**request, "quiet": True}, more=True)
            gate.wait_held()
            kill(faulty, daemon)
            gate.refuse()
    faulty.wait_ready()
    assert intents(faulty) == 1
    faulty.call(f"{IMAGE}.Tag", {"name": "base:1", "targets": ["new:1"]})
    assert statuses(faulty) == ["tag"]
    assert faulty.stop() == 0
    faulty.start()
    assert intents(faulty) == 1, "each supervisor tries anew"
    with state(faulty) as connection:
        connection.execute("DELETE FROM intent")


def test_a_supervisor_that_ends_does_not_wait_for_a_registry_and_the_next_one_tells(faulty: Faulty) -> None:
    with RealRegistry() as registry, Throttle(registry.port) as gate:
        access = {"tls_verify": False}
        request = {"name": "base:1", "destination": f"{gate.host}/app:1", "access": access}
        gate.stop_at(PUT)
        with faulty.wire() as wire:
            wire.send(f"{IMAGE}.Push", {**request, "quiet": True}, more=True)
            gate.wait_held()
            assert faulty.stop(30) == 0
            gate.open()
        until(lambda: pushed(registry), "what was sent is there after all")
        faulty.start()
        until(lambda: intents(faulty) == 0, "something is still to be found out")
        assert statuses(faulty) == ["push"]


# -- places in the file system ----------------------------------------------------------------------


def _push(engine: Faulty, place: str) -> tuple[str, dict[str, Any]]:
    return "Push", {"name": "base:1", "destination": f"{place}:{engine.path}/out", "quiet": True}


def _save(engine: Faulty, form: str) -> tuple[str, dict[str, Any]]:
    return "Save", {"names": ["base:1"], "format": form, "path": f"{engine.path}/out"}


KINDS = {
    "push to dir": (_push, "dir", "push", "out/manifest.json"),
    "push to oci": (_push, "oci", "push", "out/index.json"),
    "push to oci-archive": (_push, "oci-archive", "push", "out"),
    "push to docker-archive": (_push, "docker-archive", "push", "out"),
    "save as docker-dir": (_save, "docker-dir", "save", "out/manifest.json"),
    "save as oci-dir": (_save, "oci-dir", "save", "out/index.json"),
}


@contextlib.contextmanager
def begun(engine: Faulty, method: str, request: dict[str, Any], out: Path) -> Iterator[int]:
    """It is intended, and cannot be told: the state database is locked. How often it was told before, when the test
    came too late for that."""
    with state(engine) as connection:
        for late in range(10):
            with engine.wire() as wire:
                wire.send(f"{IMAGE}.{method}", request, more=True)
                until(lambda: intents(engine) == 1 or out.exists(), "nothing was intended")
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("SELECT count(*) FROM intent").fetchone() == (1,):
                    yield late
                    connection.execute("ROLLBACK")
                    return
                connection.execute("ROLLBACK")
            until(lambda: intents(engine) == 0, "it does not end")
            remove(out)
    pytest.fail("it is always done at once")


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_into_a_directory(faulty: Faulty, kind: str, step: str) -> None:
    ask, form, status, last = KINDS[kind]
    method, request = ask(faulty, form)
    daemon = faulty.daemon
    with begun(faulty, method, request, faulty.path / "out") as before:
        if step == "after the change":
            until((faulty.path / last).exists, "it does not come")
        kill(faulty, daemon)
    settled(faulty)
    done = (faulty.path / last).exists()
    assert done or step == "before the change"
    assert statuses(faulty) == [status] * (before + done)
    assert not list(faulty.path.glob(".*"))
    remove(faulty.path / "out")
    faulty.call_stream(f"{IMAGE}.{method}", request)
    assert statuses(faulty) == [status] * (before + done + 1)


def test_what_was_to_replace_the_same_image_and_did_not_is_not_told(faulty: Faulty) -> None:
    """By what is written there both look the same."""
    method, request = _push(faulty, "dir")
    out = faulty.path / "out"
    with begun(faulty, method, request, out) as before:
        until((out / "manifest.json").exists, "it does not come")
        faulty.kill_keeper()
    shutil.copytree(out, faulty.path / "former")
    shutil.rmtree(out)
    os.rename(faulty.path / "former", out)
    faulty.start()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    assert statuses(faulty) == ["push"] * before


def _whole(archive: Path) -> bool:
    with contextlib.suppress(tarfile.TarError), tarfile.open(archive) as opened:
        return "repositories" in opened.getnames() and archive.stat().st_size % 10240 == 0
    return False


def test_an_archive_of_a_client_who_gets_no_answer_is_not_told(faulty: Faulty, tmp_path: Path) -> None:
    """He does not keep it: `save -o` leaves what was there."""
    daemon = faulty.daemon
    (tmp_path / "out.tar").write_bytes(b"former")
    fd = os.open(tmp_path / "direct", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with faulty.wire() as wire, state(faulty) as connection:
            connection.execute("BEGIN IMMEDIATE")
            wire.send(f"{IMAGE}.Save", {"names": ["base:1"]}, more=True, descriptors=[fd])
            with faulty.spawn("save", "-o", str(tmp_path / "out.tar"), "base:1") as client:
                until(lambda: _whole(tmp_path / "direct"), "it is not written")
                kill(faulty, daemon)
                connection.execute("ROLLBACK")
                assert client.wait(20) != 0
    finally:
        os.close(fd)
    settled(faulty)
    assert (tmp_path / "out.tar").read_bytes() == b"former"
    assert statuses(faulty) == []
    faulty.cli("save", "-o", str(tmp_path / "out.tar"), "base:1")
    assert statuses(faulty) == ["save"]


# -- builds -----------------------------------------------------------------------------------------


@pytest.fixture
def build(faulty: Faulty, tmp_path: Path) -> Iterator[Callable[[str, Any], None]]:
    """Send a request for a build of a Containerfile."""
    context = faulty.path / "context"
    context.mkdir()
    shutil.copy("/bin/busybox", context / "sh")
    fds = [
        os.open(os.devnull, os.O_RDONLY),
        os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600),
    ]

    def send(run: str, wire: Any) -> None:
        (context / "Containerfile").write_text(f"FROM scratch\nCOPY sh /bin/sh\n{run}")
        request = {
            "arguments": ["--isolation", "chroot", "-t", "built:1", "."],
            "cwd": str(context),
            "environment": {"PATH": os.environ["PATH"]},
            "tags": ["built:1"],
        }
        wire.send(f"{IMAGE}.Build", request, descriptors=[fds[0], fds[1], fds[1]])

    yield send
    for fd in fds:
        os.close(fd)


def _ids(engine: Faulty) -> list[str]:
    return [path.read_text() for path in (engine.root / "pyman/builds").glob("*/id")]


def test_a_build_that_is_done(faulty: Faulty, build: Callable[[str, Any], None]) -> None:
    daemon = faulty.daemon
    with faulty.wire(60) as wire, state(faulty) as connection:
        build("LABEL a=b\n", wire)
        until(lambda: intents(faulty) == 1, "nothing was intended")
        connection.execute("BEGIN IMMEDIATE")
        until(lambda: [len(id) for id in _ids(faulty)] == [71], "it is not built")
        (id,) = _ids(faulty)
        kill(faulty, daemon)
        connection.execute("ROLLBACK")
    settled(faulty)
    assert told(faulty) == [("build", id.removeprefix("sha256:"), "built:1")]
    until(lambda: not list((faulty.root / "pyman/builds").iterdir()), "something of it is left")
    faulty.kill()
    assert statuses(faulty) == ["build"]


def test_a_build_that_is_not_done(faulty: Faulty, build: Callable[[str, Any], None], tmp_path: Path) -> None:
    daemon = faulty.daemon
    with faulty.wire(60) as wire:
        build('RUN ["/bin/sh", "-c", "echo begun; sleep 1000"]\n', wire)
        until(lambda: "\nbegun" in (tmp_path / "log").read_text(), "it does not begin")
        assert intents(faulty) == 1
        kill(faulty, daemon)
    settled(faulty)
    assert statuses(faulty) == []
    until(lambda: not list((faulty.root / "pyman/builds").iterdir()), "something of it is left")
