"""An ordinary user's containers on bridges: they reach one another, the host and its ports, whatever is killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel.addresses import outer_address
from tests.support.served import PORT, SERVE, SLEEP, asked
from tests.support.waiting import quickly, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("rootless")


def kept(engine: Engine) -> list[str]:
    """Where sandboxes are, as the supervisor sees it."""
    lines = Path(f"/proc/{engine.pid}/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if " nsfs " in line and "/sandbox/" in line]


def helpers(engine: Engine) -> dict[str, int]:
    """The sandbox's programs, by what they are: their pids."""
    found = {}
    places = kept(engine)
    spaces = [os.stat(f"/proc/{engine.pid}/root{path}").st_ino for path in places]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
                space = (entry / "ns/net").stat().st_ino
            except OSError:
                continue
            if "supervisor.network.relay.forwarder" in words and space in spaces:
                found["forwarder"] = int(entry.name)
            elif words[-1:] and words[-1].startswith(f"{engine.path}/") and "/sandbox/" in words[-1]:
                found["pasta"] = int(entry.name)
    return found


def wait_until_idle(engine: Engine) -> None:
    until(lambda: not (kept(engine) or helpers(engine)), "the sandbox stays")


@pytest.fixture(autouse=True)
def nothing_is_left(shared_engine: Engine) -> Iterator[None]:
    yield
    shared_engine.remove_containers()
    wait_until_idle(shared_engine)


def run(engine: Engine, rootfs: Path, name: str, *options: str, command: list[str] = SLEEP) -> str:
    """The container's address."""
    engine.cli(
        "run", "-d", "--name", name, "--network", "bridge", *options, "--rootfs", f"{rootfs}:O", *command
    )
    lines = engine.out("exec", name, "ip", "-4", "-o", "addr", "show", "eth0").split()
    return lines[lines.index("inet") + 1].partition("/")[0]


def test_containers_reach_one_another(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    first = run(engine, rootfs, "first", command=SERVE)
    run(engine, rootfs, "second")
    assert engine.out("exec", "second", "sh", "-c", f"until nc {first} 80 </dev/null; do :; done") == "here"


def test_a_port_leads_into_a_container_which_sees_who_asks(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    command = ["sh", "-c", "while :; do nc -l -p 80 -e netstat -tn; done"]
    run(engine, rootfs, "web", "-p", f"{PORT}:80", command=command)
    here = outer_address(ipv6=False)
    assert f":{here}:" in asked(PORT, here)
    done = engine.cli(
        "run",
        "--rm",
        "--network",
        "bridge",
        "-p",
        f"{PORT}:80",
        "--rootfs",
        f"{rootfs}:O",
        "true",
        check=False,
    )
    assert (done.returncode, f"cannot publish port {PORT}/tcp" in done.stderr) == (126, True)


def test_the_sandbox_comes_with_the_first_and_goes_with_the_last(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    assert kept(engine) == []
    run(engine, rootfs, "first")
    was = helpers(engine)
    run(engine, rootfs, "second", "-p", f"{PORT + 1}:80")
    assert helpers(engine)["pasta"] == was["pasta"]
    engine.cli("rm", "-f", "-t", "0", "first")
    assert helpers(engine)["pasta"] == was["pasta"]
    engine.cli("rm", "-f", "-t", "0", "second")
    wait_until_idle(engine)


def test_a_killed_supervisor_finds_it_again(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    first = run(engine, rootfs, "first", "-p", f"{PORT + 2}:80", command=SERVE)
    was = helpers(engine)
    os.kill(engine.pid, signal.SIGKILL)
    second = run(engine, rootfs, "second")
    assert first != second
    assert helpers(engine) == was
    assert asked(PORT + 2) == "here"
    os.kill(engine.pid, signal.SIGKILL)
    engine.cli("rm", "-f", "-t", "0", "first", "second")


@pytest.mark.parametrize("which", ["pasta", "forwarder"])
def test_a_helper_that_is_killed_is_back_and_containers_are_what_they_were(
    shared_engine: Engine, rootfs: Path, which: str
) -> None:
    engine = shared_engine
    run(engine, rootfs, "web", "-p", f"{PORT + 3}:80", command=SERVE)
    pid = engine.inspect("web")["State"]["Pid"]

    def back() -> float:
        victim, since = helpers(engine)[which], engine.last_seq()
        begun = time.time_ns()
        os.kill(victim, signal.SIGKILL)
        told = engine.await_event(lambda event: event["Status"] == "helper-restarted", since)
        assert asked(PORT + 3) == "here"
        return float(told["TimeNano"] - begun) / 1e9

    quickly(back, 2.0)
    assert engine.inspect("web")["State"]["Pid"] == pid


def test_a_restart_by_policy_keeps_its_port(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    run(engine, rootfs, "web", "--restart", "always", "-p", f"{PORT + 4}:80", command=SERVE)
    since = engine.last_seq()
    os.kill(engine.inspect("web")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: event["Status"] == "start", since)
    assert asked(PORT + 4) == "here"


def test_what_only_root_can_is_refused(shared_engine: Engine, rootfs: Path) -> None:
    for port, reason in (
        ("80", "ports below 1024 are for root"),
        (f"{PORT + 5}:80/sctp", "tcp and udp alone"),
    ):
        words = ("run", "--rm", "--network", "bridge", "-p", f"{port}:80" if ":" not in port else port)
        done = shared_engine.cli(*words, "--rootfs", f"{rootfs}:O", "true", check=False)
        assert done.returncode in (125, 126)
        assert reason in done.stderr
