"""An ordinary user's sandbox, when what belongs to it dies, hangs or is taken away at a bad moment."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.networking.conftest import HOST, OUTSIDE, ask, await_answer
from tests.networking.programs import another, end, helper
from tests.networking.sandboxes import is_gone, space, take_away
from tests.support import processes
from tests.support.hosts import helpers
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.networking.conftest import Net

KILLS = 3
"""However unlucky a start is, so many it stands."""

pytestmark = pytest.mark.parametrize("module_net", ["user"], indirect=True)


def test_the_ports_of_one_that_ended_without_a_supervisor_are_free(net: Net) -> None:
    """The forwarder goes on for another container."""
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    net.serve("other", "--network", "bridge", "-p", "8081:80")
    forwarder, init = helper(net, "forwarder"), net.pid("web")
    supervisor = net.engine.pid
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(init, signal.SIGKILL)
    assert not processes.wait_gone([init], 20)
    os.kill(supervisor, signal.SIGKILL)
    net.engine.cli("wait", "web")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    net.serve("next", "--network", "bridge", "-p", "8080:80")
    assert ask(net.outside, HOST, 8080) == f"next {OUTSIDE}"
    assert ask(net.outside, HOST, 8081) == f"other {OUTSIDE}"
    assert helper(net, "forwarder") == forwarder


def test_a_forwarder_that_hangs_is_begun_anew(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    net.serve("other", "--network", "bridge", "-p", "8081:80")
    hangs = helper(net, "forwarder")
    os.kill(hangs, signal.SIGSTOP)
    net.engine.cli("rm", "--force", "web")
    another(net, "forwarder", hangs)
    await_answer(partial(ask, net.outside, HOST, 8081), f"other {OUTSIDE}")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    net.serve("next", "--network", "bridge", "-p", "8080:80")
    assert ask(net.outside, HOST, 8080) == f"next {OUTSIDE}"


def test_containers_start_and_end_while_the_forwarder_is_killed_again_and_again(net: Net) -> None:
    net.serve("stays", "--network", "bridge", "-p", "8080:80")

    def kill() -> None:
        for _ in range(KILLS):
            await_answer(partial(ask, net.outside, HOST, 8080), "stays ")
            end(net, "forwarder")

    def live(number: int) -> None:
        for _ in range(3):
            name, port = f"c{number}", 9000 + number
            net.run(name, "--network", "bridge", "-p", f"{port}:80")
            net.engine.cli("rm", "--force", name)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(live, range(4)))
    finally:
        killer.join()
    net.serve("last", "--network", "bridge", "-p", "9000:80")
    await_answer(partial(ask, net.outside, HOST, 8080), f"stays {OUTSIDE}")
    await_answer(partial(ask, net.outside, HOST, 9000), f"last {OUTSIDE}")
    for number in (1, 2, 3):
        assert ask(net.outside, HOST, 9000 + number, seconds=0.5) == ""


def test_a_killed_keeper_interrupts_nobody(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    net.run("b", "--network", "bridge")
    former, before = space(net), helpers(net.engine.path)
    with net.meanwhile_on(net.outside, "hold", HOST, "8080") as held:
        net.engine.kill_keeper()
        net.engine.drain_notices()
        net.engine.start()
    assert held[1] == "1"
    assert (space(net), helpers(net.engine.path)) == (former, before)
    net.serve("c", "--network", "bridge", "-p", "8081:80")
    assert net.asks("b", net.address("c")).startswith("c ")
    assert ask(net.outside, HOST, 8081) == f"c {OUTSIDE}"


def test_where_somebody_has_taken_it_away_there_is_another_one(net: Net) -> None:
    """With a way out and with ports, for those that come and for those that are started anew."""
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    former, supervisor = space(net), net.engine.pid
    os.kill(supervisor, signal.SIGSTOP)
    take_away(net, supervisor)
    os.kill(supervisor, signal.SIGKILL)
    net.serve("b", "--network", "bridge", "-p", "8081:80")
    assert space(net) not in (0, former)
    assert net.asks("b", OUTSIDE, 7).startswith("outside ")
    assert ask(net.outside, HOST, 8081) == f"b {OUTSIDE}"
    net.engine.cli("restart", "--time", "0", "web")
    net.await_up("web", 2)
    assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"
    assert net.asks("b", net.address("web")).startswith("web ")


@pytest.mark.parametrize("programs", ["killed", "alive"])
def test_who_lives_on_where_it_is_gone_is_put_on_the_next_one(net: Net, programs: str) -> None:
    """As when everything that was in the user's mount namespace was killed at once: conmons, programs and supervisor."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "--network", "podman", "-p", "8080:80")
    net.run("a", "--network", "n")
    supervisor = net.engine.pid
    os.kill(supervisor, signal.SIGSTOP)
    take_away(net, supervisor)
    for pid in helpers(net.engine.path) if programs == "killed" else ():
        os.kill(pid, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    await_answer(partial(ask, net.outside, HOST, 8080), f"web {OUTSIDE}")
    await_answer(partial(net.asks, "a", "web"), "web ")
    assert space(net)
    assert net.asks("a", OUTSIDE, 7).startswith("outside ")


def test_ports_follow_a_container_whose_monitor_was_killed(net: Net) -> None:
    """Then nobody but the forwarder has them, and they are led to another address when a network is gone."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "--network", "podman", "-p", "8080:80", "-p", "8080:80/udp")
    os.kill(net.engine.inspect("web")["State"]["ConmonPid"], signal.SIGKILL)
    for verb in ("disconnect", "connect"):
        net.engine.cli("network", verb, "n", "web")
        for kind in ("tcp", "udp"):
            assert ask(net.outside, HOST, 8080, kind) == f"web {OUTSIDE}"


def test_a_change_of_networks_that_fails_takes_no_port_away(net: Net) -> None:
    """Somebody has taken it, when nobody was there who had it, and gives it back."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "--network", "podman", "-p", "8080:80")
    supervisor = net.engine.pid
    holders = [net.engine.inspect("web")["State"]["ConmonPid"], helper(net, "forwarder")]
    os.kill(supervisor, signal.SIGSTOP)
    for pid in holders:
        os.kill(pid, signal.SIGKILL)
    assert not processes.wait_gone(holders, 20)
    with net.host.does(lambda: socket.create_server(("", 8080))):
        os.kill(supervisor, signal.SIGCONT)
        refused = net.engine.cli("network", "disconnect", "n", "web", check=False)
        assert (refused.returncode, "cannot publish port 8080/tcp" in refused.stderr) == (126, True)
    net.engine.cli("network", "reload", "web")
    assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"


def test_after_a_logout_has_removed_the_run_directory_networks_are_there_again(net: Net) -> None:
    """For containers that live on, and for those that come."""
    net.engine.cli("network", "create", "n")
    net.serve("web", "--network", "n", "-p", "8080:80")
    net.engine.drain_notices()
    gone = [net.engine.tmpdir, Path(net.engine.socket).parent]
    for directory in gone:
        directory.rename(f"{directory}-gone")
    for directory in gone:
        shutil.rmtree(f"{directory}-gone")
    net.engine.wait_ready()
    await_answer(partial(ask, net.outside, HOST, 8080), f"web {OUTSIDE}")
    net.serve("b", "--network", "n", "-p", "8081:80")
    assert ask(net.outside, HOST, 8081) == f"b {OUTSIDE}"
    assert net.asks("b", "web").startswith("web ")


@pytest.mark.parametrize("supervisor", ["there", "killed"])
def test_a_reset_leaves_nothing_of_it(net: Net, supervisor: str) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    assert len(helpers(net.engine.path)) == 2
    keeper = net.engine.keeper
    assert keeper is not None
    if supervisor == "killed":
        net.engine.kill_keeper()
    net.engine.cli("system", "reset", "--force")
    keeper.wait(20)
    until(lambda: not helpers(net.engine.path), "a program is left")
    assert not os.path.lexists(f"{net.engine.path}/tmp/sandbox")
    assert ask(net.outside, HOST, 8080, seconds=0.5) == ""
    net.engine.drain_notices()
    net.engine.start()


def test_it_is_gone_although_its_supervisor_was_killed_on_the_way(net: Net) -> None:
    net.serve("web", "--network", "bridge", "-p", "8080:80")
    for _ in range(3):
        net.engine.cli("rm", "--force", "--ignore", "web")
        net.engine.kill()
        net.serve("web", "--network", "bridge", "-p", "8080:80")
        assert ask(net.outside, HOST, 8080) == f"web {OUTSIDE}"
    net.engine.cli("rm", "--force", "web")
    is_gone(net)
