"""A container on a bridge: the daemon killed at each step of its life, and each thing failing that its start needs.

The engine is on a host of its own, so that all that is there is the container's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import Faulty
from tests.faults.test_killed_daemon import (
    LET_GO,
    START_STEPS,
    kill_daemon,
    nothing_left,
    runs_once,
    start_over_a_kill,
)
from tests.support import processes, sharing
from tests.support.hosts import HostPlace, Machine, elements, leftovers
from tests.support.runtimes import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBNET, ADDRESS = "10.90.0.0/24", "10.90.0.77"
OPTIONS = ("--network", f"n:ip={ADDRESS}", "-p", "8080:80")


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[Faulty, Machine]]:
    with Machine() as host:
        engine = Faulty(HostPlace(host, Place("runc")))
        with sharing.shared(engine):
            engine.cli("network", "create", "--subnet", SUBNET, "n")
            yield engine, host
            assert leftovers(host, engine.path) == []


@pytest.fixture
def host(whole: tuple[Faulty, Machine]) -> Machine:
    return whole[1]


@pytest.fixture
def engine(whole: tuple[Faulty, Machine]) -> Iterator[Faulty]:
    faulty, host = whole
    yield faulty
    faulty.recover()
    assert leftovers(host, faulty.path, idle=True) == []


def create(engine: Faulty, rootfs: Path, *options: str) -> str:
    return engine.out("create", "--name", "c", *OPTIONS, *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")


def is_connected(engine: Faulty, host: Machine) -> None:
    """Once, at its address, with its port."""
    assert f"inet {ADDRESS}/24" in engine.out("exec", "c", "ip", "addr", "show", "eth0")
    assert len([name for name in host.links() if name.startswith("veth")]) == 1
    (port,) = (element for element in elements(host) if element.startswith("publish4:"))
    assert ADDRESS in port
    assert engine.inspect("c")["NetworkSettings"]["Networks"]["n"]["IPAddress"] == ADDRESS


@pytest.mark.parametrize("let_go", LET_GO)
@pytest.mark.parametrize("step", START_STEPS)
def test_a_daemon_killed_at_a_step_of_a_start_leaves_a_container_that_is_connected(
    engine: Faulty, host: Machine, rootfs: Path, step: str, let_go: str
) -> None:
    id = create(engine, rootfs)
    start_over_a_kill(engine, id, step, let_go)
    is_connected(engine, host)
    engine.cli("rm", "-f", "-t", "0", "c")
    nothing_left(engine, id)


@pytest.mark.parametrize("step", ["before-delete", "after-delete"])
def test_a_daemon_killed_at_a_step_of_an_end_leaves_nothing(
    engine: Faulty, host: Machine, rootfs: Path, step: str
) -> None:
    create(engine, rootfs)
    engine.cli("start", "c")
    engine.runtime.hold(step)
    with engine.spawn("stop", "-t", "0", "c") as client:
        engine.runtime.reached(step)
        kill_daemon(engine)
        engine.wait_ready()
        engine.runtime.let_go(step)
        client.wait(20)
    engine.cli("wait", "c")
    assert leftovers(host, engine.path) == []
    engine.cli("start", "c")
    is_connected(engine, host)


def test_a_daemon_killed_before_a_container_that_goes_by_itself_is_removed(
    engine: Faulty, host: Machine, rootfs: Path
) -> None:
    id = create(engine, rootfs, "--rm")
    engine.cli("start", "c")
    with engine.stopped_daemon():
        processes.end([first_process(engine, id)])
    engine.cli("wait", "--ignore", "c", check=False)
    assert leftovers(host, engine.path) == []
    assert engine.out("ps", "-aq") == ""


def first_process(engine: Faulty, id: str) -> int:
    """The first process of a container, without asking the daemon."""
    return int((engine.tmpdir / "containers" / id / "pidfile").read_text())


@pytest.mark.parametrize("verb", ["create", "start"])
def test_what_the_oci_runtime_refuses_leaves_nothing_of_the_network(
    engine: Faulty, host: Machine, rootfs: Path, verb: str
) -> None:
    """And its address and its port are free."""
    id = create(engine, rootfs)
    engine.runtime.fail(verb, "not today\n")
    done = engine.cli("start", "c", check=False)
    assert done.returncode == 125
    assert "not today" in done.stderr
    assert leftovers(host, engine.path) == []
    engine.runtime.obey()
    root = ("--rootfs", f"{rootfs}:O", "true")
    engine.cli("run", "--rm", *OPTIONS, *root)
    engine.cli("start", "c")
    runs_once(engine, id)
    is_connected(engine, host)


def test_a_root_filesystem_that_cannot_be_mounted_undoes_the_network(
    engine: Faulty, host: Machine, rootfs: Path
) -> None:
    """Both are prepared side by side."""
    gone = engine.path / "gone"
    gone.mkdir()
    engine.cli("create", "--name", "c", *OPTIONS, "--rootfs", f"{gone}:O", "sleep", "1000")
    gone.rmdir()
    done = engine.cli("start", "c", check=False)
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
    assert leftovers(host, engine.path) == []
    engine.cli("run", "--rm", *OPTIONS, "--rootfs", f"{rootfs}:O", "true")


def test_a_network_that_cannot_be_made_undoes_the_root_filesystem(
    engine: Faulty, host: Machine, rootfs: Path
) -> None:
    """Something else has the name of its bridge."""
    id = create(engine, rootfs)
    bridge = engine.out("network", "inspect", "--format", "{{.NetworkInterface}}", "n")
    host.run("ip", "link", "add", bridge, "type", "veth", "peer", "name", "other")
    try:
        done = engine.cli("start", "c", check=False)
    finally:
        host.run("ip", "link", "del", bridge)
    assert done.returncode == 125
    assert f"'{bridge}'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    nothing_left(engine, id)
    assert leftovers(host, engine.path) == []
    engine.cli("start", "c")
    is_connected(engine, host)


def test_a_client_that_is_killed_while_its_container_starts_harms_nobody(
    engine: Faulty, host: Machine, rootfs: Path
) -> None:
    create(engine, rootfs)
    engine.runtime.hold("after-create")
    with engine.spawn("start", "c") as client:
        engine.runtime.reached("after-create")
        client.kill()
        client.wait()
        engine.runtime.let_go("after-create")
    engine.cli("wait", "--condition", "running", "c")
    is_connected(engine, host)
