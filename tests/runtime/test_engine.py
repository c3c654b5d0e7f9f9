"""The engine's own books: names, numbers, the trash; what fails in one call is forgotten with it."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.api.container import RenameRequest, Result, Selection, WaitRequest
from pyman.api.update import UpdateRequest
from pyman.errors import InvalidArgument, NameInUse, NoSuchContainer, PymanError, StorageFailed
from supervisor.kernel import children, files
from supervisor.rpc.container import ContainerHandlers
from supervisor.runtime.life import requests as rq
from supervisor.runtime.views.sizes import sizes_of
from supervisor.state.numbering import Numbering
from tests.runtime.faults import call
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


async def test_a_name_is_free_again_when_no_lock_can_be_had(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise StorageFailed("cannot use the lock file: no space")

    async with house.open() as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine.locks, "allocate", full)
            with pytest.raises(StorageFailed):
                await house.create("true", name="web")
        await house.create("true", name="web")


async def test_a_rename_is_finished_and_its_old_name_freed_when_the_client_has_gone(house: House) -> None:
    async with house.open() as engine:
        entry = await house.create("true", name="old")
        handlers = ContainerHandlers(engine)
        async with trio.open_nursery() as client:
            client.start_soon(handlers.rename, RenameRequest("old", "new"), call())
            await trio.lowlevel.checkpoint()
            client.cancel_scope.cancel()
        await house.event(entry, "rename")
        await trio.testing.wait_all_tasks_blocked()
        assert engine.view().find("new") is entry
        with pytest.raises(NoSuchContainer):
            engine.view().find("old")
        await house.create("true", name="old")


async def test_of_two_renames_at_once_no_name_stays_taken(house: House) -> None:
    async with house.open() as engine:
        entry = await house.create("true", name="a")
        handlers = ContainerHandlers(engine)
        async with trio.open_nursery() as clients:
            clients.start_soon(handlers.rename, RenameRequest("a", "b"), call())
            clients.start_soon(handlers.rename, RenameRequest("a", "c"), call())
        for name in {"a", "b", "c"} - {entry.container.name}:
            await house.create("true", name=name)
        with pytest.raises(NameInUse):
            await house.create("true", name=entry.container.name)


async def test_the_same_rename_twice_at_once_leaves_the_name_with_the_container(house: House) -> None:
    async with house.open() as engine:
        entry = await house.create("true", name="a")
        handlers = ContainerHandlers(engine)
        refused = []

        async def rename() -> None:
            try:
                await handlers.rename(RenameRequest("a", "b"), call())
            except PymanError as error:
                refused.append(error)

        async with trio.open_nursery() as clients:
            clients.start_soon(rename)
            clients.start_soon(rename)
        assert engine.view().find("b") is entry
        assert len(refused) == 1
        assert (await house.statuses(entry)).count("rename") == 1


async def test_the_name_that_a_container_has_is_no_new_one(house: House) -> None:
    async with house.open() as engine:
        entry = await house.create("true", name="a")
        await engine.rename(entry, "a", None)
        assert engine.view().find("a") is entry
        assert await house.statuses(entry) == ["create"]


async def test_an_end_that_cannot_be_marked_on_a_full_disk_is_an_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with house.open(leave=True):
        entry = await house.create("true", name="a")
        monkeypatch.setattr(Numbering, "close", refuse)
    monkeypatch.undo()
    async with house.open() as engine:
        assert engine.view().find("a").container.id == entry.container.id


async def test_trash_that_cannot_be_deleted_now_harms_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = trio.Event()

    async def refuse(*_: object, **_options: object) -> None:
        refused.set()
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EMFILE, "too many open files")

    async with house.open() as engine:
        heap = house.path / "root/pyman/trash/heap"
        for number in range(300):
            (heap / str(number)).mkdir(parents=True)
        with monkeypatch.context() as patch:
            patch.setattr(children, "run", refuse)
            engine.services.discard(str(heap))
            await refused.wait()
        await house.create("true")


async def test_any_amount_of_trash_is_deleted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    trash = house.path / "root/pyman/trash"
    emptied = trio.Event()
    remove_tree = files.remove_tree

    async def remove(path: str) -> None:
        await remove_tree(path)
        if not os.listdir(trash):
            emptied.set()

    monkeypatch.setattr(files, "remove_tree", remove)
    async with house.open() as engine:
        for number in range(1100):
            (trash / str(number)).mkdir()
            engine.services.discard(str(trash / str(number)))
        with trio.fail_after(50):
            await emptied.wait()


async def test_a_wait_for_many_containers_misses_none_of_their_states(house: House) -> None:
    async with house.open() as engine:
        entries = [await house.create("true") for _ in range(40)]
        names = [entry.container.id for entry in entries]
        replies = []

        async def wait() -> None:
            request = WaitRequest(Selection(names=names), conditions=["initialized"])
            replies.append(await ContainerHandlers(engine).wait(request, call()))

        async with trio.open_nursery() as client:
            client.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            # The last one is there for a moment only, before any other.
            await entries[-1].worker.ask(rq.Start())
            for entry in entries[:-1]:
                await entry.worker.ask(rq.Init())
            client.cancel_scope.deadline = trio.current_time() + 20
        assert len(replies) == 1


async def test_a_container_that_vanishes_in_between_was_missing_where_that_is_no_failure(
    house: House,
) -> None:
    async with house.open() as engine:
        await house.create("true", name="web")

        async def vanish(_entry: Entry) -> Result:
            raise NoSuchContainer("cannot find container 'web': it was removed")

        wish = Selection(names=["web"])
        (missing,) = await engine.each(
            engine.view(), wish, vanish, missing=lambda name: Result(name, changed=False)
        )
        assert (missing.error, missing.changed) == (None, False)


async def test_a_short_id_is_found_among_a_thousand_without_looking_at_all(house: House) -> None:
    async with house.open() as engine:
        ids = [(await house.create("true")).container.id for _ in range(300)]

        def find() -> float:
            begun = time.thread_time()  # other tests may have the processors meanwhile
            found = engine.view().select(Selection(names=[id[:12] for id in ids]))
            taken = time.thread_time() - begun
            assert [name for name, _ in found] == [id[:12] for id in ids]
            return taken

        quickly(find, 0.02)


async def test_a_container_that_removes_itself_takes_no_restart_policy(house: House) -> None:
    async with house.open() as engine:
        await house.create("true", name="once", remove=True)
        with pytest.raises(InvalidArgument, match="--rm"):
            await ContainerHandlers(engine).update(UpdateRequest("once", restart_policy="always"), call())


async def test_sizes_that_cannot_be_had_hold_up_no_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a root filesystem on a server that does not answer."""
    answers = threading.Event()

    def hang(_: str) -> int:
        answers.wait(20)
        return 0

    monkeypatch.setattr(files, "disk_usage", hang)
    async with house.open() as engine:
        entry = await house.create("true")
        try:
            async with trio.open_nursery() as clients:
                for _ in range(40):
                    clients.start_soon(sizes_of, engine.services, entry.container)
                await trio.testing.wait_all_tasks_blocked(0.05)
                with trio.fail_after(15):
                    await house.run("true")
                clients.cancel_scope.cancel()
        finally:
            answers.set()
