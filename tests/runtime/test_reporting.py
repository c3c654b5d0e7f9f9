"""Who is told that a container is ready, and what, by the mode and the caller."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from pyman.api.spec import Caller, ContainerSpec
from pyman.errors import InvalidArgument, NotSupported
from supervisor.runtime.life import reporting
from supervisor.runtime.life.reporting import Reporting

if TYPE_CHECKING:
    from pathlib import Path

CALLER = Caller(notify_socket="/run/systemd/notify", cgroup="0::/a.service\n")
TOLD = Reporting("/run/systemd/notify", "0::/a.service\n")


@pytest.mark.parametrize(
    ("mode", "asked", "passed_on", "leaving", "staying"),
    [
        ("", TOLD, True, ["MAINPID=7"], []),
        ("container", TOLD, True, ["MAINPID=7"], []),
        ("conmon", TOLD, False, ["MAINPID=7", "READY=1"], ["READY=1"]),
        ("healthy", TOLD, True, ["MAINPID=7"], []),
        ("ignore", None, False, [], []),
    ],
)
def test_each_mode(
    mode: str, asked: Reporting | None, passed_on: bool, leaving: list[str], staying: list[str]
) -> None:
    spec = ContainerSpec(sdnotify_mode=mode)
    found = reporting.asked_by(spec, CALLER)
    assert found == asked
    assert reporting.passes_on(spec, found) == (CALLER.notify_socket if passed_on else "")
    assert reporting.lines(spec, found, 7, stays=False) == leaving
    assert reporting.lines(spec, found, 7, stays=True) == staying
    assert reporting.lines(spec, found, 0, stays=False) == []
    assert reporting.asked_by(spec, Caller()) is None


@pytest.mark.parametrize("path", ["run/notify", "@", "/", "vsock:2:1", "/" + "é" * 60])
def test_what_is_no_path_of_a_socket_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="NOTIFY_SOCKET"):
        reporting.asked_by(ContainerSpec(), Caller(notify_socket=path))
    assert reporting.asked_by(ContainerSpec(sdnotify_mode="ignore"), Caller(notify_socket=path)) is None


def test_an_abstract_socket_is_for_conmon_alone() -> None:
    caller = Caller(notify_socket="@manager")
    for mode in ("container", "healthy"):
        with pytest.raises(NotSupported, match=f"--sdnotify {mode}"):
            reporting.asked_by(ContainerSpec(sdnotify_mode=mode), caller)
    assert reporting.asked_by(ContainerSpec(sdnotify_mode="conmon"), caller) == Reporting("@manager")


def test_a_healthy_one_needs_a_check() -> None:
    spec = ContainerSpec(sdnotify_mode="healthy")
    reporting.check(spec, Caller(), has_check=True)
    with pytest.raises(InvalidArgument, match="no health check"):
        reporting.check(spec, Caller(), has_check=False)
    with pytest.raises(InvalidArgument, match="--sdnotify soon"):
        reporting.check(ContainerSpec(sdnotify_mode="soon"), Caller(), has_check=True)


def test_conmon_is_told_wherever_its_directory_is(tmp_path: Path) -> None:
    bundle = tmp_path / ("long" * 40)
    assert not reporting.tell_ready(str(bundle))
    (bundle / "notify").mkdir(parents=True)
    assert not reporting.tell_ready(str(bundle))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as conmon:
        conmon.bind(str(tmp_path / "notify.sock"))
        (tmp_path / "notify.sock").rename(bundle / "notify/notify.sock")
        conmon.setblocking(False)
        assert reporting.tell_ready(str(bundle))
        assert conmon.recv(100) == b"READY=1"
    assert not reporting.tell_ready(str(bundle))
