"""The daemon killed between the steps of a change to an image: it is told once if it was done, and not if not.

The steps are held by the locks that the engine needs for them: that of the store, which all engines share, before the
change; that of the state database between the change and its event.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.telling import IMAGE, intents, kill, state, statuses
from tests.images.filling import import_image, nothing_in, others_of
from tests.storage.others import missing
from tests.support.images import leave_no_mount
from tests.support.registry import RealRegistry, tar_layer
from tests.support.varlink import VarlinkError
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.conftest import Faulty, MakeEngine

pytestmark = pytest.mark.skipif(
    bool(missing("podman", "docker-registry")), reason=missing("podman", "docker-registry")
)

_LOCK = struct.Struct("hhqqi4x")
_F_OFD_SETLKW = 38


@pytest.fixture(scope="module")
def reference() -> Iterator[str]:
    with RealRegistry() as registry:
        yield registry.push("app", "1", [tar_layer({"file": b"content"})]).reference


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock file held as another engine would."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.fcntl(fd, _F_OFD_SETLKW, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        yield
    finally:
        os.close(fd)


def listed(engine: Faulty) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = engine.call(f"{IMAGE}.List", {"all": True})["images"]
    return images


class Change:
    """A call, the file that shows that it was done, and what it is told as."""

    def __init__(
        self, method: str, parameters: dict[str, Any], told: list[str], *, lock: str = "images"
    ) -> None:
        self.method = method
        self.parameters = parameters
        self.told = told
        self.lock = lock


CHANGES = {
    "tag": Change("Tag", {"name": "base:1", "targets": ["new:1"]}, ["tag"]),
    "untag": Change("Untag", {"name": "base:1", "targets": []}, ["untag"]),
    "remove": Change("Remove", {"names": ["base:1"]}, ["untag", "remove"], lock="layers"),
    "mount": Change("Mount", {"names": ["base:1"]}, ["mount"], lock="layers"),
    "pull": Change("Pull", {"access": {"tls_verify": False}}, ["pull"]),
    "push here": Change("Push", {"name": "base:1", "destination": "containers-storage:new:1"}, ["push"]),
}
STREAMING = ("pull", "push here")


def shown(engine: Faulty) -> list[tuple[str, int]]:
    """What all changes change."""
    mounted = engine.call(f"{IMAGE}.Mount", {})["images"]
    return sorted((name, len(mounted)) for image in listed(engine) for name in image["names"])


@pytest.mark.parametrize("step", ["before the change", "after the change"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_told_once_if_it_was_done_and_not_if_not(
    make_engine: MakeEngine, reference: str, kind: str, step: str
) -> None:
    faulty = make_engine()
    import_image(faulty, "localhost/base:1")
    change = CHANGES[kind]
    parameters = {"reference": reference, **change.parameters} if kind == "pull" else change.parameters
    before = shown(faulty)
    daemon = faulty.daemon
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(faulty.wire())
        connection = stack.enter_context(state(faulty))
        with held(faulty.root / f"overlay-{change.lock}/{change.lock}.lock"):
            wire.send(f"{IMAGE}.{change.method}", parameters, more=kind in STREAMING)
            until(lambda: intents(faulty) == 1, "nothing was intended")
            if step == "after the change":
                connection.execute("BEGIN IMMEDIATE")
            else:
                kill(faulty, daemon)
        if step == "after the change":
            until(lambda: changed(faulty, kind), "nothing was changed")
            kill(faulty, daemon)
            connection.execute("ROLLBACK")
    faulty.wait_ready()
    until(lambda: intents(faulty) == 0, "something is still to be found out")
    done = step == "after the change"
    assert statuses(faulty) == (change.told if done else [])
    assert (shown(faulty) != before) is done
    faulty.call(f"{IMAGE}.Unmount", {"all": True, "force": True})


def changed(engine: Faulty, kind: str) -> bool:
    """Whether the change is in the store, as its files say."""
    images = (engine.root / "overlay-images/images.json").read_text()
    if kind == "mount":
        counts = engine.runroot / "overlay-layers/mountpoints.json"
        return counts.exists() and "count" in counts.read_text()
    return {
        "tag": "localhost/new:1" in images,
        "untag": '"names":["localhost/base:1"]' not in images,
        "remove": images == "[]",
        "pull": "/app:1" in images,
        "push here": "docker.io/library/new:1" in images,
    }[kind]


def test_a_change_that_fails_is_not_told(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    import_image(faulty, "localhost/base:1")
    directory = faulty.root / "overlay-images"
    with faulty.wire() as wire, held(directory / "images.lock"):
        wire.send(f"{IMAGE}.Tag", {"name": "base:1", "targets": ["new:1"]})
        until(lambda: intents(faulty) == 1, "nothing was intended")
        (directory / "images.json").write_text("[]")
    until(lambda: intents(faulty) == 0, "an intent is left")
    assert statuses(faulty) == []


def test_what_was_begun_is_told_to_subscribers_before_the_end(make_engine: MakeEngine) -> None:
    faulty = make_engine()
    import_image(faulty, "localhost/base:1")
    events = faulty.follow()
    with faulty.wire() as wire:
        with held(faulty.root / "overlay-images/images.lock"):
            wire.send(f"{IMAGE}.Tag", {"name": "base:1", "targets": ["new:1"]})
            until(lambda: intents(faulty) == 1, "nothing was intended")
            os.kill(faulty.daemon, signal.SIGTERM)
            until(lambda: not os.path.exists(faulty.socket), "the socket stays")
        told: list[str] = []
        with contextlib.suppress(EOFError, ConnectionResetError, VarlinkError):
            told.extend(event["Status"] for event in events)
    assert told == ["tag"]
    assert faulty.stop() == 0


@pytest.mark.slow
def test_a_pull_killed_at_any_moment_leaves_a_store_that_all_can_read(make_engine: MakeEngine) -> None:
    """Each round it gets one message further; what is there afterwards is removed again, and told so."""
    faulty = make_engine()
    others = others_of(faulty)
    with RealRegistry() as registry:
        layers = [tar_layer({f"file{number}": os.urandom(200_000)}) for number in range(4)]
        parameters = {
            "reference": registry.push("app", "1", layers).reference,
            "access": {"tls_verify": False},
        }
        for messages in range(16):
            with faulty.wire() as wire:
                wire.send(f"{IMAGE}.Pull", parameters, more=True)
                for _ in range(messages):
                    if not wire.receive().get("continues"):
                        break
                faulty.kill()
            found = listed(faulty)
            assert [image["Id"] for image in others.images()] == [image["id"] for image in found]
            for image in found:
                assert faulty.call(f"{IMAGE}.Remove", {"names": [image["id"]]})["errors"] == []
            assert intents(faulty) == 0
    told = statuses(faulty)
    assert told == ["pull", "untag", "remove"] * (len(told) // 3)
    assert told, "some came to their end"
    leave_no_mount(faulty)
    until(lambda: nothing_in(faulty), "something of it is left")
