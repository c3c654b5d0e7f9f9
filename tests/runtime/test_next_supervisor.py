"""What the next supervisor makes of a record and of what is there, for instants that a kill hits seldom."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.event import Actor
from pyman.names import State
from supervisor.oci.runtimes import OciRuntime
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.restart import Asked
from supervisor.runtime.life.states import Fact
from supervisor.runtime.records import Wanted

if TYPE_CHECKING:
    from supervisor.oci.runtimes import RuntimeState
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)

SOMEBODY = Actor(uid=1000, pid=4242)
USERS: dict[str, Any] = {"next_trigger": "user", "again": False, "asked_by": SOMEBODY}


async def reached(house: House, entry: Entry, state: State) -> Entry:
    """The container as the present supervisor knows it, once it is in a state."""
    again = house.engine.view().find(entry.container.id)
    with trio.fail_after(20):
        await again.container.wait(frozenset({state.value}))
    return again


async def test_a_users_start_that_was_begun_is_still_a_users_and_no_restart(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.create("sleep", "1000")
        await entry.worker.note(wanted=Wanted.RUNNING, run=1, **USERS)
    async with house.open():
        await reached(house, entry, State.RUNNING)
        assert await house.statuses(entry) == ["create", "init", "start"]
        start = await house.event(entry, "start")
        assert (start.attributes["trigger"], start.actor) == ("user", SOMEBODY)


async def test_a_users_restart_that_was_begun_is_told_as_one(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.run("sleep", "1000")
        wish: dict[str, Any] = {"asked": Asked.RESTART, "asked_by": SOMEBODY, "wanted": Wanted.RUNNING}
        await entry.worker.note(Fact.STOP_SENT, forced=True, **wish)
    async with house.open():
        await house.event(entry, "restart")
        words = ["died", "stop", "cleanup", "init", "start", "restart"]
        assert (await house.statuses(entry))[-6:] == words
        told = {event.status: event for event in await house.events(entry)}
        assert told["start"].attributes["trigger"] == "user"
        assert {told[word].actor for word in ("stop", "start", "restart")} == {SOMEBODY}


async def test_a_command_that_ran_and_ended_before_it_was_recorded_was_started(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.create("sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; exit 4")
        await entry.worker.ask(rq.Init())
        await entry.worker.note(wanted=Wanted.RUNNING, **USERS)
        await entry.worker.body.start()
    init = entry.container.observed.init
    assert init is not None
    Path(f"/proc/{init.pid}/root/go").touch()
    async with house.open():
        again = await reached(house, entry, State.EXITED)
        assert again.container.exit_code == 4
        assert await house.statuses(entry) == ["create", "init", "start", "died", "cleanup"]
        assert 0 < again.container.observed.started_at <= again.container.observed.finished_at


async def test_a_start_that_was_done_and_not_recorded_is_told_once(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.create("sleep", "1000")
        await entry.worker.ask(rq.Init())
        await entry.worker.note(wanted=Wanted.RUNNING, **USERS)
        await entry.worker.body.start()
    async with house.open():
        await reached(house, entry, State.RUNNING)
        assert await house.statuses(entry) == ["create", "init", "start"]


async def test_what_was_to_be_stopped_while_frozen_is_thawed(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.run("sleep", "1000")
        await entry.worker.ask(rq.Pause())
        await entry.worker.note(
            Fact.STOP_SENT, asked=Asked.STOP, wanted=Wanted.STOPPED, forced=True, freezing=True
        )
    async with house.open():
        await reached(house, entry, State.EXITED)
        assert (await house.statuses(entry))[-3:] == ["died", "stop", "cleanup"]


async def test_a_command_that_ends_while_it_is_asked_for_was_started(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open(leave=True):
        entry = await house.create("sleep", "1000")
        await entry.worker.ask(rq.Init())
        await entry.worker.note(wanted=Wanted.RUNNING, **USERS)
        await entry.worker.body.start()
    init = entry.container.observed.init
    assert init is not None
    state = OciRuntime.state

    async def too_late(runtime: OciRuntime, id: str) -> RuntimeState | None:
        os.kill(init.pid, signal.SIGKILL)
        await trio.sleep(0.1)
        return await state(runtime, id)

    monkeypatch.setattr(OciRuntime, "state", too_late)
    async with house.open():
        again = await reached(house, entry, State.EXITED)
        assert again.container.exit_code == 137
        assert await house.statuses(entry) == ["create", "init", "start", "died", "cleanup"]


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_kill_that_was_recorded_is_sent(house: House, frozen: bool) -> None:
    async with house.open(leave=True):
        entry = await house.run("sleep", "1000")
        if frozen:
            await entry.worker.ask(rq.Pause())
        await entry.worker.note(asked=Asked.STOP, wanted=Wanted.STOPPED, forced=True)
    async with house.open():
        again = await reached(house, entry, State.EXITED)
        assert again.container.exit_code == 137


async def test_a_stop_with_a_signal_of_its_own_goes_on_with_that(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.run("sh", "-c", "trap 'exit 9' USR1; touch /ready; while :; do sleep 0.02; done")
        init = entry.container.observed.init
        assert init is not None
        with trio.fail_after(20):
            while not Path(f"/proc/{init.pid}/root/ready").exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
        await entry.worker.note(
            Fact.STOP_SENT,
            asked=Asked.STOP,
            wanted=Wanted.STOPPED,
            stop_signal=int(signal.SIGUSR1),
            stop_deadline=time.time_ns() + 4 * 10**10,
        )
    async with house.open():
        again = await reached(house, entry, State.EXITED)
        assert again.container.exit_code == 9


@pytest.mark.parametrize("state", [State.CREATED, State.EXITED])
async def test_what_is_down_and_to_be_removed_is_removed(house: House, state: State) -> None:
    """As a boot leaves a container with --rm."""
    async with house.open(leave=True):
        entry = await house.create("true")
        if state is State.EXITED:
            await entry.worker.ask(rq.Start())
            await entry.container.wait(frozenset({"exited"}))
        await entry.worker.note(wanted=Wanted.REMOVED)
    async with house.open() as engine:
        assert len(engine.registry) == 0
        assert (await house.statuses(entry))[-1] == "remove"


async def test_a_removal_is_told_with_who_wanted_it(house: House) -> None:
    async with house.open(leave=True):
        entry = await house.create("true")
        await entry.worker.note(Fact.REMOVAL_BEGUN, wanted=Wanted.REMOVED, asked_by=SOMEBODY)
    async with house.open():
        assert (await house.event(entry, "remove")).actor == SOMEBODY
