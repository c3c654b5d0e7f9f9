"""What fails in the middle is taken up again, as a next supervisor would take it up."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.errors import DeadlineExceeded, DiskFull, InternalError, NoSuchContainer, RuntimeFailed
from pyman.names import State
from supervisor.oci.runtimes import OciRuntime
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life import worker
from supervisor.runtime.life.body import Body
from supervisor.runtime.life.ending import Ending
from supervisor.runtime.life.preparing import Preparing
from supervisor.runtime.services import STARTS_AT_ONCE
from supervisor.storage import rootfs
from tests.runtime.conftest import CONFIG
from tests.runtime.faults import FullDisk
from tests.support.logs import captured_logs

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.runtime.registry import Entry
    from supervisor.settings.layout import Layout
    from supervisor.storage.overlay import Overlays
    from supervisor.storage.rootfs import Layers, Shift
    from tests.runtime.conftest import House

pytestmark = pytest.mark.holds_loop(0)


async def test_an_end_that_cannot_be_recorded_is_recorded_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.run("sh", "-c", "exit 7")
        FullDisk(monkeypatch, lambda status: status == "died")
        with trio.fail_after(20):
            assert await entry.container.wait(frozenset({"exited"})) == 7
        assert (await house.statuses(entry)).count("died") == 1


async def test_a_start_that_cannot_be_recorded_is_recorded_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.create("sleep", "1000")
        with monkeypatch.context() as patch:
            FullDisk(patch, lambda status: status == "start")
            with pytest.raises(DiskFull):
                await entry.worker.ask(rq.Start())
        with trio.fail_after(20):
            await entry.container.wait(frozenset({"running"}))
        assert await house.statuses(entry) == ["create", "init", "start"]


class Stubborn:
    """An OCI runtime that cannot delete, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
        self.left = times
        delete = OciRuntime.delete

        async def refuse(runtime: OciRuntime, id: str, *, force: bool = False) -> None:
            if self.left:
                self.left -= 1
                await trio.lowlevel.checkpoint()
                raise RuntimeFailed("cannot delete: not now")
            await delete(runtime, id, force=force)

        monkeypatch.setattr(OciRuntime, "delete", refuse)


async def test_a_policys_restart_waits_for_a_clean_up_that_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.create("sh", "-c", "exit 1", restart_policy="on-failure", restart_tries=1)
        Stubborn(monkeypatch)
        await entry.worker.ask(rq.Start())
        await house.event(entry, "restart")
        await house.event(entry, "restart-declined")
        statuses = await house.statuses(entry)
        assert statuses.count("start") == statuses.count("died") == 2


@pytest.mark.parametrize("step", ["prepare", "spawn", "create"])
async def test_a_restart_that_fails_beside_the_clean_up_is_made_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with house.open():
        entry = await house.run("sleep", "1000", restart_policy="always")
        part = Preparing if step == "prepare" else Body
        work, failures = getattr(part, step), 1

        async def fail(body: Body | Preparing, *words: Any, **options: Any) -> Any:
            nonlocal failures
            done = await work(body, *words, **options)
            if failures:
                failures -= 1
                raise RuntimeFailed("not now")
            return done

        monkeypatch.setattr(part, step, fail)
        init = entry.container.observed.init
        assert init is not None
        os.kill(init.pid, signal.SIGKILL)
        await house.event(entry, "start", number=2)
        assert failures == 0
        assert entry.container.observed.history.count == (2 if step == "create" else 1)
        assert (await house.statuses(entry)).count("cleanup") == 1


async def test_a_container_that_removes_itself_goes_once_it_can_be_cleaned_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open() as engine:
        entry = await house.create("sh", "-c", "exit 6", remove=True)
        Stubborn(monkeypatch)
        started = await entry.worker.ask(rq.Start())
        with trio.fail_after(20):
            assert await entry.container.end_of(started.run) == 6
            await house.event(entry, "remove")
            # Nobody sees it from its end on; what is left of it goes later, and nobody is told.
            assert list(engine.view()) == []
            while len(engine.registry):  # noqa: ASYNC110
                await trio.sleep(0.01)
        told = await house.statuses(entry)
        assert (told.count("died"), told.count("remove")) == (1, 1)


async def test_wishes_about_a_container_that_is_gone_but_for_its_remains_come_too_late(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open() as engine:
        entry = await house.create("true", name="once", remove=True)
        Stubborn(monkeypatch, times=1)
        await entry.worker.ask(rq.Start())
        await entry.container.wait(frozenset({"removed"}))
        again = await house.create("true", name="once")
        wishes: list[rq.Request[Any]] = [rq.Rename(name="never"), rq.Start(), rq.Kill(), rq.Init()]
        for wish in wishes:
            with pytest.raises(NoSuchContainer):
                await entry.worker.ask(wish)
        assert await entry.worker.ask(rq.Remove()) is True
        assert engine.view().find("once") is again
        with trio.fail_after(20):
            while len(engine.registry) > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_restart_is_refused_and_made_up_for_when_the_clean_up_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.run("sleep", "1000")
        Stubborn(monkeypatch)
        with pytest.raises(RuntimeFailed, match="not now"):
            await entry.worker.ask(rq.Restart(timeout=0))
        await house.event(entry, "restart")
        assert entry.container.state is State.RUNNING


async def test_a_forced_removal_passes_over_a_clean_up_that_fails(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open() as engine:
        entry = await house.run("sleep", "1000")
        Stubborn(monkeypatch)
        await entry.worker.ask(rq.Remove(force=True, timeout=0))
        assert len(engine.registry) == 0
        await entry.worker.body.runtime.delete(entry.container.id, force=True)


async def test_a_stop_is_done_when_only_the_clean_up_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.open():
        entry = await house.run("sleep", "1000")
        Stubborn(monkeypatch)
        assert await entry.worker.ask(rq.Stop(timeout=0)) is True
        with trio.fail_after(20):
            await entry.container.wait(frozenset({"exited"}))


async def test_a_bug_in_the_middle_of_a_start_leaves_no_half_started_container(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*_: object) -> None:
        raise ZeroDivisionError

    async with house.open():
        entry = await house.create("sleep", "1000")
        with monkeypatch.context() as patch:
            patch.setattr(Body, "create", mistake)
            with pytest.raises(InternalError):
                await entry.worker.ask(rq.Start())
        with trio.fail_after(20):
            await entry.container.wait(frozenset({"running"}))
        assert await house.statuses(entry) == ["create", "init", "start"]


async def test_a_bug_at_the_end_is_told_to_who_waits_and_tried_ever_more_rarely(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def mistake(*_: object) -> None:
        tries.append(trio.current_time())
        raise ZeroDivisionError

    monkeypatch.setattr(worker, "PAUSE_LEAST", 0.1)
    async with house.open():
        entry = await house.run("sleep", "1000")
        with monkeypatch.context() as patch, captured_logs() as logs:
            patch.setattr(Ending, "_record", mistake)
            with trio.fail_after(20), pytest.raises(InternalError):
                await entry.worker.ask(rq.Stop(timeout=0))
            with trio.fail_after(20):
                while len(tries) < 7:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        # Two descriptors tell of an end, right after each other.
        pauses = [pause for sooner, later in pairwise(tries) if (pause := later - sooner) > 0.05]
        assert pauses[-1] > 1.5 * pauses[0]
        told = [entry["exc_info"] for entry in logs if "ZeroDivisionError" in entry.get("error", "")]
        assert told[0] is not None
        assert not any(told[1:])
        with trio.fail_after(20):
            await entry.container.wait(frozenset({"exited"}))
        assert (await house.statuses(entry)).count("died") == 1


async def test_a_root_filesystem_that_cannot_be_mounted_in_time_costs_its_container_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.configuration.write_text(f"{CONFIG}call_deadline = 3.0\n")
    answer = threading.Event()
    mount = rootfs.mount_rootfs

    def hang(
        layout: Layout,
        id: str,
        spec: ContainerSpec,
        overlays: Overlays,
        shift: Shift | None = None,
        layers: Layers | None = None,
    ) -> str:
        if spec.name.startswith("far"):
            answer.wait()
        return mount(layout, id, spec, overlays, shift, layers)

    monkeypatch.setattr(rootfs, "mount_rootfs", hang)
    async with house.open() as engine:
        entries = [await house.create("true", name=f"far{number}") for number in range(STARTS_AT_ONCE + 2)]
        far = entries[0]
        async with trio.open_nursery() as starts:
            for entry in entries:
                starts.start_soon(refused, entry, "no answer within 3 s")
        await refused(far, "an earlier start still waits")
        with trio.fail_after(20):
            house.rootfs = house.rootfs.parent / "." / house.rootfs.name / "bin" / ".."
            near = await house.create("true", name="near")
            await near.worker.ask(rq.Start())
            await far.worker.ask(rq.Remove())
        answer.set()
        with trio.fail_after(20):
            while any(entry.worker.body.preparing.under_way for entry in entries):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert not os.path.lexists(engine.layout.container_run(far.container.id))
        assert not os.path.lexists(engine.layout.container_static(far.container.id))
        await entries[1].worker.ask(rq.Start())


async def refused(entry: Entry, how: str) -> None:
    with pytest.raises(DeadlineExceeded, match=how):
        await entry.worker.ask(rq.Start())
