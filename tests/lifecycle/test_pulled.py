"""Images pulled, run and removed through calls and the command line, by root's engine and an ordinary user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.storage.images import busybox
from tests.storage.others import missing
from tests.support.registry import RealRegistry, image_config, tar_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine
    from tests.support.registry import Pushed

pytestmark = [
    pytest.mark.skipif(bool(missing("docker-registry")), reason=missing("docker-registry")),
    pytest.mark.oci_runtime("runc", "rootless"),
]

IMAGE = "io.pyman.Image"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def pushed(registry: RealRegistry) -> Pushed:
    files: dict[str, bytes | str] = {"dir/gone": b"x", "gone": b"x"}
    files.update((name, content) for name, content in busybox().items() if not name.endswith("/"))
    layers = [tar_layer(files), tar_layer({"dir/.wh..wh..opq": b"", ".wh.gone": b"", "word": b"said"})]
    return registry.push(
        "org/app", "1", layers, image_config(layers, Cmd=["sh", "-c", "read w </word; echo $w"])
    )


def pull(engine: Engine, reference: str, **parameters: Any) -> dict[str, Any]:
    request = {"reference": reference, "access": {"tls_verify": False}, **parameters}
    return engine.call_stream(f"{IMAGE}.Pull", request)[-1]


def test_an_image_is_pulled_run_and_removed(engine: Engine, pushed: Pushed) -> None:
    id = pull(engine, pushed.reference)["ids"][0]
    (image,) = engine.call(f"{IMAGE}.List")["images"]
    assert (image["id"], image["digest"]) == (id, pushed.digest)
    assert engine.out("run", "--rm", "--network", "none", pushed.reference) == "said"
    listed = engine.out(
        "run", "--rm", "--network", "none", pushed.reference, "sh", "-c", "echo /dir/* /gone*"
    )
    assert listed == "/dir/* /gone*"
    engine.cli("create", "--name", "user", "--network", "none", pushed.reference)
    reply = engine.call(f"{IMAGE}.Remove", {"names": [pushed.reference]})
    assert [error["code"] for error in reply["errors"]] == ["ImageInUse"]
    assert "user" in reply["errors"][0]["message"]
    (removed,) = engine.call(f"{IMAGE}.Remove", {"names": [pushed.reference], "force": True})["images"]
    assert removed["deleted"] == [id]
    assert engine.out("ps", "-aq") == ""
    assert engine.call(f"{IMAGE}.List") == {"images": []}


def test_an_image_that_is_not_here_is_pulled_by_run(engine: Engine, pushed: Pushed) -> None:
    command = ["run", "--rm", "--network", "none", "--tls-verify=false"]
    assert engine.out(*command, "--pull", "always", pushed.reference) == "said"
    assert engine.out(*command, pushed.reference) == "said"
    statuses = [event["Status"] for event in engine.events(type=["image"])]
    assert statuses == ["pull"]
