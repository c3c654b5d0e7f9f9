"""Moving a pause process to a scope: what is said where it cannot be done, and that it never takes long."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.rootless import scope

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """systemd seems to run, and the user to have a bus. Where its programs are, of which there are none yet."""
    monkeypatch.setattr(scope, "_SYSTEMD", str(tmp_path))
    (tmp_path / "bus").touch()
    made = tmp_path / "bin"
    made.mkdir()
    monkeypatch.setenv("PATH", str(made))
    return made


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def move(tmp_path: Path) -> str:
    return scope.move(os.getpid(), str(tmp_path), {})


def test_where_no_systemd_runs_there_is_nothing_to_do_or_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "_SYSTEMD", str(tmp_path / "none"))
    assert move(tmp_path) == ""


def test_it_is_asked_for_and_waited_for(programs: Path, tmp_path: Path) -> None:
    for name in ("busctl", "systemctl"):
        write(programs / name, f'echo "{name} $*" >>{tmp_path}/asked; env >{tmp_path}/env')
    assert move(tmp_path) == ""
    asked, waited = (tmp_path / "asked").read_text().splitlines()
    unit = waited.split()[-1]
    assert unit.startswith("pyman-pause-")
    assert unit.endswith(".scope")
    assert f"StartTransientUnit ssa(sv)a(sa(sv)) {unit} fail" in asked
    assert f"PIDs au 1 {os.getpid()} Slice s user.slice" in asked
    assert waited == f"systemctl --user start {unit}"
    environment = (tmp_path / "env").read_text().splitlines()
    assert f"XDG_RUNTIME_DIR={tmp_path}" in environment
    assert f"DBUS_SESSION_BUS_ADDRESS=unix:path={tmp_path}/bus" in environment


def test_a_user_without_a_bus_is_told_of_lingering(programs: Path, tmp_path: Path) -> None:
    del programs
    (tmp_path / "bus").unlink()
    assert "cannot move the pause process to a scope of its own: the user has no service manager" in move(
        tmp_path
    )


def test_what_systemd_says_is_passed_on(programs: Path, tmp_path: Path) -> None:
    assert move(tmp_path).endswith(": cannot execute 'busctl': No such file or directory")
    write(programs / "busctl", "echo first >&2; echo 'Call failed: no' >&2; exit 1")
    assert move(tmp_path).endswith(": Call failed: no")
    write(programs / "busctl", "exit 0")
    write(programs / "systemctl", "exit 5")
    assert move(tmp_path).endswith(": 'systemctl' has failed")


def test_a_systemd_that_does_not_answer_is_not_waited_for_long(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "PATIENCE", 0.05)
    write(programs / "busctl", "exec /bin/sleep 60")
    begun = time.monotonic()
    assert move(tmp_path).endswith(": 'busctl' does not answer within 0.05 s")
    assert time.monotonic() - begun < 10


def test_much_that_is_said_does_not_block_it(programs: Path, tmp_path: Path) -> None:
    write(programs / "busctl", "/bin/dd if=/dev/zero bs=64k count=4 >&2 2>/dev/null; exit 1")
    assert "cannot move" in move(tmp_path)
