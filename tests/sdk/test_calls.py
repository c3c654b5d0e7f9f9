"""Calls through the client, under both backends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

import pyman
from pyman.api import INTERFACES
from pyman.client import Caller, ContainerSpec, Selection
from pyman.errors import (
    EngineStopped,
    EngineUnavailable,
    InvalidArgument,
    NoSuchContainer,
    ProtocolError,
)
from pyman.sdk.connection import compact
from tests.sdk.backends import on_both
from tests.sdk.fake import ID
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from pathlib import Path

    from pyman.errors import (
        PymanError,
    )
    from tests.sdk.fake import FakeEngine


def test_importing_pyman_imports_neither_anyio_nor_msgspec() -> None:
    program = (
        "import sys, pyman\n"
        "assert not {'anyio', 'msgspec', 'trio', 'asyncio', 'pyman.client'} & set(sys.modules)\n"
        "assert pyman.connect.__module__ == 'pyman.sdk.engine'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@on_both
async def test_results_are_typed(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        assert (await engine.version()).version == "1.0"
        assert (await engine.info()).supervisor == {"pid": os.getpid()}
        assert (await engine.reload()).changed == ["engine.stop_timeout"]
        assert (await engine.locks()).size == 2048
        assert (await engine.check()).problems == []
        assert await engine.containers.exists("web")
        assert not await engine.containers.exists("db")
        assert await engine.containers.list(all=True, filters={"label": ("a=b",)}) == []
        assert fake.requests[-1].filters == {"label": ["a=b"]}
        assert (await engine.containers.why("web")).summary == "it was stopped by its user"
        assert await engine.prune_events(keep=0) == 0
        assert engine.socket == fake.path


@on_both
async def test_a_container_is_described_by_a_spec_or_by_fields(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        created = await engine.containers.create(
            ContainerSpec(rootfs="/x", env={"A": "b"}), name="web", caller=Caller(cwd="/tmp")
        )
        assert (created.id, created.name, created.warnings) == (ID, "web", ["beware"])
        assert fake.requests[-1].spec == ContainerSpec(rootfs="/x", env={"A": "b"}, name="web")
        assert fake.requests[-1].caller == Caller(cwd="/tmp")
        await engine.containers.create(rootfs="/x", env_host=True)
        assert fake.requests[-1].caller.cwd == os.getcwd()
        assert fake.requests[-1].caller.environment == dict(os.environ)
        with pytest.raises(TypeError, match="rootsf"):
            await engine.containers.create(rootsf="/x")


@on_both
async def test_a_name_means_one_container_and_a_selection_any_number(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        containers = engine.containers
        assert (await containers.stop("web", timeout=0.5)).id == ID
        assert fake.requests[-1].timeout == 0.5
        for verb in (containers.init, containers.start, containers.restart, containers.pause):
            assert (await verb("web")).id == ID
        assert (await containers.unpause("web")).id == ID
        assert (await containers.kill("web", "TERM")).id == ID
        assert fake.requests[-1].signal == "TERM"
        assert (await containers.remove("web", force=True)).id == ID
        assert await containers.wait("web") == 7
        results = await containers.start(Selection(["web", "db"]))
        assert [result.error.code if result.error else "" for result in results] == ["", "NoSuchContainer"]


@on_both
async def test_the_errors_are_those_that_the_supervisor_raised(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        with pytest.raises(NoSuchContainer, match="cannot find 'db'") as caught:
            await engine.containers.start("db")
        assert (caught.value.subject, caught.value.hint) == ("db", "look")
        with pytest.raises(NoSuchContainer):
            await engine.containers.inspect("db")
        with pytest.raises(NoSuchContainer):
            await engine.containers.attach("db")
        # The connection is still good.
        assert (await engine.version()).version == "1.0"


@on_both
async def test_what_the_server_refuses_is_an_invalid_argument(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        wrong: list[str] = 5  # type: ignore[assignment]
        with pytest.raises(InvalidArgument, match=r"spec\.command"):
            await engine.containers.create(command=wrong)


@on_both
async def test_calls_run_concurrently_and_connections_are_used_again(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(engine.containers.wait, "web")
            tasks.start_soon(engine.containers.wait, "for-ever")
            await anyio.wait_all_tasks_blocked()
            assert (await engine.version()).version == "1.0"
            tasks.cancel_scope.cancel()
        for _ in range(5):
            await engine.version()
        assert len(engine._pool._all) <= 8
        before = set(engine._pool._all)
        for _ in range(50):
            await engine.version()
        assert set(engine._pool._all) == before


@on_both
async def test_a_cancelled_call_ends_its_connection_and_its_handler(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        with anyio.move_on_after(0.05) as scope:
            await engine.containers.wait("for-ever")
        assert scope.cancelled_caught
        assert len(engine._pool._all) == 0
        assert (await engine.version()).version == "1.0"


@on_both
async def test_closing_the_client_ends_calls_under_way(fake: FakeEngine) -> None:
    caught: list[PymanError] = []

    async def wait() -> None:
        try:
            await engine.containers.wait("for-ever")
        except EngineUnavailable as error:
            caught.append(error)

    engine = pyman.connect(fake.path)
    async with anyio.create_task_group() as tasks, engine:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
    assert [str(error) for error in caught] == [
        "cannot finish io.pyman.Container.Wait: the client was closed"
    ]
    with pytest.raises(EngineUnavailable, match="the client was closed"):
        await engine.version()


@on_both
async def test_no_supervisor_is_said_at_once(fake: FakeEngine) -> None:
    with pytest.raises(EngineUnavailable, match="cannot reach a supervisor"):
        async with pyman.connect(fake.path + "-not"):
            pass
    with pytest.raises(EngineUnavailable):
        async with pyman.connect(root=fake.path + "-root", start=False):
            pass


@on_both
async def test_idle_connections_survive_a_new_supervisor(fake: FakeEngine) -> None:
    async with pyman.connect(fake.path) as engine:
        await engine.version()
        fake.kill()
        with pytest.raises(EngineUnavailable):
            await engine.version()
        fake.start()
        assert (await engine.version()).version == "1.0"
        fake.stop()
        fake.start()
        assert (await engine.version()).version == "1.0"


@on_both
@pytest.mark.parametrize("how, error", [("stop", EngineStopped), ("kill", EngineUnavailable)])
async def test_a_supervisor_that_ends_ends_the_call(
    fake: FakeEngine, how: str, error: type[PymanError]
) -> None:
    async with pyman.connect(fake.path) as engine, anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(error):
                await engine.containers.wait("for-ever")

        tasks.start_soon(wait)
        await anyio.to_thread.run_sync(fake.waiting.wait)
        await anyio.to_thread.run_sync(getattr(fake, how))


@on_both
@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\0",
        b"\xff\0",
        b"[]\0",
        b'{"parameters":5}\0',
        b'{"parameters":{"Version":1}}\0',
        b'{"descriptors":1}\0',
        b'{"continues":true}\0',
        b"\0",
    ],
    ids=repr,
)
async def test_a_mad_supervisor_is_a_protocol_error(short_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short_path / "s"))
        listening.listen()
        async with pyman.connect(str(short_path / "s")) as engine:
            accepted, _ = listening.accept()
            with accepted:
                accepted.send(answer)
                with pytest.raises(ProtocolError):
                    await engine.version()


def test_only_what_differs_from_the_default_is_sent() -> None:
    """So that an older supervisor is not asked for what it does not know."""
    for interface in INTERFACES:
        for method in interface.methods:
            required = [field for field in msgspec.structs.fields(method.request) if field.required]
            if not required:
                assert compact(method.request()) == {}
    assert compact(ContainerSpec(name="x", stop_timeout=0)) == {"name": "x", "stop_timeout": 0}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_adds_little(fake: FakeEngine, backend: str) -> None:
    """The round trip includes the server in the same process, whose thread competes for the interpreter."""

    async def measure() -> float:
        async with pyman.connect(fake.path) as engine:
            await engine.version()
            started = time.perf_counter()
            for _ in range(200):
                await engine.version()
            return (time.perf_counter() - started) / 200

    quickly(lambda: anyio.run(measure, backend=backend), 0.02)
