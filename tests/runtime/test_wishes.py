"""Several wishes about one container, and who had them: the later one counts, and nobody is told an untruth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.event import Actor
from pyman.errors import ConmonFailed, NoSuchContainer, PymanError, RuntimeFailed, WrongState
from pyman.names import State
from supervisor.kernel import process
from supervisor.oci.runtimes import OciRuntime
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.body import Body

if TYPE_CHECKING:
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)

DEAF = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
SOMEBODY = Actor(uid=1000, pid=4242)


class Asked:
    """A request in the background."""

    def __init__(self, nursery: trio.Nursery, entry: Entry, request: rq.Request[Any]) -> None:
        self.answer: Any = None
        self.error: PymanError | None = None
        nursery.start_soon(self._ask, entry, request)

    async def _ask(self, entry: Entry, request: rq.Request[Any]) -> None:
        try:
            self.answer = await entry.worker.ask(request)
        except PymanError as error:
            self.error = error


async def test_a_kill_does_not_take_back_a_removal(house: House) -> None:
    async with house.open() as engine:
        entry = await house.run(*DEAF, name="web")
        async with trio.open_nursery() as clients:
            removal = Asked(clients, entry, rq.Remove(force=True, timeout=60))
            await entry.container.wait(frozenset({"stopping"}))
            await entry.worker.ask(rq.Kill(signal=9))
        assert removal.answer is True
        with pytest.raises(NoSuchContainer):
            engine.view().find("web")


@pytest.mark.parametrize("wish, error", [("stop", WrongState), ("remove", NoSuchContainer)])
async def test_a_restart_that_a_later_wish_overtakes_is_not_said_to_have_happened(
    house: House, wish: str, error: type[PymanError]
) -> None:
    async with house.open():
        entry = await house.run(*DEAF)
        async with trio.open_nursery() as clients:
            restart = Asked(clients, entry, rq.Restart(timeout=60))
            await entry.container.wait(frozenset({"stopping"}))
            later: rq.Request[bool] = rq.Stop(timeout=0)
            if wish == "remove":
                later = rq.Remove(force=True, timeout=0)
            assert await entry.worker.ask(later)
        assert isinstance(restart.error, error)
        assert "meanwhile" in restart.error.message
        assert (await house.statuses(entry)).count("start") == 1


async def test_every_change_names_who_wanted_it(house: House) -> None:
    async with house.open():
        entry = await house.create("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
        await entry.worker.ask(rq.Start(actor=SOMEBODY))
        await entry.worker.ask(rq.Restart(actor=SOMEBODY, timeout=1))
        await entry.worker.ask(rq.Stop(actor=SOMEBODY, timeout=1))
        await entry.worker.ask(rq.Start(actor=SOMEBODY))
        await entry.worker.ask(rq.Remove(actor=SOMEBODY, force=True, timeout=0))
        nameless = {event.status for event in await house.events(entry) if event.actor is None}
        assert nameless <= {"create", "died", "cleanup"}


async def test_what_the_policy_does_names_nobody(house: House) -> None:
    async with house.open():
        entry = await house.create("false", restart_policy="on-failure", restart_tries=1)
        await entry.worker.ask(rq.Start(actor=SOMEBODY))
        again = await house.event(entry, "restart")
        assert again.actor is None
        first = await house.event(entry, "start")
        assert first.actor == SOMEBODY


async def test_a_stop_goes_on_when_what_was_frozen_ended_before_it_was_thawed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = OciRuntime.resume

    async def too_late(runtime: OciRuntime, id: str) -> None:
        await resume(runtime, id)
        raise RuntimeFailed("cannot resume: container not paused")

    async with house.open():
        entry = await house.run(*DEAF)
        await entry.worker.ask(rq.Pause())
        monkeypatch.setattr(OciRuntime, "resume", too_late)
        with trio.fail_after(20):
            assert await entry.worker.ask(rq.Stop(timeout=1)) is True
        assert entry.container.state is State.EXITED


async def test_nothing_is_wedged_that_has_ended(house: House) -> None:
    async with house.open():
        entry = await house.run("sleep", "1000")
        await entry.worker.ask(rq.Stop(timeout=0))
        await entry.worker.stopping.kill_late()  # as one that was in the inbox already
        assert entry.container.observed.monitor_state == ""
        assert "wedged" not in await house.statuses(entry)


async def test_a_start_that_cannot_be_attached_to_is_undone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Body) -> None:
        raise ConmonFailed("cannot attach: no")

    async with house.open() as engine:
        entry = await house.create("sleep", "1000")
        with monkeypatch.context() as patch:
            patch.setattr(Body, "connect", refuse)
            with pytest.raises(ConmonFailed):
                await entry.worker.ask(rq.Start(attach=True))
        assert entry.container.state is State.CREATED
        assert not (house.path / "tmp/containers" / entry.container.id).exists()
        assert "start" not in await house.statuses(entry)
        assert engine.view().find(entry.container.id) is entry


async def test_who_waits_for_the_run_after_an_init_does_not_get_the_former_ones_end(house: House) -> None:
    async with house.open():
        entry = await house.run("sh", "-c", "exit 3")
        await entry.container.wait(frozenset({"exited"}))
        await entry.worker.ask(rq.Init())
        started = await entry.worker.ask(rq.Start())
        with trio.fail_after(20):
            assert await entry.container.end_of(started.run) == 3
        assert (await house.statuses(entry)).count("died") == 2


async def test_what_a_start_left_that_could_not_be_undone_goes_with_the_container(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeFailed("cannot delete: no")

    async with house.open():
        entry = await house.create("/no/such/command")
        with monkeypatch.context() as patch:
            patch.setattr(Body, "clean", refuse)
            with pytest.raises(PymanError):
                await entry.worker.ask(rq.Start())
        run = house.path / "tmp/containers" / entry.container.id
        assert run.exists()
        await entry.worker.ask(rq.Remove())
        assert not run.exists()


async def test_started_at_is_when_the_process_began(house: House) -> None:
    async with house.open():
        entry = await house.run("sleep", "1000")
        observed = entry.container.observed
        assert observed.init is not None
        assert abs(process.begun_ns(observed.init) - observed.started_at) < 2e9
