"""The supervisor as a user's service: installed, started on demand, restarted, ended; and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine


@pytest.fixture
def service(user: Machine) -> Iterator[Machine]:
    """The units are installed, and the socket listens."""
    user.user("pyman", "system", "service", "install")
    user.user("systemctl", "--user", "enable", "--quiet", "--now", "pyman.socket")
    yield user
    user.user("pyman", "rm", "-a", "-f", "-t", "0")
    user.user("pyman", "system", "service", "uninstall")


def pids(machine: Machine) -> tuple[int, int]:
    """Of the keeper and the daemon."""
    told = machine.out("pyman", "info", "--format", "{{.supervisor.keeperPid}} {{.supervisor.pid}}")
    keeper, daemon = map(int, told.split())
    return keeper, daemon


def run(machine: Machine, *options: str) -> tuple[int, int]:
    """The pids of a container c and its monitor."""
    words = ("-d", "--name", "c", *options, "--rootfs", f"{machine.rootfs}:O", "sleep", "1000")
    machine.user("pyman", "run", *words)
    return pids_of(machine)


def pids_of(machine: Machine) -> tuple[int, int]:
    told = machine.out("pyman", "inspect", "--format", "{{.State.Pid}} {{.State.ConmonPid}}", "c")
    init, conmon = map(int, told.split())
    return init, conmon


def test_it_is_installed_told_of_and_uninstalled(user: Machine) -> None:
    told = user.out("pyman", "system", "service", "install")
    units = f"{user.home}/.config/systemd/user"
    assert f"written: {units}/pyman.socket" in told
    assert "systemctl --user enable --now pyman.socket" in told
    assert "enable-linger" not in told
    assert "pyman.service - pyman, a container engine" in user.manager("status", "pyman.service", check=False)
    user.user("systemctl", "--user", "enable", "--quiet", "--now", "pyman.socket")
    told = user.user("pyman", "system", "service", "status", check=False).stdout
    assert "pyman.socket: enabled, active" in told
    assert "pyman.service: disabled, inactive" in told
    assert "lingering: on" in told
    assert "supervisor: answers on" in told
    told = user.out("pyman", "system", "service", "uninstall")
    assert f"removed: {units}/pyman.service" in told
    assert user.manager("is-active", "pyman.service", "pyman.socket", check=False).split() == ["inactive"] * 2
    status = user.user("pyman", "system", "service", "status", check=False)
    assert status.returncode == 3
    assert "pyman.socket: not installed" in status.stdout


def test_where_the_user_does_not_linger_installing_says_what_that_means(machine: Machine) -> None:
    with machine.logged_in():
        told = machine.out("pyman", "system", "service", "install")
        assert "ends, and the containers with it, when the user's last session ends" in told
        assert "loginctl enable-linger" in told
        told = machine.user("pyman", "system", "service", "status", check=False).stdout
        assert "lingering: off" in told
        machine.user("pyman", "system", "service", "uninstall")
    machine.root("systemctl", "stop", f"user@{machine.owner.uid}.service")


def test_a_command_starts_it_by_its_socket_in_the_services_cgroup(service: Machine) -> None:
    assert service.manager("is-active", "pyman.service", check=False) == "inactive"
    keeper, daemon = pids(service)
    assert service.manager("show", "--value", "-p", "MainPID", "pyman.service") == str(keeper)
    for pid in (keeper, daemon):
        assert service.cgroup_of(pid).endswith("/app.slice/pyman.service")


def test_a_restart_takes_neither_container_nor_monitor(service: Machine) -> None:
    there = run(service)
    before = pids(service)
    service.manager("restart", "pyman")
    assert not set(before) & set(pids(service))
    assert pids_of(service) == there
    assert service.out("pyman", "exec", "c", "echo", "works") == "works"


def test_a_stop_leaves_the_container_running_and_the_next_command_finds_it(service: Machine) -> None:
    there = run(service)
    service.manager("stop", "pyman.socket", "pyman.service")
    assert all(service.cgroup_of(pid) for pid in there)
    assert pids_of(service) == there
    service.user("pyman", "kill", "c")
    assert service.out("pyman", "wait", "c") == "137"


def test_a_killed_service_comes_back_by_itself(service: Machine) -> None:
    there = run(service)
    keeper, _ = pids(service)
    service.root("kill", "-9", str(keeper))
    assert pids_of(service) == there
    assert pids(service)[0] != keeper


def test_what_a_session_has_started_without_units_outlives_it(user: Machine) -> None:
    """The session's end kills whatever is in it."""
    there = run(user)
    before = pids(user)
    for pid in (*before, *there):
        cgroup = user.cgroup_of(pid)
        assert f"/user@{user.owner.uid}.service/" in cgroup, cgroup
        assert "/session-" not in cgroup
    assert user.cgroup_of(before[0]).rsplit("/", 1)[1].startswith("pyman-pyman-")
    assert pids(user) == before
    user.user("pyman", "rm", "-f", "-t", "0", "c")


def test_where_the_user_has_no_service_manager_a_command_starts_a_supervisor_all_the_same(
    machine: Machine,
) -> None:
    """As with su, without a session: there is no bus, hence neither a scope nor cgroups."""
    owner = machine.owner
    word = ["setpriv", f"--reuid={owner.uid}", f"--regid={owner.gid}", "--init-groups"]
    word += ["env", f"HOME={machine.home}", f"USER={owner.name}"]
    told = machine.root(*word, "pyman", "run", "--rm", "--rootfs", machine.rootfs, "echo", "works")
    assert told.stdout == "works\n"
    assert "XDG_RUNTIME_DIR" in told.stderr
    info = machine.root(
        *word, "pyman", "info", "--format", "{{.host.cgroupManager}} {{.supervisor.keeperPid}}"
    )
    manager, keeper = info.stdout.split()
    assert manager == "cgroupfs"
    refused = machine.root(
        *word, "pyman", "run", "--rm", "-m", "64m", "--rootfs", machine.rootfs, "true", check=False
    )
    assert refused.stderr.startswith("Error: cannot use --memory: ")
    assert "cgroup manager 'cgroupfs'" in refused.stderr
    pid = machine.host_pid(int(keeper))
    machine.root("kill", keeper)
    assert not processes.wait_gone([pid], 10)


def test_the_end_of_the_last_session_ends_a_user_who_does_not_linger(machine: Machine) -> None:
    """The container ignores SIGTERM: systemd gives it the time that it has for a stop, and not its own."""
    with machine.logged_in():
        there = run(machine, "--stop-timeout", "1")
        supervisor = pids(machine)
    machine.root("systemctl", "stop", f"user@{machine.owner.uid}.service")
    assert not any(machine.cgroup_of(pid) for pid in (*there, *supervisor))
    with machine.lingering():
        # What ended without a supervisor is dealt with once the next one is there, in its turn.
        assert machine.out("pyman", "wait", "c") == "137"
        told = machine.out("pyman", "ps", "-a", "--format", "{{.Names}} {{.State}}")
        assert told.startswith("c Exited (137)")
        machine.user("pyman", "rm", "c")


def test_roots_service_restarts_without_taking_containers(machine: Machine) -> None:
    machine.root("pyman", "system", "service", "install")
    machine.root("systemctl", "enable", "--quiet", "--now", "pyman.socket")
    options = ("-d", "--name", "c", "--runtime", "runc", "--rootfs", machine.rootfs)
    machine.root("pyman", "run", *options, "sleep", "1000")
    look = ("pyman", "inspect", "--format", "{{.State.Pid}} {{.State.ConmonPid}}", "c")
    there = machine.root(*look).stdout
    before = machine.root("systemctl", "show", "--value", "-p", "MainPID", "pyman.service").stdout
    machine.root("systemctl", "restart", "pyman.service")
    assert machine.root("systemctl", "show", "--value", "-p", "MainPID", "pyman.service").stdout != before
    assert machine.root(*look).stdout == there
    assert machine.cgroup_of(int(there.split()[1])).startswith("/pyman/conmon-")
    machine.root("pyman", "rm", "-f", "-t", "0", "c")
    machine.root("pyman", "system", "service", "uninstall")
    assert machine.root("systemctl", "is-active", "pyman.service", check=False).stdout == "inactive\n"
