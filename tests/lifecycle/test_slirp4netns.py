"""Containers whose network is slirp4netns', of root and of an ordinary user."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import processes
from tests.support.runtimes import BY_USER
from tests.support.served import PORT, SERVE, SLEEP, asked, heard
from tests.support.waiting import quickly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)

OWN = "slirp4netns:port_handler=slirp4netns"
FORWARDER = "supervisor.network.relay.forwarder"


def programs(engine: Engine, name: str = "slirp4netns") -> dict[int, list[str]]:
    """With their words: the supervisor's children, or the keeper's."""
    children = processes.children(engine.pid) | processes.children(engine.keeper_pid)
    told = {pid: processes.words(pid) for pid in children}
    return {pid: words for pid, words in told.items() if any(word.endswith(name) for word in words)}


@pytest.fixture(autouse=True)
def nothing_is_left(shared_engine: Engine) -> Iterator[None]:
    yield
    shared_engine.remove_containers()
    assert programs(shared_engine) == programs(shared_engine, FORWARDER) == {}


def run(engine: Engine, rootfs: Path, *options: str, command: list[str] = SLEEP) -> None:
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *command)


def test_a_container_is_behind_a_router_that_answers_queries(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "slirp4netns")
    assert "inet 10.0.2.100/24" in engine.out("exec", "c", "ip", "addr", "show", "tap0")
    resolver = engine.out("exec", "c", "cat", "/etc/resolv.conf").splitlines()
    assert next(line for line in resolver if line.startswith("nameserver")) == "nameserver 10.0.2.3"
    assert f"10.0.2.100\t{engine.inspect('c')['Config']['Hostname']} c" in engine.out(
        "exec", "c", "cat", "/etc/hosts"
    )
    assert list(engine.inspect("c")["NetworkSettings"]["Networks"]) == ["slirp4netns"]
    # The router tells the address; that takes until it has been asked.
    engine.out(
        "exec", "c", "sh", "-c", "until ip -6 addr show tap0 | grep -q 'inet6 fd00:'; do sleep 0.1; done"
    )


def test_its_options_reach_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    options = "slirp4netns:cidr=10.9.0.0/16,mtu=1400,enable_ipv6=false,allow_host_loopback=true"
    run(engine, rootfs, "--network", options)
    shown = engine.out("exec", "c", "ip", "addr", "show", "tap0")
    assert "inet 10.9.0.100/16" in shown
    assert "mtu 1400" in shown
    assert "nameserver 10.9.0.3" in engine.out("exec", "c", "cat", "/etc/resolv.conf")
    with socket.create_server(("127.0.0.1", PORT)) as server:
        assert heard(engine, "c", "10.9.0.2", server) == "said"


def test_ports_lead_into_it_and_are_free_afterwards(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80", "-p", f"127.0.0.1:{PORT + 1}:80", command=SERVE)
    assert asked(PORT) == "here"
    assert asked(PORT + 1) == "here"
    engine.cli("stop", "-t", "0", "c")
    assert programs(engine) == {}
    socket.create_server(("127.0.0.1", PORT)).close()


def test_one_that_is_killed_is_back_with_its_ports(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80", command=SERVE)
    before = engine.inspect("c")["State"]["Pid"]

    def back() -> float:
        (pid,) = programs(engine)
        since = engine.last_seq()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
        assert asked(PORT) == "here"
        return time.monotonic() - began

    quickly(back, 2.0)
    assert engine.inspect("c")["State"]["Pid"] == before


def test_it_outlives_a_killed_supervisor_and_is_taken_over(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80", command=SERVE)
    before = programs(engine)
    engine.kill()
    assert asked(PORT) == "here"
    engine.cli("ps")
    assert programs(engine) == before


def test_it_ends_with_its_container_whatever_the_supervisor_does(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80")
    (pid,) = programs(engine)
    pidfd = os.pidfd_open(pid)
    supervisor = engine.pid
    state = engine.inspect("c")["State"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(state["Pid"], signal.SIGKILL)
        with select.epoll() as ended:
            ended.register(pidfd, select.EPOLLIN)
            assert ended.poll(30)
    finally:
        os.kill(supervisor, signal.SIGCONT)
        os.close(pidfd)
    engine.cli("wait", "c")


def test_without_conmon_it_is_begun_again_for_a_container_that_lives(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80", command=SERVE)
    since = engine.last_seq()
    os.kill(engine.inspect("c")["State"]["ConmonPid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
    assert asked(PORT) == "here"
    (words,) = programs(engine).values()
    assert not [word for word in words if word.startswith("--exit-fd")]


def test_every_run_has_one_of_its_own(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", OWN, "-p", f"{PORT}:80", "--restart", "always", command=SERVE)
    (before,) = programs(engine)
    since = engine.last_seq()
    os.kill(engine.inspect("c")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "start", since)
    assert asked(PORT) == "here"
    (after,) = programs(engine)
    assert after != before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network", "slirp4netns:cidr=10.0.2.0/30"], "'cidr=10.0.2.0/30'"),
        (["--network", "slirp4netns:mtu=1"], "'mtu=1'"),
        (["--network", "slirp4netns:nonsense=1"], "there is no such option"),
        (["--network", "slirp4netns", "-p", "80/sctp"], "tcp and udp alone"),
        (["--network", OWN, "-p", "[::1]::80"], "IPv4 alone"),
    ],
)
def test_what_it_cannot_do_is_said(
    shared_engine: Engine, rootfs: Path, options: list[str], said: str
) -> None:
    done = shared_engine.cli("run", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr
    assert shared_engine.out("ps", "-aq") == ""


def test_its_own_reason_is_told_and_not_what_it_always_says(shared_engine: Engine, rootfs: Path) -> None:
    """It ends the line of neither, and the reason is not the last."""
    network = "slirp4netns:outbound_addr6=fe80::1%nowhere"
    done = shared_engine.cli("run", "--network", network, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert "outbound-addr has to be valid" in done.stderr
    assert "WARNING" not in done.stderr


# ------------------------------------------------------------------ ports by the forwarder


def test_the_forwarder_leads_ports_of_all_kinds(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    publish = ("-p", f"{PORT}:80", "-p", f"[::1]:{PORT + 1}:80", "-p", f"127.0.0.1:{PORT}:81/udp")
    run(engine, rootfs, "--network", "slirp4netns", *publish, command=SERVE)
    assert asked(PORT) == "here"
    assert asked(PORT + 1, "::1") == "here"
    assert len(programs(engine, FORWARDER)) == 1
    engine.cli("stop", "-t", "0", "c")
    assert programs(engine, FORWARDER) == {}
    socket.create_server(("127.0.0.1", PORT)).close()


def test_a_container_without_ports_has_no_forwarder(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "--network", "slirp4netns")
    assert programs(shared_engine, FORWARDER) == {}


def test_a_forwarder_that_is_killed_is_back_with_its_ports(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "slirp4netns", "-p", f"{PORT}:80", command=SERVE)

    def back() -> float:
        (pid,) = programs(engine, FORWARDER)
        since = engine.last_seq()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert asked(PORT) == "here"
        taken = time.monotonic() - began
        engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
        return taken

    quickly(back, 2.0)
    assert len(programs(engine)) == 1


def test_it_is_taken_over_and_ends_with_the_container(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "slirp4netns", "-p", f"{PORT}:80", command=SERVE)
    before = programs(engine, FORWARDER)
    engine.kill()
    assert asked(PORT) == "here"
    engine.cli("ps")
    assert programs(engine, FORWARDER) == before
    (pidfd,) = map(os.pidfd_open, before)
    supervisor, init = engine.pid, engine.inspect("c")["State"]["Pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(init, signal.SIGKILL)
        with select.epoll() as ended:
            ended.register(pidfd, select.EPOLLIN)
            assert ended.poll(30)
    finally:
        os.kill(supervisor, signal.SIGCONT)
        os.close(pidfd)
    engine.cli("wait", "c")


def test_without_conmon_there_is_a_forwarder_all_the_same(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "slirp4netns", "-p", f"{PORT}:80", command=SERVE)
    since = engine.last_seq()
    os.kill(engine.inspect("c")["State"]["ConmonPid"], signal.SIGKILL)
    for name in ("slirp4netns", "forwarder"):
        engine.await_event(partial(is_back, name), since)
    assert asked(PORT) == "here"


def is_back(name: str, event: dict[str, Any]) -> bool:
    return bool(event["Status"] == "helper-restarted" and event["Attributes"]["helper"] == name)


def test_a_start_that_fails_keeps_no_port(shared_engine: Engine, rootfs: Path) -> None:
    engine, elsewhere = shared_engine, rootfs.with_name("elsewhere")
    publish = ("--network", "slirp4netns", "-p", f"{PORT}:80")
    engine.cli("create", "--name", "c", *publish, "--rootfs", f"{rootfs}:O", *SLEEP)
    rootfs.rename(elsewhere)
    try:
        assert engine.cli("start", "c", check=False).returncode == 125
    finally:
        elsewhere.rename(rootfs)
    socket.create_server(("127.0.0.1", PORT)).close()


@pytest.mark.parametrize("configured", ["port_handler=slirp4netns", "nonsense=1"])
def test_what_is_configured_meanwhile_takes_nothing_from_one_that_runs(
    shared_engine: Engine, rootfs: Path, configured: str
) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "slirp4netns", "-p", f"{PORT}:80", command=SERVE)
    before = programs(engine) | programs(engine, FORWARDER)
    engine.add_settings(f'[engine]\nnetwork_cmd_options = ["{configured}"]')
    try:
        engine.kill()
        # What nobody has asked for is ended by then.
        engine.cli("run", "--rm", "--network", "none", "--rootfs", f"{rootfs}:O", "true")
        assert asked(PORT) == "here"
        assert programs(engine) | programs(engine, FORWARDER) == before
        since = engine.last_seq()
        for pid in programs(engine, FORWARDER):
            os.kill(pid, signal.SIGKILL)
        engine.await_event(partial(is_back, "forwarder"), since)
        assert asked(PORT) == "here"
    finally:
        engine.add_settings("")
        engine.kill()
