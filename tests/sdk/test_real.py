"""The client with a real supervisor and real containers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import pyman
import pyman.client
from pyman.api import spec as pyman_spec
from pyman.client import Event
from pyman.errors import CommandNotFound, EngineUnavailable, NameInUse, NoSuchContainer, OptionDiffers
from pyman.wire import Selection
from tests.sdk.backends import on_both
from tests.support import processes
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from tests.support.engine import Engine


def shell(rootfs: Path, text: str, **fields: Any) -> dict[str, Any]:
    """Fields of a container that runs a shell text on a copy of the root file system."""
    return {"rootfs": str(rootfs), "rootfs_overlay": True, "command": ["sh", "-c", text], **fields}


@on_both
async def test_a_run_gives_its_output_and_its_exit_code(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        session = await engine.containers.run(**shell(rootfs, "echo out; echo err >&2; exit 5", remove=True))
        output = await session.collect()
        assert (output.stdout, output.stderr, output.exit_code) == (b"out\n", b"err\n", 5)
        assert await engine.containers.list(all=True) == []


@on_both
async def test_input_flows_in_and_much_output_out(shared_engine: Engine, rootfs: Path) -> None:
    data = b"0123456789abcde\n" * 40_000
    async with pyman.connect(shared_engine.socket) as engine, anyio.create_task_group() as tasks:
        session = await engine.containers.run(**shell(rootfs, "cat", remove=True), stdin=True)

        async def feed() -> None:
            await session.send(data)
            await session.send_eof()

        tasks.start_soon(feed)
        output = await session.collect()
        assert output.stdout == data
        assert output.exit_code == 0


@on_both
async def test_a_life_step_by_step(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        containers = engine.containers
        created = await containers.create(**shell(rootfs, "sleep 1000", name="web", stop_timeout=0))
        with pytest.raises(NameInUse):
            await containers.create(**shell(rootfs, "true", name="web"))
        assert await containers.exists("web")
        await containers.start("web")
        assert (await containers.inspect("web")).state.status == "running"
        await containers.pause("web")
        await containers.unpause("web")
        await containers.rename("web", "shop")
        listed = await containers.list()
        assert [(each.id, each.names) for each in listed] == [(created.id, ["shop"])]
        limits = pyman.client.ResourceLimits(pids=pyman.client.PidsLimit(50))
        assert (await containers.update("shop", resource_limits=limits, env={"A": "1"})).id == created.id
        shown = await containers.inspect("shop")
        assert (shown.host_config.pids_limit, "A=1" in shown.config.env) == (50, True)
        await containers.kill("shop", "TERM")
        await containers.stop("shop")
        assert await containers.wait("shop") in (137, 143)
        assert (await containers.why("shop")).name == "shop"
        await containers.remove("shop")
        with pytest.raises(NoSuchContainer):
            await containers.inspect("shop")


@on_both
async def test_exec_and_attach_have_streams(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.containers.run(
            **shell(rootfs, "read x; echo got $x", name="web", stdin=True), detach=True
        )
        async with await engine.containers.exec(
            "web", ["sh", "-c", "cat; echo $A >&2; exit 4"], stdin=True, env={"A": "b"}
        ) as session:
            await session.send(b"in")
            await session.send_eof()
            output = await session.collect()
            assert (output.stdout, output.stderr, output.exit_code) == (b"in", b"b\n", 4)
        with pytest.raises(CommandNotFound):
            await engine.containers.exec("web", ["nowhere"])
        detached = await engine.containers.exec("web", ["sh", "-c", "exit 6"], detach=True)
        assert await detached.wait() == 6
        async with await engine.containers.attach("web") as session:
            await session.send(b"hello\n")
            output = await session.collect()
        assert (output.stdout, output.exit_code) == (b"got hello\n", 0)


@on_both
async def test_logs_of_the_past_and_of_what_comes(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.containers.run(
            **shell(rootfs, "echo one; echo two >&2; read x; echo three", name="web", stdin=True), detach=True
        )
        async with engine.containers.logs("web", follow=True) as logs:
            first = [await anext(logs), await anext(logs)]
            assert {(line.stream, line.text) for line in first} == {("stdout", b"one"), ("stderr", b"two")}
            session = await engine.containers.attach("web")
            await session.send(b"\n")
            assert [line.text async for line in logs] == [b"three"]
            assert await session.wait() == 0
            await session.aclose()
        tail = [line async for line in engine.containers.logs("web", tail=1)]
        assert [line.text for line in tail] == [b"three"]


@on_both
async def test_events_and_sessions_outlive_a_killed_supervisor(engine: Engine, rootfs: Path) -> None:
    """Every event once and in order, and the exit code of what ended while there was no supervisor."""
    async with pyman.connect(engine.socket) as client, client.events() as events:
        await events.begin()
        start = events.seq
        assert start is not None
        session = await client.containers.run(
            **shell(rootfs, "read x; exit 9", name="web", stdin=True, remove=True)
        )
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await session.wait())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()

            def kill() -> None:
                engine.kill(wait=False)

            await anyio.to_thread.run_sync(kill)
            # conmon's socket is still there: the container ends while nobody watches.
            await session.send(b"\n")
            await anyio.to_thread.run_sync(engine.wait_ready)
        assert codes == [9]
        seen: list[Event] = []
        async for event in events:
            assert isinstance(event, Event)
            seen.append(event)
            if event.status == "remove":
                break
        assert [event.seq for event in seen] == list(range(start + 1, start + 1 + len(seen)))
        statuses = [event.status for event in seen if event.type == "container"]
        assert [status for status in statuses if status in ("create", "start", "died", "remove")] == [
            "create",
            "start",
            "died",
            "remove",
        ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.oci_runtime("runc")
def test_the_client_adds_little_to_a_call(shared_engine: Engine, backend: str) -> None:
    async def measure() -> float:
        async with pyman.connect(shared_engine.socket) as engine:
            times = []
            for _ in range(100):
                started = time.perf_counter()
                await engine.version()
                times.append(time.perf_counter() - started)
            return sorted(times)[len(times) // 2]

    quickly(lambda: anyio.run(measure, backend=backend), 0.002)


@pytest.mark.skipif(os.geteuid() != 0, reason="the supervisor needs root")
def test_a_supervisor_is_started_where_none_answers(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTAINERS_CONF", raising=False)
    places: dict[str, Any] = {name: str(short_path / name) for name in ("root", "runroot", "tmpdir")}

    async def use() -> None:
        with pytest.raises(EngineUnavailable):
            async with pyman.connect(**places, start=False):
                pass
        async with pyman.connect(**places) as engine:
            assert (await engine.info()).supervisor["socket"] == engine.socket
        with pytest.raises(OptionDiffers, match="tmpdir"):
            async with pyman.connect(root=places["root"], tmpdir="/elsewhere"):
                pass
        async with pyman.connect(**places) as engine:
            await engine.shutdown()

    try:
        anyio.run(use)
    finally:
        pids = processes.mentions([str(short_path)])
        if processes.wait_gone(pids, 10):
            processes.end(pids)
        stem = Selection(root=places["root"]).socket.removesuffix(".sock")
        for file in (
            *Path(stem).parent.glob(f"{Path(stem).name}*"),
            *Path("/dev/shm").glob(f"pyman_lock*{Path(stem).name}*"),
        ):
            file.unlink()


@on_both
async def test_a_health_check_is_run_by_hand(shared_engine: Engine, rootfs: Path) -> None:
    check = pyman_spec.HealthConfig(test=["CMD", "test", "-e", "/up"], interval=0)
    async with pyman.connect(shared_engine.socket) as engine:
        fields = shell(rootfs, "sleep 1000", name="asked", stop_timeout=0, healthconfig=check)
        await engine.containers.create(**fields)
        await engine.containers.start("asked")
        assert await engine.containers.health_check("asked") == "unhealthy"
        async with await engine.containers.exec("asked", ["touch", "/up"]) as session:
            assert await session.wait() == 0
        assert await engine.containers.health_check("asked") == "healthy"
        assert (await engine.containers.inspect("asked")).state.health.status == "healthy"


@on_both
async def test_what_containers_use_is_told_at_every_interval(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.containers.run(**shell(rootfs, "while :; do :; done", name="busy"), detach=True)
        async with engine.containers.stats("busy", interval=0.1) as reports:
            first, second = [await anext(reports) for _ in range(2)]
        assert first[0].name == second[0].name == "busy"
        assert second[0].cpu_nano > first[0].cpu_nano > 0
        while (await anext(engine.containers.stats("busy", follow=False)))[0].pids != 1:
            pass  # the OCI runtime, which has threads, is not the command yet
        with pytest.raises(NoSuchContainer):
            await anext(engine.containers.stats("nobody"))


@on_both
async def test_the_processes_of_a_container_are_told(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.containers.run(rootfs=str(rootfs), command=["sleep", "1000"], name="one", detach=True)
        while (await engine.containers.top("one", "args")).processes != [["sleep 1000"]]:
            pass  # the OCI runtime is not the command yet
        found = await engine.containers.top("one", "pid", "user", "args")
        assert found.titles == ["PID", "USER", "COMMAND"]
        assert found.processes == [["1", "root", "sleep 1000"]]


@on_both
async def test_room_is_told_and_taken_back(shared_engine: Engine, rootfs: Path) -> None:
    async with pyman.connect(shared_engine.socket) as engine:
        await engine.containers.create(**shell(rootfs, "true", name="one"))
        two = await engine.containers.create(**shell(rootfs, "true", name="two", labels={"a": "b"}))
        used = await engine.disk_usage()
        assert {each.name: each.state for each in used.containers} == {"one": "created", "two": "created"}
        pruned = await engine.containers.prune({"label": ["a=b"]})
        assert [each.id for each in pruned] == [two.id]
        reply = await engine.prune()
        assert (len(reply.containers), reply.volumes, reply.reclaimed) == (1, [], 0)
        assert await engine.containers.list(all=True) == []
