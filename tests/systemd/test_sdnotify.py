"""Units of type notify that run containers: the service manager learns when they are ready, and who the main process is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.systemd_root import MOUNTS, make_systemd_root
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine

WHO = ("root", "user")
UNIT = "served.service"
ALL = ("NotifyAccess=all",)
SOON = ("--no-block",)
TOLD = "until read line </told/go; do :; done"
"""Again where it opened the FIFO while whoever had told the last time was still about to close it."""
WAITS = f"{TOLD}; systemd-notify --ready --status=up; exec sleep 1000"
"""A command that says that it is ready once it is told to."""


class Service:
    """A unit of root's or of the user's service manager that runs a container c, and what becomes of it."""

    def __init__(self, machine: Machine, who: str) -> None:
        self.machine = machine
        self._call = getattr(machine, who)
        own = ("--runroot=/run/pm", "--tmpdir=/run/pm/tmp") if who == "root" else ()
        self.pyman = ("pyman", f"--root={machine.home}/{who}", "--runtime=runc", *own)
        self._manager = ("--user",) if who == "user" else ()

    def out(self, *words: str, check: bool = True) -> str:
        told: str = self._call(*words, check=check).stdout.strip()
        return told

    def begin(self, *words: str, properties: tuple[str, ...] = ALL, how: tuple[str, ...] = ()) -> None:
        """`words`: after `pyman run`."""
        mounts = (*MOUNTS, "-v", "/run/host/told:/told")
        self.begin_with("run", "--rm", "--name", "c", *mounts, *words, properties=properties, how=how)

    def begin_with(self, *words: str, properties: tuple[str, ...] = ALL, how: tuple[str, ...] = ()) -> None:
        """`how`: options of systemd-run, which waits until the unit is started."""
        limits = ("Type=notify", "TimeoutStartSec=20", "TimeoutStopSec=8")
        given = [f"--property={each}" for each in (*limits, *properties)]
        path = f"--setenv=PATH={self.out('printenv', 'PATH')}"
        options = (*self._manager, "--quiet", f"--unit={UNIT}", path, *how)
        self.out("systemd-run", *options, *given, *self.pyman, *words)

    @property
    def program(self) -> str:
        return self.out("sh", "-c", "command -v pyman")

    def ctl(self, *words: str, check: bool = True) -> str:
        return self.out("systemctl", *self._manager, *words, check=check)

    @property
    def state(self) -> str:
        return self.ctl("show", "-P", "ActiveState", UNIT)

    def conmon_is_main(self) -> bool:
        """conmon is the main process of the unit, and in its cgroup."""
        conmon = self.out(*self.pyman, "inspect", "--format", "{{.State.ConmonPid}}", "c")
        return self.ctl("show", "-P", "MainPID", UNIT) == conmon and UNIT in self.machine.cgroup_of(
            int(conmon)
        ).split("/")

    def go(self) -> None:
        """What the container waits for."""
        self.machine.root("timeout", "30", "sh", "-c", "echo go >/run/host/told/go")

    def runs(self) -> None:
        """Until the container runs."""
        until = ("wait", "--condition", "running", "c")
        self.out("sh", "-c", 'until "$@" 2>/dev/null; do :; done', "sh", *self.pyman, *until)

    def kill(self) -> None:
        """The supervisor, and nobody else."""
        pid = self.out(*self.pyman, "info", "--format", "{{.supervisor.pid}}")
        self.machine.root("kill", "-9", pid)

    def exit_of(self, name: str = "ExecMainStatus") -> str:
        """Once the unit has ended."""
        self.ctl("stop", UNIT)
        return self.ctl("show", "-P", name, UNIT)

    def joined(self) -> None:
        """Until the unit is started: another start waits for the first one."""
        self.ctl("start", UNIT)


@pytest.fixture(scope="module")
def root(machine: Machine) -> str:
    make_systemd_root(machine.path / "host/systemd")
    (machine.path / "host/told").mkdir()
    machine.root("mkfifo", "-m", "666", "/run/host/told/go")
    machine.root("cp", "-a", "/run/host/systemd", f"{machine.home}/systemd")
    machine.root("chown", "-R", f"{machine.owner.name}:", f"{machine.home}/systemd")
    return f"{machine.home}/systemd:O"


@pytest.fixture(params=WHO)
def service(user: Machine, request: pytest.FixtureRequest) -> Iterator[Service]:
    made = Service(user, request.param)
    yield made
    made.out(*made.pyman, "rm", "-a", "-f", "-t", "0")
    made.ctl("stop", UNIT, check=False)
    made.ctl("reset-failed", UNIT, check=False)


def test_with_conmon_the_unit_is_up_when_the_container_runs(service: Service, root: str) -> None:
    """The access that type notify brings is enough for that."""
    service.begin("-d", "--sdnotify", "conmon", "--rootfs", root, "sleep", "1000", properties=())
    assert service.state == "active"
    assert service.conmon_is_main()


def test_the_container_itself_says_when_it_is_ready(service: Service, root: str) -> None:
    service.begin("-d", "--rootfs", root, "sh", "-c", WAITS, how=SOON)
    service.runs()
    assert service.state == "activating"
    service.go()
    service.joined()
    assert service.state == "active"
    assert service.conmon_is_main()
    assert service.ctl("show", "-P", "StatusText", UNIT) == ""  # no more is passed on than that it is ready


def test_so_it_does_if_the_supervisor_was_killed_meanwhile(service: Service, root: str) -> None:
    service.begin("-d", "--rootfs", root, "sh", "-c", WAITS, how=SOON)
    service.runs()
    service.kill()
    service.go()
    service.joined()
    assert service.state == "active"
    assert service.conmon_is_main()


def test_a_command_that_stays_is_the_main_process_and_ends_as_the_container_does(
    service: Service, root: str
) -> None:
    ends = WAITS.replace("exec sleep 1000", f"{TOLD}; exit 7")
    service.begin("--rootfs", root, "sh", "-c", ends, how=SOON)
    service.go()
    service.joined()
    assert service.state == "active"
    assert not service.conmon_is_main()
    service.go()
    service.out(*service.pyman, "wait", "--ignore", "c")
    assert service.exit_of() == "7"
    assert service.exit_of("Result") == "exit-code"


def test_it_is_ready_when_it_is_healthy(service: Service, root: str) -> None:
    check = ("--health-cmd", "test -e /run/well", "--health-interval", "0.2s", "--health-retries", "1000")
    service.begin("-d", "--sdnotify", "healthy", *check, "--rootfs", root, "sleep", "1000", how=SOON)
    service.runs()
    assert service.state == "activating"
    service.kill()
    service.out(*service.pyman, "exec", "c", "mkdir", "-p", "/run/well")
    service.joined()
    assert service.state == "active"
    assert service.conmon_is_main()


def test_a_container_that_is_there_is_started_by_a_unit(service: Service, root: str) -> None:
    options = ("--name", "c", "--sdnotify", "conmon", *MOUNTS)
    service.out(*service.pyman, "create", *options, "--rootfs", root, "sleep", "1000")
    service.begin_with("start", "c")
    assert service.state == "active"
    assert service.conmon_is_main()


def test_the_unit_ends_with_the_container(service: Service, root: str) -> None:
    stop = " ".join((*service.pyman, "stop", "-t", "5", "c"))
    properties = (*ALL, f"ExecStop={service.program} {stop.partition(' ')[2]}")
    words = ("sh", "-c", "trap 'exit 0' TERM; systemd-notify --ready; while :; do sleep 0.1; done")
    service.begin("-d", "--rootfs", root, *words, properties=properties)
    service.ctl("stop", UNIT)
    assert service.ctl("show", "-P", "Result", UNIT) == "success"

    def events() -> list[str]:
        words = ("events", "--stream=false", "--filter", "container=c", "--format", "{{.Status}}")
        return service.out(*service.pyman, *words).split()

    until(lambda: events()[-1] == "remove", "it is not removed")
    assert "monitor-lost" not in events()


def test_of_conmon_systemd_sees_that_it_has_ended_and_not_how(service: Service, root: str) -> None:
    words = ("-d", "--rootfs", root, "sh", "-c", "systemd-notify --ready; sleep 0.3; exit 7")
    service.begin(*words, how=("--wait",))
    assert service.state == "inactive"  # not failed


def test_a_system_in_a_container_is_ready_when_it_has_booted(service: Service, root: str) -> None:
    stop = (service.program, *service.pyman[1:], "stop", "c")
    properties = (*ALL, "Delegate=yes", f"ExecStop={' '.join(stop)}")
    service.begin("-d", "--cgroups", "split", "--rootfs", root, "/sbin/init", properties=properties)
    assert service.out(*service.pyman, "exec", "c", "systemctl", "is-system-running") == "running"
    assert service.conmon_is_main()
    init = service.out(*service.pyman, "inspect", "--format", "{{.State.Pid}}", "c")
    assert service.machine.cgroup_of(int(init)).split("/")[-3:][0] == UNIT
    service.ctl("stop", UNIT)
    assert service.state == "inactive"
    ends = service.out(
        *service.pyman, "events", "--stream=false", "--filter", "event=died", "--format", "json"
    )
    assert json.loads(ends.splitlines()[-1])["Attributes"]["containerExitCode"] == "0"
