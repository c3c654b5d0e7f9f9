"""Containers whose network is pasta's: what they see, who reaches them, and what is left after anything is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel.addresses import outer_address
from tests.support import processes
from tests.support.served import PORT, SERVE, SLEEP, asked, heard
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("rootless")


def programs(engine: Engine) -> dict[int, list[str]]:
    """pasta's processes for containers of an engine, with their words."""
    told = {pid: processes.words(pid) for pid in processes.pids()}
    ours = f"{engine.path}/"
    return {pid: words for pid, words in told.items() if "--netns" in words and words[-1].startswith(ours)}


@pytest.fixture(autouse=True)
def nothing_is_left(shared_engine: Engine) -> Iterator[None]:
    yield
    shared_engine.remove_containers()
    assert programs(shared_engine) == {}


def run(engine: Engine, rootfs: Path, *options: str, command: list[str] = SLEEP) -> str:
    """The container's name."""
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *command)
    return "c"


def mounted(engine: Engine) -> list[str]:
    """Namespaces, where the supervisor sees them."""
    lines = Path(f"/proc/{engine.pid}/mounts").read_text().splitlines()
    return [line for line in lines if " nsfs " in line and f"{engine.path}/" in line]


def test_a_container_has_the_hosts_address_and_asks_pasta_for_names(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    own = outer_address(ipv6=False)
    run(engine, rootfs, "--network", "pasta")
    assert f"inet {own}/" in engine.out("exec", "c", "ip", "-4", "addr")
    resolver = engine.out("exec", "c", "cat", "/etc/resolv.conf").splitlines()
    assert next(line for line in resolver if line.startswith("nameserver")) == "nameserver 169.254.1.1"
    hosts = engine.out("exec", "c", "cat", "/etc/hosts")
    assert f"{own}\t{engine.inspect('c')['Config']['Hostname']} c" in hosts
    assert f"{own}\thost.containers.internal" not in hosts
    (words,) = programs(engine).values()
    assert words[1] == "--config-net"


def test_servers_of_ones_own_are_the_only_ones(shared_engine: Engine, rootfs: Path) -> None:
    run(shared_engine, rootfs, "--network", "pasta", "--dns", "192.0.2.53")
    resolver = shared_engine.out("exec", "c", "cat", "/etc/resolv.conf")
    assert [line for line in resolver.splitlines() if line.startswith("nameserver")] == [
        "nameserver 192.0.2.53"
    ]


def test_pastas_own_options_reach_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    options = "pasta:--ipv4-only,-a,10.0.2.5,-n,24,-g,10.0.2.2,--dns-forward,10.0.2.3,-I,mine0,-m,1400"
    run(engine, rootfs, "--network", options)
    assert "inet 10.0.2.5/24" in engine.out("exec", "c", "ip", "addr", "show", "mine0")
    assert "mtu 1400" in engine.out("exec", "c", "ip", "link", "show", "mine0")
    assert "default via 10.0.2.2 dev mine0" in engine.out("exec", "c", "ip", "route")
    assert "nameserver 10.0.2.3\n" in engine.out("exec", "c", "cat", "/etc/resolv.conf") + "\n"
    assert "10.0.2.5\t" in engine.out("exec", "c", "cat", "/etc/hosts")


def test_ports_lead_into_it_and_are_free_afterwards(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    publish = ("-p", f"{PORT}:80", "-p", f"127.0.0.1:{PORT + 1}:80/tcp", "-p", "80")
    run(engine, rootfs, "--network", "pasta", *publish, command=SERVE)
    assert asked(PORT) == "here"
    assert asked(PORT + 1) == "here"
    ports = engine.inspect("c")["NetworkSettings"]["Ports"]["80/tcp"]
    (chosen,) = {int(each["HostPort"]) for each in ports} - {PORT, PORT + 1}
    (words,) = programs(engine).values()
    assert f"{chosen}-{chosen}:80-80" in words

    def stop() -> float:
        engine.cli("start", "c")
        began = time.monotonic()
        engine.cli("stop", "-t", "0", "c")
        return time.monotonic() - began

    quickly(stop, 2.0)  # in less than what a program has to end that does not want to
    socket.create_server(("127.0.0.1", PORT)).close()
    assert programs(engine) == {}


def test_a_port_that_somebody_has_is_named_and_nothing_is_begun(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    with socket.create_server(("127.0.0.1", PORT)):
        run_words = ("run", "-d", "--name", "c", "--network", "pasta", "-p", f"{PORT}:80")
        done = engine.cli(*run_words, "--rootfs", f"{rootfs}:O", *SLEEP, check=False)
        assert done.returncode == 126
        assert f"port {PORT}/tcp" in done.stderr
        assert done.stderr.count("\n") == 1
    assert programs(engine) == {}


def test_one_that_is_killed_is_back_and_the_container_is_the_same(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", command=SERVE)
    before = engine.inspect("c")["State"]

    def back() -> float:
        ((pid, words),) = programs(engine).items()
        since = engine.last_seq()
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
        assert asked(PORT) == "here"
        taken = time.monotonic() - began
        ((other, same),) = programs(engine).items()
        assert (other != pid, same) == (True, words)
        after = engine.inspect("c")["State"]
        assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
        told = [event for event in engine.events(since) if event["Status"].startswith("helper-")]
        assert [(event["Status"], event["Name"]) for event in told] == [
            ("helper-lost", "c"),
            ("helper-restarted", "c"),
        ]
        return taken

    quickly(back, 2.0)


def test_it_outlives_a_killed_supervisor_and_is_taken_over(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", command=SERVE)
    before = programs(engine)
    since = engine.last_seq()
    engine.kill()
    assert asked(PORT) == "here"
    engine.cli("ps")
    assert programs(engine) == before
    assert not [event for event in engine.events(since) if event["Status"].startswith("helper-")]
    engine.cli("stop", "-t", "0", "c")
    assert programs(engine) == {}


def test_one_that_dies_with_the_supervisor_is_back_with_the_next(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", command=SERVE)
    pid = engine.inspect("c")["State"]["Pid"]
    (helper,) = programs(engine)
    supervisor = engine.pid
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(helper, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    engine.cli("ps")
    assert asked(PORT) == "here"
    assert engine.inspect("c")["State"]["Pid"] == pid


def test_every_run_has_one_of_its_own(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", "--restart", "always", command=SERVE)
    for _ in range(2):
        (before,) = programs(engine)
        since = engine.last_seq()
        os.kill(engine.inspect("c")["State"]["Pid"], signal.SIGKILL)
        engine.await_event(lambda event: event["Status"] == "start", since)
        assert asked(PORT) == "here"
        (after,) = programs(engine)
        assert after != before
    engine.cli("restart", "-t", "0", "c")
    assert asked(PORT) == "here"
    assert len(programs(engine)) == 1


def test_a_container_with_ids_of_its_own_has_one(shared_engine: Engine, rootfs: Path) -> None:
    run(
        shared_engine,
        rootfs,
        "--network",
        "pasta",
        "--userns",
        "keep-id",
        "--user",
        "0",
        "-p",
        f"{PORT}:80",
        command=SERVE,
    )
    assert asked(PORT) == "here"


def test_another_container_joins_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", command=SERVE)
    other = ("run", "--rm", "--network", "container:c", "--rootfs", f"{rootfs}:O")
    assert engine.out(*other, "sh", "-c", "until nc 127.0.0.1 80 </dev/null; do :; done") == "here"


def test_it_is_shown_by_its_name(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"127.0.0.1:{PORT}:80")
    found = engine.inspect("c")
    assert found["HostConfig"]["NetworkMode"] == "pasta"
    assert list(found["NetworkSettings"]["Networks"]) == ["pasta"]
    assert engine.out("port", "c") == f"80/tcp -> 127.0.0.1:{PORT}"
    assert f"127.0.0.1:{PORT}->80/tcp" in engine.out("ps")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network", "pasta:--netns,/x"], "that is the engine's to decide"),
        (["--network", "pasta", "-p", "80/sctp"], "tcp and udp alone"),
        (["--network", "pasta:--nonsense"], "pasta: unrecognized option '--nonsense'"),
    ],
)
def test_what_it_cannot_do_is_said(
    shared_engine: Engine, rootfs: Path, options: list[str], said: str
) -> None:
    done = shared_engine.cli("run", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert said in done.stderr
    assert (done.returncode, done.stderr.count("\n") <= 2) == (125, True)
    assert programs(shared_engine) == {}


@pytest.mark.oci_runtime("crun")
def test_root_has_no_use_for_it(shared_engine: Engine, rootfs: Path) -> None:
    options = ("run", "--name", "c", "--network", "pasta")
    done = shared_engine.cli(*options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert (done.returncode, "ordinary users alone" in done.stderr) == (125, True)
    assert shared_engine.out("ps", "-aq") == ""


def test_no_mount_is_left_of_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta")
    assert mounted(engine)
    engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not mounted(engine), "a mount stays")


@pytest.mark.oci_runtime("rootless-trixie")
def test_a_newer_one_has_an_address_that_leads_to_the_host(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", command=SERVE)
    assert "169.254.1.2\thost.containers.internal" in engine.out("exec", "c", "cat", "/etc/hosts")
    assert asked(PORT) == "here"
    with socket.create_server(("0.0.0.0", PORT + 1)) as server:  # noqa: S104 - the container comes from elsewhere
        assert heard(engine, "c", "host.containers.internal", server) == "said"


def test_a_reload_of_all_networks_leaves_it_alone(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta")
    before = programs(engine)
    assert engine.out("network", "reload", "--all") == ""
    done = engine.cli("network", "reload", "c", check=False)
    assert (done.returncode, "--network pasta" in done.stderr) == (125, True)
    assert programs(engine) == before


def test_one_that_nobody_has_recorded_makes_way(shared_engine: Engine, rootfs: Path) -> None:
    """As it is left by a supervisor that is killed just when it was to write it down."""
    engine = shared_engine
    run(engine, rootfs, "--network", "pasta", "-p", f"{PORT}:80", command=SERVE)
    ((pid, words),) = programs(engine).items()
    directory = Path(words[-1]).parent
    since = engine.last_seq()
    waiting = ["sh", "-c", "read -r _; :", "pasta", f"{directory}/pasta.pid"]
    stranger = subprocess.Popen([*engine.place.prefix("/"), *waiting], stdin=subprocess.PIPE)
    (directory / "pasta.pid").write_text(str(stranger.pid))
    os.kill(pid, signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
    assert stranger.wait(20) == -signal.SIGKILL
    assert stranger.stdin is not None
    stranger.stdin.close()
    assert asked(PORT) == "here"
