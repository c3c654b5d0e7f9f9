"""What one image changes of another."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.archive.layers import Layer
from tests.support.images import podman

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

ONE = Layer().directory("etc").file("etc/both").file("etc/mode").file("etc/gone").directory("run").data()
TWO = (
    Layer()
    .directory("etc")
    .file("etc/both")
    .file("etc/mode", mode=0o640)
    .directory("etc/new")
    .file("etc/new/file")
    .directory("run", mode=0o700)
    .data()
)


@pytest.fixture
def filled(shared_engine: Engine) -> Engine:
    for name, data in (("one", ONE), ("two", TWO)):
        podman(shared_engine, "import", "--quiet", "-", f"localhost/{name}:1", stdin=data)
    return shared_engine


def told(text: str) -> dict[str, list[str]]:
    return {kind: sorted(paths) for kind, paths in json.loads(text).items()}


@pytest.mark.parametrize("verb", [("image", "diff"), ("diff",)], ids=" ".join)
def test_two_images_that_have_nothing_in_common_are_compared(filled: Engine, verb: tuple[str, ...]) -> None:
    ours = filled.out(*verb, "--format", "json", "two:1", "one:1")
    theirs = podman(filled, *verb, "--format", "json", "two:1", "one:1").stdout
    assert told(ours) == told(theirs)
    assert filled.out(*verb, "two:1", "one:1").splitlines() == [
        "C /etc",
        "D /etc/gone",
        "C /etc/mode",
        "A /etc/new",
        "A /etc/new/file",
    ]
    assert told(filled.out(*verb, "--format", "json", "one:1", "one:1")) == {}


def test_containers_are_compared_with_one_another_and_with_images(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    data = subprocess.run(["tar", "-C", rootfs, "-c", "."], check=True, capture_output=True).stdout
    engine.cli("import", "--quiet", "-", "localhost/files:1", input=data)
    engine.cli(
        "run", "--name", "one", "files:1", "sh", "-c", "echo 1 > /tmp/one; rm /etc/group; echo 1 > /root/x"
    )
    engine.cli("run", "--name", "two", "-v", "/etc:/srv", "files:1", "sh", "-c", "echo 2222 > /root/x")
    ours = engine.out("diff", "one", "two").splitlines()
    assert ours == ["C /etc", "D /etc/group", "C /root", "C /root/x", "C /tmp", "A /tmp/one"]
    back = engine.out("container", "diff", "two", "one").splitlines()
    assert back == ["C /etc", "A /etc/group", "C /root", "C /root/x", "C /tmp", "D /tmp/one"]
    assert engine.out("diff", "one", "files:1") == engine.out("diff", "one")
    assert engine.out("diff", "files:1", "two").splitlines() == ["C /root", "D /root/x"]
    assert engine.out("diff", "one", "one") == ""
    refused = engine.cli("diff", "one", "nobody", check=False)
    assert (refused.returncode, refused.stderr) == (
        125, "Error: cannot find 'nobody': neither a container nor an image has that name or id\n",
    )  # fmt: skip


@pytest.mark.oci_runtime("crun")
def test_owners_are_compared_as_the_containers_see_them(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    data = subprocess.run(["tar", "-C", rootfs, "-c", "."], check=True, capture_output=True).stdout
    engine.cli("import", "--quiet", "-", "localhost/files:1", input=data)
    maps = ("--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536")
    script = "echo 1 > /root/x; chown 5:6 /root/x; touch -d '2001-01-01 00:00:00' /root/x /root"
    engine.cli("run", "--name", "one", "files:1", "sh", "-c", script)
    engine.cli("run", "--name", "two", *maps, "files:1", "sh", "-c", script)
    assert engine.out("diff", "one", "two") == ""
