"""What is done elsewhere is told once by whoever finds it done, and not told by whoever does not."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.errors import RegistryFailed
from supervisor.images import deeds as deeds_module
from supervisor.images import traces
from supervisor.images.traces import Placed, Sent
from supervisor.images.transports.outfile import written
from supervisor.images.transports.placing import begun as placed
from supervisor.state.database import Database, DropIntent
from tests.images.deeds import PUSHED, Told, begun, settled
from tests.registry.support import DIGEST, MANIFEST, Home, name_at
from tests.support.hostile import errors, hostile, manifest, silence
from tests.support.registry import digest_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from supervisor.images.deeds import Deed
    from supervisor.images.transports.placing import Place
    from supervisor.storage.store import Store
    from tests.support.hostile import Hostile


DIGEST_OF_MANIFEST = digest_of(MANIFEST)


@pytest.fixture
def told(store: Store, place: Path) -> Iterator[Told]:
    with Database.open(str(place / "static/state.db")) as database:
        yield Told(database, store, place)


# -- places in the file system ----------------------------------------------------------------------


async def _write(path: Path, deed: Deed) -> Place:
    """A directory that is all but in its place."""
    async with placed(str(path), deed) as directory:
        await directory.add_bytes("first", b"1")
        await directory.add_bytes("last", b"2")
    await deed.intend(directory.trace("last"))
    return directory


@pytest.mark.parametrize("there", ["new", "an older one"])
@pytest.mark.parametrize("killed", ["before", "after"])
async def test_a_directory_in_its_place_is_told_by_the_next_supervisor(
    told: Told, place: Path, there: str, killed: str
) -> None:
    path = place / "out"
    if there != "new":
        path.mkdir()
        (path / "first").write_bytes(b"1")
        (path / "last").write_bytes(b"2")
    async with told.supervisor() as deeds:
        directory = await _write(path, begun(deeds))
        if killed == "after":
            await directory.commit()
        else:
            directory._close()
    await told.settle()
    await told.settle()
    assert told.statuses == (["push"] if killed == "after" else [])
    assert told.intents == {}
    left = {each.name for each in place.rglob("*") if each.name.startswith(".pyman-")}
    assert left == set(), "what was written beside it"
    assert path.exists() == (killed == "after" or there != "new")


@pytest.mark.parametrize("replace", [True, False])
async def test_an_archive_in_its_place_is_told_and_one_that_is_not_is_taken_away(
    told: Told, place: Path, *, replace: bool
) -> None:
    async with told.supervisor() as deeds:
        async with written(str(place / "done"), begun(deeds), replace=replace) as fd:
            os.write(fd, b"archive")
        with suppress(ZeroDivisionError):
            async with written(str(place / "undone"), begun(deeds), replace=replace) as fd:
                os.write(fd, b"archive")
                (staged,) = place.glob(".undone.*")
                os.link(staged, place / "kept")
                1 / 0  # noqa: B018 - as if it was killed here, but for what is cleaned up
        os.rename(place / "kept", staged)
        (place / "undone").write_bytes(b"archive")
    assert len(told.intents) == 2
    await told.settle()
    assert told.statuses == ["push"]
    assert {each.name for each in place.iterdir() if each.is_file()} == {"done", "undone"}


async def test_a_file_system_that_does_not_answer_holds_nothing_up(
    told: Told, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with told.supervisor() as deeds:
        (await _write(place / "out", begun(deeds)))._close()
    answers = threading.Event()
    monkeypatch.setattr(traces, "_is", lambda *_: answers.wait())
    monkeypatch.setattr(traces, "LOOK", 0.2)
    monkeypatch.setattr(deeds_module, "FIRST", 0.05)
    try:
        async with told.supervisor() as deeds:
            assert len(deeds._questions) == 1, "it goes on beside the rest"
            await settled(deeds)
    finally:
        answers.set()
    assert (told.statuses, told.intents) == ([], {})


# -- registries -------------------------------------------------------------------------------------


@pytest.fixture
async def registry() -> AsyncIterator[Hostile]:
    async with hostile() as running:
        yield running


@pytest.fixture
async def pushing(told: Told, registry: Hostile, tmp_path: Path) -> AsyncIterator[Told]:
    """A push to the registry that was killed before it was told."""
    async with Home(tmp_path).registries(stall=5.0) as told.registries:
        async with told.supervisor() as deeds:
            await begun(deeds).intend(_sent(registry))
        yield told


def _sent(registry: Hostile) -> Sent:
    return Sent(str(name_at(registry)), DIGEST_OF_MANIFEST, tls_verify=False)


THERE = manifest(MANIFEST, headers={"Docker-Content-Digest": DIGEST_OF_MANIFEST})
OTHER = manifest(MANIFEST, headers={"Docker-Content-Digest": DIGEST})
ABSENT = errors(404, "MANIFEST_UNKNOWN", "not here")
BROKEN = errors(503, "UNAVAILABLE", "later")
ASKED = "HEAD /v2/a/manifests/1"


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        pytest.param([THERE], ["push"], id="it is there"),
        pytest.param([ABSENT, THERE], ["push"], id="it comes while the registry is asked"),
        pytest.param([BROKEN, BROKEN, THERE], ["push"], id="the registry comes back"),
        pytest.param([silence, THERE], ["push"], id="the registry hangs once"),
        pytest.param([ABSENT], [], id="it is not there"),
        pytest.param([OTHER], [], id="the name means another one"),
        pytest.param([BROKEN], [], id="the registry does not come back"),
        pytest.param([silence], [], id="the registry hangs"),
        pytest.param([errors(401, "UNAUTHORIZED", "who are you")], [], id="the password was not kept"),
    ],
)
async def test_a_registry_is_asked_a_bounded_number_of_times(
    pushing: Told,
    registry: Hostile,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Any],
    statuses: list[str],
) -> None:
    monkeypatch.setattr(traces, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(traces, "LOOK", 3.0)
    registry.on(ASKED, *answers)
    await pushing.settle()
    assert pushing.statuses == statuses
    assert pushing.intents == {}
    assert len(registry.asked("/v2/a/manifests/1")) <= 4
    await pushing.settle()
    assert pushing.statuses == statuses


async def test_a_start_does_not_wait_for_a_registry(pushing: Told, registry: Hostile) -> None:
    registry.on(ASKED, silence)
    with trio.fail_after(traces.LOOK / 2):
        async with pushing.supervisor():
            pass
    assert len(pushing.intents) == 1, "the next one asks again"


async def test_who_pushes_to_the_same_name_waits_until_it_is_known_what_became_of_the_last_push(
    pushing: Told, registry: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is put now would be taken for what was to be put then."""
    monkeypatch.setattr(traces, "PAUSES", (1000.0,))
    registry.on(ASKED, ABSENT, ABSENT, THERE)

    async def put() -> None:
        assert len(registry.asked("/v2/a/manifests/1")) == 2

    async with pushing.supervisor() as deeds:
        with trio.fail_after(10):
            (question,) = deeds._questions.values()
            await question.looked.wait()
            async with deeds.deed(PUSHED) as deed:
                await deed.carry_out(_sent(registry), put)
    assert pushing.statuses == ["push"]
    assert pushing.intents == {}


# -- who leaves -------------------------------------------------------------------------------------


async def test_a_caller_who_leaves_after_the_last_step_is_told_of(told: Told, place: Path) -> None:
    async with told.supervisor() as deeds:
        with trio.CancelScope() as caller:
            async with deeds.deed(PUSHED) as deed:
                directory = await _write(place / "out", deed)
                await deed.carry_out(directory.trace("last"), directory.commit)
                caller.cancel()
        assert not deeds._questions
    assert told.statuses == ["push"]
    assert told.intents == {}


async def test_what_was_written_to_a_client_is_told_also_if_he_leaves_then(told: Told) -> None:
    async with told.supervisor() as deeds:
        with trio.CancelScope() as caller:
            async with deeds.deed(PUSHED):
                caller.cancel()
    assert told.statuses == ["push"]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_last_step_gets_some_time_when_its_caller_leaves(
    pushing: Told, registry: Hostile, monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    """After that it is looked at as if the supervisor had been killed."""
    await _forget(pushing)
    monkeypatch.setattr(deeds_module, "GRACE", 0.3)
    registry.on(ASKED, THERE)
    async with pushing.supervisor() as deeds:
        with trio.CancelScope() as caller:
            async with deeds.deed(PUSHED) as deed:

                async def put() -> None:
                    caller.cancel()
                    if not ends:
                        await trio.sleep_forever()
                    await trio.sleep(0.01)

                await deed.carry_out(_sent(registry), put)
        assert caller.cancelled_caught
        assert len(deeds._questions) == (0 if ends else 1)
        await settled(deeds)
    assert pushing.statuses == ["push"]
    assert pushing.intents == {}
    assert len(registry.asked("/v2/a/manifests/1")) == (0 if ends else 1)


async def _forget(told: Told) -> None:
    await told.database.commit([DropIntent(key) for key in told.intents])


async def test_a_last_step_that_fails_is_not_told(told: Told, place: Path) -> None:
    async def fail() -> None:
        raise RegistryFailed("cannot push: no")

    async with told.supervisor() as deeds:
        with pytest.raises(RegistryFailed):
            async with deeds.deed(PUSHED) as deed:
                await deed.carry_out(Placed(str(place), str(place), place.stat().st_ino), fail)
    assert (told.statuses, told.intents) == ([], {})
