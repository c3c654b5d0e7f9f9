"""The daemon killed, or its caller gone, while an image is brought into the store of another graph root."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.telling import intents, kill, state, statuses
from tests.faults.test_images import held
from tests.images.filling import import_image
from tests.storage.others import Others, missing
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Faulty, MakeEngine

pytestmark = pytest.mark.skipif(bool(missing("podman")), reason=missing("podman"))


class Pushed:
    """An image that is on its way into another store."""

    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty
        self.id = import_image(faulty, "localhost/base:1")
        self.others = Others(faulty.path)
        self.others.root, self.others.run = faulty.path / "other", faulty.path / "other-run"
        self.others.podman("images")  # which makes the store
        self.request: dict[str, Any] = {
            "name": "base:1",
            "destination": self.others.storage("registry.example/new:1"),
        }

    @property
    def lock(self) -> Path:
        return self.others.root / "overlay-layers/layers.lock"

    def litter(self) -> list[Path]:
        root = self.others.root
        return [
            *(path for path in root.glob("overlay/*") if len(path.name) == 64),
            *root.glob("overlay/l/*"),
            *root.glob("overlay-layers/*.tar-split.gz"),
            *(path for path in root.glob("overlay-images/*") if len(path.name) == 64),
            *root.glob("pyman/store/*"),
        ]

    def unpacked(self) -> bool:
        """The layer is complete beside the store, and only its lock is waited for."""
        return bool(list(self.others.root.glob("pyman/store/*/staging/*/tar-split.gz")))

    def arrives(self) -> None:
        with self.faulty.wire(timeout=60) as wire:
            list(wire.stream("io.pyman.Image.Push", self.request))
        assert [image["Id"] for image in self.others.images()] == [self.id]
        self.others.podman("rmi", "--all", "--force")
        assert statuses(self.faulty) == ["push"]


def test_what_a_killed_daemon_has_left_in_another_store_goes(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    pushed = Pushed(faulty)
    daemon = faulty.daemon
    with faulty.wire() as wire, held(pushed.lock):
        wire.send("io.pyman.Image.Push", pushed.request, more=True)
        until(pushed.unpacked, "nothing was unpacked")
        kill(faulty, daemon)
    faulty.wait_ready()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    until(lambda: pushed.litter() == [], "something of it stays")
    assert statuses(faulty) == []
    pushed.arrives()


def test_a_layer_that_has_no_image_yet_goes_too(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    pushed = Pushed(faulty)
    daemon = faulty.daemon
    records = pushed.others.root / "overlay-layers/layers.json"
    with faulty.wire() as wire, held(pushed.others.root / "overlay-images/images.lock"):
        wire.send("io.pyman.Image.Push", pushed.request, more=True)
        until(lambda: records.exists() and bool(json.loads(records.read_bytes())), "no layer was stored")
        kill(faulty, daemon)
    faulty.wait_ready()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    assert pushed.litter() == []
    assert json.loads(records.read_bytes()) == []
    assert statuses(faulty) == []
    pushed.arrives()


def test_an_image_that_has_arrived_is_told_once(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    pushed = Pushed(faulty)
    daemon = faulty.daemon
    records = pushed.others.root / "overlay-images/images.json"
    with faulty.wire() as wire, state(faulty) as connection:
        with held(pushed.others.root / "overlay-images/images.lock"):
            wire.send("io.pyman.Image.Push", pushed.request, more=True)
            until(lambda: intents(faulty) == 2, "it does not come to its last step")
            connection.execute("BEGIN IMMEDIATE")
        until(lambda: records.exists() and pushed.id in records.read_text(), "no image was stored")
        kill(faulty, daemon)
        connection.execute("ROLLBACK")
    faulty.wait_ready()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    assert statuses(faulty) == ["push"]
    assert [image["Id"] for image in pushed.others.images()] == [pushed.id]


def test_a_caller_who_goes_away_leaves_nothing_there(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    pushed = Pushed(faulty)
    with held(pushed.lock):
        with faulty.wire() as wire:
            wire.send("io.pyman.Image.Push", pushed.request, more=True)
            until(pushed.unpacked, "nothing was unpacked")
        assert intents(faulty) == 1
    until(lambda: intents(faulty) == 0, "it goes on")
    until(lambda: pushed.litter() == [], "something of it stays")
    pushed.arrives()


def test_a_daemon_that_ends_gives_up_what_is_on_its_way(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    pushed = Pushed(faulty)
    with faulty.wire() as wire, held(pushed.lock):
        wire.send("io.pyman.Image.Push", pushed.request, more=True)
        until(pushed.unpacked, "nothing was unpacked")
        os.kill(faulty.daemon, signal.SIGTERM)
        until(lambda: not os.path.exists(faulty.socket), "the socket stays")
    assert faulty.stop() == 0
    assert intents(faulty) == 0
    assert pushed.litter() == []


def test_a_start_does_not_wait_for_a_store_that_is_in_use(make_engine: MakeEngine) -> None:
    """What is left there goes at a later start, or with the next push."""
    faulty = make_engine()
    pushed = Pushed(faulty)
    daemon = faulty.daemon
    with held(pushed.others.root / "overlay-images/images.lock"):
        with faulty.wire() as wire:
            wire.send("io.pyman.Image.Push", pushed.request, more=True)
            records = pushed.others.root / "overlay-layers/layers.json"
            until(lambda: records.exists() and bool(json.loads(records.read_bytes())), "no layer was stored")
            kill(faulty, daemon)
        faulty.wait_ready()
        until(lambda: intents(faulty) == 1, "that it was begun is still to be found out")
    kill(faulty, faulty.daemon)
    faulty.wait_ready()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    until(lambda: pushed.litter() == [], "something of it stays")
