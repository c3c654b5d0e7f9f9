"""What a service manager hears, and when."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from supervisor.notify import Notifier, watchdog_interval

if TYPE_CHECKING:
    from tests.keeper.support import Supervisor


def test_ready_names_the_keeper_as_main_process(supervisor: Supervisor) -> None:
    supervisor.begin()
    lines = supervisor.await_notice(lambda lines: "READY=1" in lines)
    assert f"MAINPID={supervisor.pid}" in lines
    assert any(line.startswith("STATUS=") for line in lines)


def test_the_end_is_announced(supervisor: Supervisor) -> None:
    supervisor.start()
    os.kill(supervisor.pid, signal.SIGTERM)
    supervisor.await_notice(lambda lines: "STOPPING=1" in lines)


def test_a_lost_daemon_shows_in_the_status(supervisor: Supervisor) -> None:
    supervisor.start()
    os.kill(supervisor.daemon, signal.SIGKILL)
    lines = supervisor.await_notice(lambda lines: lines[0].startswith("STATUS="))
    assert "killed by signal 9" in lines[0]
    supervisor.await_notice(lambda lines: "READY=1" in lines)


def test_a_reload_is_announced_with_its_time(supervisor: Supervisor) -> None:
    supervisor.start()
    before = time.monotonic_ns() // 1000
    os.kill(supervisor.pid, signal.SIGHUP)
    lines = supervisor.await_notice(lambda lines: "RELOADING=1" in lines)
    told = next(int(line.partition("=")[2]) for line in lines if line.startswith("MONOTONIC_USEC="))
    assert before <= told <= time.monotonic_ns() // 1000
    supervisor.await_notice(lambda lines: "READY=1" in lines)


def test_the_watchdog_is_fed_when_it_is_asked_for(supervisor: Supervisor) -> None:
    supervisor.start(environment={"WATCHDOG_USEC": "200000"})
    for _ in range(3):
        supervisor.await_notice(lambda lines: "WATCHDOG=1" in lines)


def test_the_watchdog_of_another_process_is_not_fed() -> None:
    asked = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000"}
    assert watchdog_interval(asked, 7) == 1.0
    assert watchdog_interval({**asked, "WATCHDOG_PID": "7"}, 7) == 1.0
    assert watchdog_interval({**asked, "WATCHDOG_PID": "8"}, 7) is None
    assert watchdog_interval({"NOTIFY_SOCKET": "/x"}, 7) is None
    assert watchdog_interval({"WATCHDOG_USEC": "2000000"}, 7) is None


def test_an_abstract_socket_is_understood() -> None:
    name = f"pyman-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        assert Notifier({"NOTIFY_SOCKET": f"@{name}"}).send("STATUS=hello")
        assert heard.recv(100) == b"STATUS=hello"


def test_nobody_to_tell_is_no_failure() -> None:
    assert not Notifier({}).send("READY=1")
    assert not Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).send("READY=1")
