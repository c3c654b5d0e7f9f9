"""Which container has which ids, and starts in namespaces that are not what they were."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.spec import IdMappings, Namespace
from pyman.errors import InvalidArgument, NoSuchContainer, StorageFailed, WrongState
from supervisor.kernel.idmaps import IdMaps, IdRange
from supervisor.runtime import dependencies
from supervisor.runtime.creation import defining, sharing
from supervisor.runtime.creation.userns import IdLedger
from supervisor.runtime.life import preparing
from supervisor.runtime.life import requests as rq
from supervisor.runtime.views.containers import inspect_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.runtime.conftest import House

LINES = (IdRange(0, 100, 10),)
POOL = ([range(100, 110)], [range(100, 110)])


def test_ids_are_one_containers_until_they_are_released() -> None:
    ledger = IdLedger()
    for id in ("a", "b"):
        ledger.open(id)
    assert ledger.allocate("a", 10, POOL, IdMaps(), ()) == (LINES, LINES)
    with pytest.raises(InvalidArgument, match="0 are left"):
        ledger.allocate("b", 10, POOL, IdMaps(), ())
    ledger.release("a")
    assert ledger.allocate("b", 10, POOL, IdMaps(), ()) == (LINES, LINES)


def test_a_thread_that_comes_late_keeps_no_ids() -> None:
    """It waited for a root filesystem, and the container was given up meanwhile."""
    ledger = IdLedger()
    ledger.open("late")
    ledger.release("late")
    ledger.allocate("late", 10, POOL, IdMaps(), ())
    ledger.claim("late", IdMaps(LINES, LINES))
    ledger.open("next")
    assert ledger.allocate("next", 10, POOL, IdMaps(), ()) == (LINES, LINES)


@pytest.mark.holds_loop(0)
async def test_a_namespace_that_cannot_be_made_for_the_files_is_an_error_of_the_container(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def refused(_maps: IdMaps) -> AsyncIterator[int]:
        await trio.lowlevel.checkpoint()
        raise FileNotFoundError(2, "No such file or directory", "unshare")
        yield -1

    monkeypatch.setattr(preparing, "with_maps", refused)
    async with house.open():
        entry = await house.create("true", idmappings=IdMappings(uid_map=["0:300000:1000"]))
        with pytest.raises(StorageFailed, match="cannot map the ids of the root filesystem"):
            await entry.worker.ask(rq.Start())


@pytest.mark.holds_loop(0)
async def test_kept_groups_do_not_hide_who_the_command_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defining, "check_groups", lambda *_: None)  # an OCI runtime that keeps them
    async with house.open() as engine:
        entry = await house.create("true", user="1000", groups=["keep-groups"])
        assert (await inspect_view(engine.services, entry.container)).effective_caps == []


@pytest.mark.holds_loop(0)
async def test_one_that_is_to_be_joined_stays_until_who_joins_it_is_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = IdMappings(uid_map=["0:300000:1000"])
    async with house.open() as engine:
        owner = await house.create("true", name="owner", idmappings=maps)
        commit = engine.services.database.commit
        held, go_on = trio.Event(), trio.Event()

        async def slowly(*changes: Any, **more: Any) -> Any:
            if more.get("durable"):
                held.set()
                await go_on.wait()
            return await commit(*changes, **more)

        async with trio.open_nursery() as creation_under_way:
            with monkeypatch.context() as patch:
                patch.setattr(engine.services.database, "commit", slowly)
                joins = partial(house.create, "true", name="joins", userns=Namespace("container", "owner"))
                creation_under_way.start_soon(joins)
                await held.wait()
            with pytest.raises(WrongState, match="container 'joins' depends on it"):
                await owner.worker.ask(rq.Remove())
            go_on.set()


@pytest.mark.holds_loop(0)
async def test_one_that_was_just_removed_is_not_joined(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = IdMappings(uid_map=["0:300000:1000"])
    async with house.open() as engine:
        owner = await house.create("true", name="owner", idmappings=maps)
        monkeypatch.setattr(sharing, "owners", lambda *_asked: {"user": owner.container.definition})
        monkeypatch.setattr(dependencies, "_joined", lambda _spec: [])
        await owner.worker.ask(rq.Remove())
        with pytest.raises(NoSuchContainer, match="it was removed"):
            await house.create("true", name="joins", userns=Namespace("container", "owner"))
        assert engine.registry.containers == []
