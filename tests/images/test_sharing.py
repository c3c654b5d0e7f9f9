"""Pulls that several clients share, that are cancelled, and that go on where they were."""

from __future__ import annotations

import contextlib
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.images.filling import nothing_in
from tests.images.throttle import Throttle
from tests.storage.others import missing
from tests.support.registry import RealRegistry, tar_layer
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine import Engine
    from tests.support.registry import Pushed
    from tests.support.varlink import Wire

    Begin = Callable[[dict[str, Any]], Wire]

pytestmark = [
    pytest.mark.skipif(bool(missing("docker-registry")), reason=missing("docker-registry")),
    pytest.mark.oci_runtime("runc"),
]

IMAGE = "io.pyman.Image"
SIZE = 3 << 20


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with RealRegistry() as running:
        yield running


@pytest.fixture
def door(registry: RealRegistry) -> Iterator[Throttle]:
    with Throttle(registry.port) as running:
        yield running


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(SIZE)


@pytest.fixture(scope="module")
def big(registry: RealRegistry) -> Pushed:
    return registry.push("big", "1", [tar_layer({"noise": noise(1)}), tar_layer({"small": b"x"})])


def request(door: Throttle, path: str, **options: Any) -> dict[str, Any]:
    return {"reference": f"{door.host}/{path}", "access": {"tls_verify": False}, **options}


@pytest.fixture
def begin(engine: Engine) -> Iterator[Begin]:
    """Pulls that go on until their connection is closed, at the latest at the end of the test."""
    with contextlib.ExitStack() as stack:

        def begun(parameters: dict[str, Any]) -> Wire:
            wire = stack.enter_context(engine.wire())
            wire.send(f"{IMAGE}.Pull", parameters, more=True)
            return wire

        yield begun


def to_the_end(wire: Wire) -> list[dict[str, Any]]:
    """The parameters of every reply that is still to come."""
    replies: list[dict[str, Any]] = []
    while True:
        reply = wire.receive()
        assert "error" not in reply, reply
        replies.append(reply["parameters"])
        if not reply.get("continues"):
            return replies


def partials(engine: Engine) -> dict[str, int]:
    directory = engine.root / "pyman/partials"
    return {path.name: path.stat().st_size for path in directory.iterdir()} if directory.exists() else {}


def pulls_told(engine: Engine) -> int:
    return [event["Status"] for event in engine.events(type=["image"])].count("pull")


@pytest.mark.usefixtures("big")
def test_many_who_pull_the_same_fetch_it_once_and_it_is_told_once(
    engine: Engine, door: Throttle, begin: Begin
) -> None:
    door.stop_after(SIZE // 2)
    wires = [begin(request(door, "big:1")) for _ in range(5)]
    door.wait_full()
    late = begin(request(door, "big:1"))
    first = late.receive()["parameters"]
    assert first["text"] == f"Trying to pull {door.host}/big:1..."
    seen: dict[str, int] = {}
    while len(seen) < 2 or max(seen.values()) < SIZE // 4:
        progress = late.receive()["parameters"].get("progress")
        if progress:
            seen[progress["digest"]] = progress["bytes"]
    door.open()
    results = [to_the_end(wire)[-1]["ids"] for wire in (*wires, late)]
    assert len({tuple(ids) for ids in results}) == 1
    assert door.passed < SIZE * 1.2
    assert pulls_told(engine) == 1


def test_two_images_with_a_layer_in_common_fetch_it_once(
    engine: Engine, door: Throttle, registry: RealRegistry, begin: Begin
) -> None:
    common = tar_layer({"noise": noise(2)})
    for tag in ("a", "b"):
        registry.push("common", tag, [common, tar_layer({"tag": tag.encode()})])
    door.stop_after(SIZE // 2)
    wires = [begin(request(door, f"common:{tag}")) for tag in ("a", "b")]
    door.wait_full()
    door.open()
    assert len({tuple(to_the_end(wire)[-1]["ids"]) for wire in wires}) == 2
    assert door.passed < SIZE * 1.2
    assert pulls_told(engine) == 2


@pytest.mark.usefixtures("big")
def test_the_last_one_who_leaves_cancels_it_and_a_part_is_kept(
    engine: Engine, door: Throttle, begin: Begin
) -> None:
    door.stop_after(SIZE // 2)
    one, other = (begin(request(door, "big:1")) for _ in range(2))
    door.wait_full()
    one.close()
    door.stop_after(SIZE // 4)
    door.wait_full()
    assert not nothing_in(engine), "the other one goes on"
    until(lambda: sum(partials(engine).values()) > SIZE // 4, "nothing has come")
    other.close()
    until(lambda: nothing_in(engine), "something of it is left")
    kept = partials(engine)
    assert sum(kept.values()) > SIZE // 4
    assert pulls_told(engine) == 0
    before = door.passed
    door.open()
    to_the_end(begin(request(door, "big:1")))
    assert door.passed - before < SIZE * 0.6
    assert partials(engine) == {}
    assert pulls_told(engine) == 1


@pytest.mark.usefixtures("big")
def test_a_pull_goes_on_after_the_supervisor_was_killed(engine: Engine, door: Throttle, begin: Begin) -> None:
    door.stop_after(SIZE // 2)
    wire = begin(request(door, "big:1"))
    door.wait_full()
    until(lambda: sum(partials(engine).values()) > SIZE // 4, "nothing was kept")
    engine.kill()
    wire.close()
    assert engine.call(f"{IMAGE}.List", {"all": True})["images"] == []
    until(lambda: nothing_in(engine), "something of it is left")
    before = door.passed
    door.open()
    to_the_end(begin(request(door, "big:1")))
    assert door.passed - before < SIZE * 0.8
    assert partials(engine) == {}


@pytest.mark.usefixtures("big")
def test_a_part_that_is_damaged_is_fetched_anew(engine: Engine, door: Throttle, begin: Begin) -> None:
    door.stop_after(SIZE // 2)
    wire = begin(request(door, "big:1"))
    door.wait_full()
    wire.close()
    until(lambda: nothing_in(engine), "something of it is left")
    directory = engine.root / "pyman/partials"
    for path in directory.iterdir():
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\0" * 5000)
    door.open()
    assert to_the_end(begin(request(door, "big:1")))[-1]["ids"]
    assert partials(engine) == {}


def test_what_nobody_has_asked_for_in_days_is_removed_at_the_start_and_all_by_a_prune(engine: Engine) -> None:
    directory = engine.root / "pyman/partials"
    directory.mkdir(exist_ok=True)
    for name, age in (("a" * 64, 10), ("b" * 64, 0)):
        (directory / name).write_bytes(b"x")
        moment = time.time() - age * 24 * 3600
        os.utime(directory / name, (moment, moment))
    engine.kill()
    engine.call(f"{IMAGE}.List")
    assert list(partials(engine)) == ["b" * 64]
    engine.call(f"{IMAGE}.Prune", {})
    assert partials(engine) == {}


@pytest.mark.usefixtures("big")
def test_a_client_that_stops_reading_holds_nobody_up(door: Throttle, begin: Begin) -> None:
    slow, quick = (begin(request(door, "big:1")) for _ in range(2))
    assert to_the_end(quick)[-1]["ids"] == to_the_end(slow)[-1]["ids"]


@pytest.mark.usefixtures("big")
def test_a_supervisor_that_ends_while_it_pulls_ends_at_once(
    engine: Engine, door: Throttle, begin: Begin
) -> None:
    door.stop_after(SIZE // 2)
    wire = begin(request(door, "big:1"))
    door.wait_full()
    begun = time.monotonic()
    assert engine.stop() == 0
    assert time.monotonic() - begun < 15
    with contextlib.suppress(EOFError, ConnectionResetError):
        while wire.receive().get("continues"):
            pass
    engine.start()


def test_a_layer_that_lies_elsewhere_in_the_store_is_not_fetched_again(
    engine: Engine, door: Throttle, registry: RealRegistry, begin: Begin
) -> None:
    common = tar_layer({"noise": noise(3)})
    registry.push("elsewhere", "a", [common])
    registry.push("elsewhere", "b", [tar_layer({"base": b"x"}), common])
    first = to_the_end(begin(request(door, "elsewhere:a")))[-1]["ids"]
    before = door.passed
    second = to_the_end(begin(request(door, "elsewhere:b")))[-1]["ids"]
    assert second != first
    assert door.passed - before < SIZE // 2
    layers = [path for path in (engine.root / "overlay").iterdir() if len(path.name) == 64]
    assert len(layers) == 3
    assert sum((path / "diff/noise").exists() for path in layers) == 2
