"""What is made of containers of images: archives, lists of changes, images."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import IMAGE, import_image, podman
from tests.support.runtimes import BY_USER
from tests.support.varlink import VarlinkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)

SCRIPT = """
echo new > /added; rm /etc/group; chmod 750 /root; mkdir /srv; ln -s /added /srv/link
rm -r /var/tmp; mkdir /var/tmp; echo again > /var/tmp/new; chown 7:8 /added
"""
CHANGES = ("ENV COLOUR=blue", 'CMD ["cat", "/added"]', "LABEL of=image")


@pytest.fixture
def written(shared_engine: Engine, rootfs: Path) -> Iterator[Engine]:
    """An engine with a container `writer` that has ended."""
    if podman(shared_engine, "image", "exists", IMAGE, check=False).returncode:
        import_image(shared_engine, rootfs, changes=CHANGES)
    shared_engine.cli("run", "--name", "writer", "--env", "SIZE=1", IMAGE, "sh", "-c", SCRIPT)
    yield shared_engine
    shared_engine.cli("rm", "--all", "--force", "--time", "0")


def export(engine: Engine, name: str) -> dict[str, tarfile.TarInfo]:
    reader, writer = os.pipe()
    with engine.wire() as wire, open(reader, "rb") as pipe:
        wire.send("io.pyman.Container.Export", {"name": name}, descriptors=[writer])
        os.close(writer)
        data = pipe.read()
        wire.receive()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {f"/{member.name.strip('./')}": member for member in tar}


def commit(engine: Engine, name: str = "writer", **wish: Any) -> str:
    id: str = engine.call("io.pyman.Container.Commit", {"name": name, **wish}, timeout=60)["id"]
    return id


def seen_by_podman(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman(engine, "image", "inspect", image).stdout)[0]
    return found


def test_an_export_is_what_the_container_sees(written: Engine) -> None:
    members = export(written, "writer")
    assert (members["/added"].uid, members["/added"].gid) == (7, 8)
    assert members["/home/worker"].uid == 1000
    assert members["/srv/link"].linkname == "/added"
    assert "/etc/group" not in members
    assert "/etc/passwd" in members
    written.cli("start", "writer")
    written.cli("wait", "writer")
    assert written.call("io.pyman.Container.Mount", {})["containers"] == []
    assert [e["Status"] for e in written.events(container=["writer"])].count("export") == 1


def test_a_running_container_is_exported_too(written: Engine) -> None:
    written.cli("run", "-d", "--name", "runs", IMAGE, "sh", "-c", "echo x > /here; sleep 1000")
    written.cli("exec", "runs", "sh", "-c", "until [ -s /here ]; do sleep 0.02; done")
    assert export(written, "runs")["/here"].size == 2


def test_changes_are_told_without_what_a_run_leaves_anyhow(written: Engine) -> None:
    found = written.call("io.pyman.Container.Changes", {"name": "writer"})
    assert {"/added", "/srv", "/srv/link", "/var/tmp/new"} <= set(found["added"])
    assert {"/etc", "/root", "/var"} <= set(found["changed"])
    assert "/etc/group" in found["deleted"]
    assert not {"/proc", "/dev", "/sys", "/run"} & {*found["added"], *found["changed"]}


def test_a_commit_is_an_image_for_both(written: Engine) -> None:
    id = commit(written, image="registry.example/made", author="me", changes=["EXPOSE 80", "ENV SIZE=2"])
    assert written.out("run", "--rm", "registry.example/made", "cat", "/added") == "new"
    script = "ls -A /var/tmp; ls /etc/group 2>/dev/null; echo $COLOUR $SIZE; stat -c %u:%g /added"
    assert written.out("run", "--rm", id, "sh", "-c", script).splitlines() == ["new", "blue 2", "7:8"]
    seen = seen_by_podman(written, "registry.example/made")
    assert (seen["Id"], seen["Author"]) == (id, "me")
    config = seen["Config"]
    assert config["Labels"] == {"of": "image"}
    assert set(config["Env"]) >= {"COLOUR=blue", "SIZE=2"}
    assert not any(entry.startswith(("container=", "HOSTNAME=")) for entry in config["Env"])
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert len(seen["RootFS"]["Layers"]) == 2
    assert [e["Status"] for e in written.events(container=["writer"])].count("commit") == 1
    where = written.path / "saved.tar"
    podman(written, "save", "--quiet", "--output", where, id)
    with tarfile.open(where) as tar:
        assert json.load(tar.extractfile("manifest.json") or io.BytesIO())[0]["Layers"]


def test_a_commit_exposes_what_was_published(written: Engine) -> None:
    ports = ("--network", "bridge", "-p", "8080-8081:80-81", "-p", "53/udp", "--expose", "90")
    written.cli("create", "--name", "served", *ports, IMAGE)
    seen = seen_by_podman(written, commit(written, "served"))
    assert seen["Config"]["ExposedPorts"].keys() == {"80/tcp", "81/tcp", "53/udp", "90/tcp"}


def test_a_commit_of_docker_keeps_the_message_and_oci_refuses_it(written: Engine) -> None:
    with pytest.raises(VarlinkError, match="cannot keep a message"):
        commit(written, message="why")
    seen = seen_by_podman(written, commit(written, message="why", format="docker"))
    assert (seen["Comment"], seen["ManifestType"]) == (
        "why",
        "application/vnd.docker.distribution.manifest.v2+json",
    )


def test_a_configuration_goes_over_that_of_the_container(written: Engine) -> None:
    configuration = {"Env": ["SIZE=3"], "Labels": {"more": "said"}, "Cmd": ["true"], "Tty": False}
    path = written.path / "config.json"
    path.write_text(json.dumps(configuration))
    line = ("commit", "-q", "--config", path, "--change", "USER 7", "writer", "registry.example/configured")
    seen = seen_by_podman(written, written.out(*line))["Config"]
    assert {"COLOUR=blue", "SIZE=3"} <= set(seen["Env"])
    assert seen["Labels"] == {"of": "image", "more": "said"}
    assert (seen["Cmd"], seen["User"]) == (["true"], "7")
    path.write_text('{"Hostname": "x"}')
    refused = written.cli(*line, check=False)
    assert (refused.returncode, "cannot keep 'Hostname'" in refused.stderr) == (125, True)
    assert seen_by_podman(written, written.out(*line, "--format", "docker"))["Config"]["Labels"]
    for text, message in (("[]", "no JSON object"), ("{", "no JSON"), (" " * (1 << 20) + "{}", "more than")):
        path.write_text(text)
        assert message in written.cli(*line, check=False).stderr


def test_a_squashed_commit_has_one_layer(written: Engine) -> None:
    id = commit(written, squash=True)
    assert len(seen_by_podman(written, id)["RootFS"]["Layers"]) == 1
    assert written.out("run", "--rm", id, "cat", "/added") == "new"
    assert written.cli("run", "--rm", id, "cat", "/etc/group", check=False).returncode == 1


def test_a_container_of_a_directory_cannot_be_committed(written: Engine, rootfs: Path) -> None:
    written.cli("create", "--name", "plain", "--rootfs", f"{rootfs}:O", "true")
    with pytest.raises(VarlinkError, match="it is made of a directory"):
        commit(written, "plain")
