"""Containers that run, put on networks and taken off them while something fails in the middle of it."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from pyman.api.network import CreateNetworkRequest
from pyman.api.spec import Namespace, NetworkWish
from pyman.errors import DiskFull, NetworkFailed, NoSuchNetwork, StorageFailed
from supervisor.kernel import process
from supervisor.logging import fields_of
from supervisor.network.kernel import links, netfilter
from supervisor.runtime.creation.creating import Creation
from supervisor.runtime.life import connecting
from supervisor.runtime.life import requests as rq
from supervisor.runtime.life.preparing import Preparing
from supervisor.runtime.networks.programs.naming import Naming
from supervisor.runtime.networks.wired.bridged import Bridged
from supervisor.runtime.networks.wired.rewiring import Rewiring
from tests.runtime.faults import FullDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from supervisor.kernel.process import ProcessRef
    from supervisor.network.plans import Attachment
    from supervisor.runtime.engine import Engine
    from supervisor.runtime.registry import Entry
    from tests.runtime.conftest import House

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an engine in the test's process is root's")

NETWORKS = {"one": f"pmcnna{os.getpid()}", "two": f"pmcnnb{os.getpid()}"}
"""Tests run side by side on one host."""


@pytest.fixture
def house(house: House) -> Iterator[House]:
    """Whose networks are its own."""
    text = house.configuration.read_text()
    house.configuration.write_text(f'{text}[network]\nnetwork_config_dir = "{house.path}/nets"\n')
    yield house
    netfilter.close()


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[Engine]:
    """At its end no bridge is left."""
    async with house.open() as engine:
        try:
            yield engine
        finally:
            await house.clear()
            await engine.services.settle()


async def connected(house: House, *networks: str, **more: Any) -> Entry:
    """A container that runs on these networks."""
    known = (await house.engine.services.networks.known()).by_name
    for name, bridge in NETWORKS.items():
        if name not in known:
            wish = CreateNetworkRequest(name, network_interface=bridge, dns_enabled=False)
            await house.engine.services.networks.create(wish, None)
    on = {name: NetworkWish() for name in networks}
    return await house.run("sleep", "1000", netns=Namespace("bridge"), networks=on, **more)


def connect(entry: Entry) -> Awaitable[Any]:
    return entry.worker.ask(rq.Connect(network="two", wish=NetworkWish()))


def disconnect(entry: Entry) -> Awaitable[Any]:
    return entry.worker.ask(rq.Disconnect(network="two"))


async def interfaces(entry: Entry) -> list[str]:
    assert entry.container.observed.init is not None
    inside = f"--net=/proc/{entry.container.observed.init.pid}/ns/net"
    told = await trio.run_process(["nsenter", inside, "ip", "-br", "link"], capture_stdout=True)
    return [line.split("@")[0].split()[0] for line in told.stdout.decode().splitlines()]


def on_bridge(network: str) -> list[str]:
    try:
        return os.listdir(f"/sys/class/net/{NETWORKS[network]}/brif")
    except FileNotFoundError:
        return []


async def is_on_one_alone(entry: Entry) -> None:
    """Nothing is left of the other."""
    observed = entry.container.observed
    assert [each.network for each in observed.attachments] == ["one"]
    assert [each.name for each in observed.networks] == ["one"]
    assert list(entry.container.definition.spec.networks) == ["one"]
    assert observed.rewiring == ""
    assert await interfaces(entry) == ["lo", "eth0"]
    assert not on_bridge("two")


async def is_on_both(entry: Entry) -> None:
    observed = entry.container.observed
    assert [each.network for each in observed.attachments] == ["one", "two"]
    assert list(entry.container.definition.spec.networks) == ["one", "two"]
    assert observed.rewiring == ""
    assert await interfaces(entry) == ["lo", "eth0", "eth1"]
    assert on_bridge("two")


async def test_a_connection_that_cannot_be_recorded_is_taken_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(house):
        entry = await connected(house, "one")
        FullDisk(monkeypatch, lambda status: status == "connect")
        with pytest.raises(DiskFull):
            await connect(entry)
        await is_on_one_alone(entry)
        assert await connect(entry)
        await is_on_both(entry)


async def test_a_disconnection_that_cannot_be_recorded_is_taken_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(house):
        entry = await connected(house, "one", "two")
        before = entry.container.observed.attachments
        FullDisk(monkeypatch, lambda status: status == "disconnect")
        with pytest.raises(DiskFull):
            await disconnect(entry)
        await is_on_both(entry)
        assert entry.container.observed.attachments == before
        await disconnect(entry)
        await is_on_one_alone(entry)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("change", [connect, disconnect])
async def test_what_the_kernel_refuses_is_taken_back(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Entry], Awaitable[Any]],
    late: bool,
) -> None:
    """`late`: all is done when it fails."""
    connects = change is connect
    async with opened(house):
        entry = await connected(house, "one", *([] if connects else ["two"]))
        with monkeypatch.context() as patches:
            Failing(patches, "put_on" if connects else "take_off", late=late)
            with pytest.raises(NetworkFailed, match="not now"):
                await change(entry)
        await (is_on_one_alone if connects else is_on_both)(entry)


class Failing:
    """A step of a change fails the first time."""

    def __init__(self, patches: pytest.MonkeyPatch, step: str, *, late: bool) -> None:
        real, self.left = getattr(Rewiring, step), 1

        async def act(rewiring: Rewiring, name: str, init: ProcessRef) -> None:
            if not self.left or late:
                await real(rewiring, name, init)
            if self.left:
                self.left -= 1
                raise NetworkFailed("cannot do it: not now")

        patches.setattr(Rewiring, step, act)


async def nothing(_worker: object) -> None:
    """As if it had been killed."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("change", [connect, disconnect])
async def test_the_next_supervisor_takes_back_what_was_begun(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Entry], Awaitable[Any]],
    late: bool,
) -> None:
    connects = change is connect
    with monkeypatch.context() as patches:
        Failing(patches, "put_on" if connects else "take_off", late=late)
        patches.setattr(connecting, "take_back", nothing)
        async with house.open(leave=True):
            entry = await connected(house, "one", *([] if connects else ["two"]))
            with pytest.raises(NetworkFailed):
                await change(entry)
            assert entry.container.observed.rewiring == "two"
    async with opened(house) as engine:
        (entry,) = engine.registry
        await (is_on_one_alone if connects else is_on_both)(entry)
        await change(entry)
        await (is_on_both if connects else is_on_one_alone)(entry)


@pytest.mark.parametrize("change", [connect, disconnect])
async def test_one_that_ends_meanwhile_starts_as_was_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, change: Callable[[Entry], Awaitable[Any]]
) -> None:
    connects = change is connect
    async with opened(house):
        entry = await connected(house, "one", *([] if connects else ["two"]))

        with monkeypatch.context() as patches:
            patches.setattr(Rewiring, "put_on" if connects else "take_off", dies)
            await change(entry)
        with trio.fail_after(20):
            await entry.container.wait(frozenset({"exited"}))
        assert list(entry.container.definition.spec.networks) == (["one", "two"] if connects else ["one"])
        await house.engine.services.settle()
        assert not any(map(on_bridge, NETWORKS))
        await entry.worker.ask(rq.Start())
        await (is_on_both if connects else is_on_one_alone)(entry)


async def dies(_rewiring: Rewiring, _name: str, init: ProcessRef) -> None:
    """A step of a change during which the container ends."""
    await end(init)
    raise NetworkFailed("cannot do it: its first process has ended")


async def end(init: ProcessRef) -> None:
    watched = process.open_pidfd(init)
    assert watched is not None
    with watched:
        os.kill(init.pid, signal.SIGKILL)
        assert await watched.ends_within(60)


async def runs_again(house: House, entry: Entry) -> None:
    await house.event(entry, "restart", seconds=60)


@pytest.mark.parametrize("change", [connect, disconnect])
async def test_one_that_ends_meanwhile_is_restarted_as_was_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, change: Callable[[Entry], Awaitable[Any]]
) -> None:
    """At once, as far as its networks are the same."""
    connects = change is connect
    async with opened(house) as engine:
        entry = await connected(house, "one", *([] if connects else ["two"]), restart_policy="always")
        with monkeypatch.context() as patches:
            patches.setattr(Rewiring, "put_on" if connects else "take_off", dies)
            await change(entry)
        await runs_again(house, entry)
        if connects:
            await is_on_both(entry)
        else:
            await engine.services.settle()
            await is_on_one_alone(entry)
            await engine.services.networks.remove("two", None)


async def test_one_that_ends_with_its_supervisor_during_a_connection_is_restarted_without_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patches:
        Failing(patches, "put_on", late=True)
        patches.setattr(connecting, "take_back", nothing)
        async with house.open(leave=True):
            entry = await connected(house, "one", restart_policy="always")
            with pytest.raises(NetworkFailed):
                await connect(entry)
            init = entry.container.observed.init
    assert init is not None
    await end(init)
    async with opened(house) as engine:
        (entry,) = engine.registry
        await runs_again(house, entry)
        await engine.services.settle()
        await is_on_one_alone(entry)
        assert not os.path.exists(f"/sys/class/net/{NETWORKS['two']}"), "somebody is on it still"


@pytest.mark.parametrize("wish", [NetworkWish(aliases=["also"]), None])
async def test_networks_of_a_start_that_could_not_be_undone_are_not_those_of_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch, wish: NetworkWish | None
) -> None:
    """`wish`: it is put on the second one again, otherwise than it was."""
    async with opened(house) as engine:
        entry = await connected(house, "one", "two")
        await entry.worker.ask(rq.Stop(timeout=0))

        async def fails(*_: object) -> None:
            raise NetworkFailed("cannot do it: not now")

        with monkeypatch.context() as patches:
            patches.setattr(Bridged, "connect", fails)
            patches.setattr(Bridged, "take_down", fails)
            with pytest.raises(NetworkFailed):
                await entry.worker.ask(rq.Start())
        assert len(entry.container.observed.attachments) == 2
        await disconnect(entry)
        if wish is not None:
            await entry.worker.ask(rq.Connect(network="two", wish=wish))
        await entry.worker.ask(rq.Start())
        if wish is not None:
            await is_on_both(entry)
            assert [each.aliases for each in entry.container.observed.attachments] == [[], ["also"]]
        else:
            await engine.services.settle()
            await is_on_one_alone(entry)


async def test_a_network_that_is_removed_meanwhile_gets_no_container(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(house):
        entry = await connected(house, "one")
        book, settled, allot = house.engine.services.networks, Creation._settled, Rewiring.allot

        async def removes(*words: Any) -> Any:
            await book.remove("two", None)
            return await settled(*words)

        async def removes_as_well(*words: Any) -> Any:
            await book.remove("two", None)
            return await allot(*words)

        with monkeypatch.context() as patches:
            patches.setattr(Creation, "_settled", removes)
            with pytest.raises(NoSuchNetwork):
                await house.create("true", netns=Namespace("bridge"), networks={"two": NetworkWish()})
        assert len(house.engine.registry) == 1
        await book.create(CreateNetworkRequest("two", network_interface=NETWORKS["two"]), None)
        with monkeypatch.context() as patches:
            patches.setattr(Rewiring, "allot", removes_as_well)
            with pytest.raises(NoSuchNetwork):
                await connect(entry)
        await is_on_one_alone(entry)


async def test_an_update_while_the_first_container_comes_is_heard_by_the_name_server(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, servers = Naming.joined, ["192.0.2.7"]

    async def late(naming: Naming, *words: Any, **more: Any) -> None:
        await house.engine.services.networks.update("named", servers, [], None)
        await join(naming, *words, **more)

    async with opened(house) as engine:
        services = engine.services
        wish = CreateNetworkRequest("named", network_interface=f"pmcnne{os.getpid()}")
        network, _ = await services.networks.create(wish, None)
        monkeypatch.setattr(Naming, "joined", late)
        await house.run("sleep", "1000", netns=Namespace("bridge"), networks={"named": NetworkWish()})
        zone = Path(services.layout.names, network.id)
        assert zone.read_text().splitlines()[0].endswith(f".1 {servers[0]}")
        FullDisk(monkeypatch, lambda status: status == "update")
        with pytest.raises(DiskFull):
            await services.networks.update("named", [], servers, None)
        assert zone.read_text().splitlines()[0].endswith(f".1 {servers[0]}")


async def test_a_taking_back_that_fails_is_done_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(house):
        entry = await connected(house, "one")
        Failing(monkeypatch, "put_on", late=True)
        Failing(monkeypatch, "take_off", late=False)
        with pytest.raises(NetworkFailed):
            await connect(entry)
        assert entry.container.observed.rewiring == "two"
        with trio.fail_after(20):
            await entry.container.until(lambda: entry.container.observed.rewiring == "" or None)
        await is_on_one_alone(entry)


async def test_what_fails_on_one_network_holds_up_no_other_one_and_all_of_it_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At a container's end. What is left goes with the container."""
    real, tried = links.detach, list[str]()

    def fails(attachment: Attachment) -> None:
        tried.append(attachment.network)
        if attachment.network != "two":
            raise NetworkFailed(f"cannot leave {attachment.network}: not now")
        real(attachment)

    async with opened(house):
        await connected(house, "one", "two")
        wish = CreateNetworkRequest("three", network_interface=f"pmcnnc{os.getpid()}", dns_enabled=False)
        await house.engine.services.networks.create(wish, None)
        own = NetworkWish(options={"host_interface_name": f"pmcnnd{os.getpid()}"})
        on = {"one": own, "two": NetworkWish(), "three": NetworkWish()}
        entry = await house.run("sleep", "1000", netns=Namespace("bridge"), networks=on)
        with monkeypatch.context() as patches:
            patches.setattr(links, "detach", fails)
            await entry.worker.ask(rq.Stop(timeout=0))
        assert tried == ["one", "two", "three"]
        assert "cannot leave one: not now; cannot leave three: not now" in str(
            [fields_of(record) for record in caplog.records]
        )
        await entry.worker.ask(rq.Remove())
    assert not on_bridge("one")


async def test_a_network_and_a_root_filesystem_that_both_fail(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one is told, the other one is logged, and nothing of either is left."""

    async def fails(*_: object) -> None:
        raise NetworkFailed("cannot make the bridge: not now")

    async with opened(house):
        entry = await connected(house, "one")
        await entry.worker.ask(rq.Stop(timeout=0))
        with monkeypatch.context() as patches:
            patches.setattr(Bridged, "ground", fails)
            patches.setattr(Preparing, "_prepare", lambda *_: refuse())
            with pytest.raises(StorageFailed, match="no root filesystem"):
                await entry.worker.ask(rq.Start())
        assert "cannot make the bridge: not now" in [
            fields_of(record).get("error") for record in caplog.records
        ]
        assert not entry.container.observed.attachments
        assert await entry.worker.ask(rq.Start())
        assert await interfaces(entry) == ["lo", "eth0"]


def refuse() -> None:
    raise StorageFailed("there is no root filesystem")
