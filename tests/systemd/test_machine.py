"""The machine itself: what the other tests of this room take for granted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.machine import Machine


def test_it_runs_without_a_failed_unit_and_nothing_of_it_reaches_the_host(machine: Machine) -> None:
    assert machine.root("systemctl", "is-system-running").stdout == "running\n"
    machine.root("touch", "/tmp/of-the-machine", "/etc/of-the-machine", "/var/lib/of-the-machine")
    assert not [path for path in ("/tmp", "/etc", "/var/lib") if Path(path, "of-the-machine").exists()]


def test_a_command_of_the_users_runs_in_a_login_session(machine: Machine) -> None:
    told = machine.out(
        "sh", "-c", "cat /proc/self/cgroup; echo $XDG_RUNTIME_DIR; systemctl --user is-system-running"
    )
    cgroup, runtime_dir, state = told.splitlines()[-3:]
    slice_ = f"0::/user.slice/user-{machine.owner.uid}.slice"
    assert cgroup.startswith(f"{slice_}/session-")
    assert runtime_dir == machine.runtime_dir
    assert state in ("running", "starting")


def test_the_users_service_manager_lingers_only_as_long_as_it_should(machine: Machine) -> None:
    unit = f"user@{machine.owner.uid}.service"
    with machine.lingering():
        assert machine.root("systemctl", "is-active", unit).stdout == "active\n"
        machine.user("true")
        assert machine.root("systemctl", "is-active", unit).stdout == "active\n"
    assert machine.root("systemctl", "is-active", unit, check=False).stdout == "inactive\n"
    assert not machine.root("ls", "/run/user").stdout
