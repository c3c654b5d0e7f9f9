"""A user's containers in scopes that a real systemd makes, and what it has not delegated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.machine import CHECKOUT
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.machine import Machine

each_runtime = pytest.mark.parametrize("runtime", ["crun", "runc"])
CONTAINER = ("-d", "--name", "c")
_CONFIGURATION = '[engine]\\ncgroup_manager = "{}"\\n[containers]\\nnetns = "none"\\n'
WITHOUT_ADDRESS = ("env", "-u", "DBUS_SESSION_BUS_ADDRESS")


@pytest.fixture
def pyman(user: Machine, runtime: str) -> Iterator[tuple[str, ...]]:
    """A command line of an engine of the test's own, which has found the bus by XDG_RUNTIME_DIR alone."""
    words = (*WITHOUT_ADDRESS, "pyman", f"--root={user.home}/{runtime}", f"--runtime={runtime}")
    yield words
    user.user(*words, "rm", "-a", "-f", "-t", "0")


def cgroups(machine: Machine, pyman: tuple[str, ...]) -> tuple[str, str]:
    """Of the container c and its monitor, by the kernel."""
    told = machine.out(
        *pyman, "inspect", "--format", "{{.Id}} {{.State.Pid}} {{.State.ConmonPid}}", "c"
    ).split()
    init, conmon = (machine.cgroup_of(int(pid)).replace(told[0], "ID") for pid in told[1:])
    return init, conmon


def manager(machine: Machine) -> str:
    uid = machine.owner.uid
    return f"/user.slice/user-{uid}.slice/user@{uid}.service"


@each_runtime
def test_the_oci_runtime_has_a_scope_made(user: Machine, pyman: tuple[str, ...]) -> None:
    user.user(*pyman, "run", *CONTAINER, "--rootfs", user.rootfs, "sleep", "1000")
    init, conmon = cgroups(user, pyman)
    scope = f"{manager(user)}/user.slice/pyman-ID.scope"
    assert init.removesuffix("/container") == scope  # crun's is one deeper
    assert not conmon.startswith(scope)
    told = user.out(
        *pyman, "inspect", "--format", "{{.State.CgroupPath}} {{.HostConfig.CgroupManager}} {{.Id}}", "c"
    ).split()
    assert told[0].replace(told[2], "ID") == init
    assert told[1] == "systemd"
    assert user.manager("is-active", f"pyman-{told[2]}.scope") == "active"
    user.user(*pyman, "pause", "c")
    assert user.root("cat", f"/sys/fs/cgroup{told[0]}/cgroup.events").stdout.split()[-1] == "1"
    user.user(*pyman, "unpause", "c")
    assert user.out(*pyman, "exec", "c", "echo", "works") == "works"
    user.user(*pyman, "stop", "-t", "0", "c")
    scope = f"pyman-{told[2]}.scope"
    until(lambda: user.manager("is-active", scope, check=False) == "inactive", "its scope stays")


@each_runtime
def test_files_of_the_runtime_directory_are_mounted_with_what_it_is_mounted_with(
    user: Machine, pyman: tuple[str, ...]
) -> None:
    """A login's $XDG_RUNTIME_DIR is nosuid and nodev, and nobody in a user namespace may drop that."""
    options = ("--rm", "--userns", "keep-id", "--init", "--rootfs", user.rootfs)
    told = user.out(*pyman, "run", *options, "sh", "-c", "id -u; ls /run/.containerenv")
    assert told.split() == [str(user.owner.uid), "/run/.containerenv"]


@each_runtime
def test_a_parent_is_a_slice(user: Machine, pyman: tuple[str, ...]) -> None:
    user.user(
        *pyman, "run", *CONTAINER, "--cgroup-parent", "mine.slice", "--rootfs", user.rootfs, "sleep", "1000"
    )
    init, _ = cgroups(user, pyman)
    assert init.removesuffix("/container") == f"{manager(user)}/mine.slice/pyman-ID.scope"
    refused = user.user(
        *pyman, "run", "--cgroup-parent", "/mine", "--rootfs", user.rootfs, "true", check=False
    )
    assert "with the cgroup manager 'systemd' it is the name of a slice" in refused.stderr


@each_runtime
def test_split_needs_a_delegated_unit_and_divides_it(user: Machine, pyman: tuple[str, ...]) -> None:
    options = (*CONTAINER, "--cgroups", "split", "--rootfs", user.rootfs, "sleep", "1000")
    refused = user.user(*pyman, "run", *options, check=False)
    assert "cannot use --cgroups split: the cgroup '/user.slice/" in refused.stderr
    assert "Delegate=yes" in refused.stderr
    scope = ("systemd-run", "--user", "--scope", "--quiet", "--unit=divided", "--property=Delegate=yes")
    user.user(*scope, *pyman, "run", *options)
    parent = f"{manager(user)}/app.slice/divided.scope"
    assert cgroups(user, pyman) == (f"{parent}/ctr-ID", f"{parent}/conmon-ID")
    user.user(*pyman, "rm", "-f", "-t", "0", "c")
    until(lambda: user.manager("is-active", "divided.scope", check=False) == "inactive", "its scope stays")


@each_runtime
def test_without_a_cgroup_it_stays_with_its_supervisor(
    user: Machine, pyman: tuple[str, ...], runtime: str
) -> None:
    told = user.user(
        *pyman,
        "run",
        *CONTAINER,
        "--cgroups",
        "disabled",
        "--rootfs",
        user.rootfs,
        "sleep",
        "1000",
        check=False,
    )
    if runtime == "runc":
        assert "the OCI runtime 'runc' always makes a cgroup" in told.stderr
        return
    init, conmon = cgroups(user, pyman)
    assert init == conmon
    assert user.out(*pyman, "exec", "c", "echo", "works") == "works"


@each_runtime
def test_a_cgroup_that_was_delegated_can_be_the_parent_with_cgroupfs(
    user: Machine, pyman: tuple[str, ...], runtime: str
) -> None:
    """The engine is another one, whose settings name that manager."""
    conf = f"{user.home}/{runtime}.conf"
    user.user("sh", "-c", f"printf '{_CONFIGURATION.format('cgroupfs')}' >{conf}")
    words = ("env", f"CONTAINERS_CONF={conf}", "pyman", f"{pyman[-2]}-cgroupfs", pyman[-1])
    parent = f"{manager(user)}/app.slice/of-the-test"
    run = (*words, "run", *CONTAINER)
    user.user(*run, "--cgroup-parent", parent, "--rootfs", user.rootfs, "sleep", "1000")
    assert cgroups(user, words) == (f"{parent}/ctr-ID", f"{parent}/conmon-ID")
    user.user(*words, "rm", "-f", "-t", "0", "c")
    assert user.root("find", f"/sys/fs/cgroup{parent}", "-mindepth", "1", "-type", "d").stdout == ""
    user.user("rmdir", f"/sys/fs/cgroup{parent}")
    refused = user.user(*run, "--cgroup-parent", "/elsewhere", "--rootfs", user.rootfs, "true", check=False)
    assert "'/elsewhere': this user may not make cgroups there" in refused.stderr
    user.user(*run, "--rootfs", user.rootfs, "sleep", "1000")
    init, conmon = cgroups(user, words)
    # runc makes one that nobody has asked for.
    assert init == (f"{manager(user)}/app.slice/ID" if runtime == "runc" else conmon)
    user.user(*words, "rm", "-f", "-t", "0", "c")
    assert not user.root("find", f"/sys/fs/cgroup{manager(user)}/app.slice", "-name", "?" * 64).stdout


@each_runtime
@pytest.mark.parametrize(
    "option, controller",
    [
        ("-m=64m", "memory"),
        ("--cpus=1", "cpu"),
        ("--pids-limit=5", "pids"),
        ("--cpuset-cpus=0", "cpuset"),
        ("--blkio-weight=50", "io"),
        ("--cgroup-conf=memory.high=64m", "memory"),
    ],
)
def test_a_limit_without_its_controller_is_refused_by_name(
    user: Machine, pyman: tuple[str, ...], option: str, controller: str
) -> None:
    """Whichever are not there: those that cgroup v1 has on this host, or those that systemd does not delegate."""
    there = user.root("cat", f"/sys/fs/cgroup{manager(user)}/cgroup.controllers").stdout.split()
    told = user.user(*pyman, "run", "--rm", option, "--rootfs", user.rootfs, "true", check=False)
    if controller in there:
        assert told.returncode == 0
    else:
        assert told.returncode == 125
        assert told.stderr.startswith("Error: cannot use --")
        assert f"controller '{controller}'" in told.stderr


@each_runtime
def test_a_container_sees_the_file_of_its_cgroup_that_was_set(user: Machine, pyman: tuple[str, ...]) -> None:
    conf = ("--cgroup-conf", "cgroup.max.descendants=7")
    user.user(*pyman, "run", *CONTAINER, *conf, "--rootfs", user.rootfs, "sleep", "1000")
    assert user.out(*pyman, "exec", "c", "cat", "/sys/fs/cgroup/cgroup.max.descendants") == "7"
    told = user.out(*pyman, "inspect", "--format", "{{json .HostConfig.CgroupConf}}", "c")
    assert json.loads(told) == {"cgroup.max.descendants": "7"}


@each_runtime
def test_limits_of_cgroup_v1_are_refused(user: Machine, pyman: tuple[str, ...]) -> None:
    for options in (("--oom-kill-disable", "-m=64m"), ("--cpu-rt-period=1000",), ("--cpu-rt-runtime=5",)):
        told = user.user(*pyman, "create", *options, "--rootfs", user.rootfs, "true", check=False)
        option = options[0].partition("=")[0]
        assert told.stderr.startswith(f"Error: cannot use {option}: cgroup v2 has no such limit")


@each_runtime
def test_an_update_without_a_controller_is_refused_and_the_rest_is_done(
    user: Machine, pyman: tuple[str, ...]
) -> None:
    there = user.root("cat", f"/sys/fs/cgroup{manager(user)}/cgroup.controllers").stdout.split()
    user.user(*pyman, "run", *CONTAINER, "--rootfs", user.rootfs, "sleep", "1000")
    told = user.user(*pyman, "update", "--pids-limit=5", "--restart=always", "c", check=False)
    if "pids" in there:
        assert user.out(*pyman, "exec", "c", "cat", "/sys/fs/cgroup/pids.max") == "5"
    else:
        assert told.stderr.startswith("Error: cannot use --pids-limit: ")
        assert "controller 'pids'" in told.stderr
        policy = ("inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "c")
        assert user.out(*pyman, *policy) == "no"
    user.user(*pyman, "update", "--restart=always", "--env=A=1", "c")
    assert user.out(*pyman, "inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "c") == "always"
    user.user(*pyman, "update", "--restart=no", "c")


def test_info_tells_what_systemd_has_delegated(user: Machine) -> None:
    delegated = user.root("cat", f"/sys/fs/cgroup{manager(user)}/cgroup.controllers").stdout.split()
    told = user.out("pyman", "info", "--format", "{{json .host.cgroupControllers}} {{.host.cgroupManager}}")
    assert told == f"{json.dumps(sorted(delegated), separators=(',', ':'))} systemd"


@pytest.mark.parametrize("runtime", ["runc"])
def test_roots_containers_have_scopes_where_the_manager_is_systemd(machine: Machine, runtime: str) -> None:
    """Not crun: root's raises RLIMIT_MEMLOCK on cgroup v2, for which some virtual machines lack the capability."""
    conf = f"/root/{runtime}.conf"
    machine.root("sh", "-c", f"printf '{_CONFIGURATION.format('systemd')}' >{conf}")
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--setenv=CONTAINERS_CONF={conf}")
    pyman = (*unit, f"{CHECKOUT}/.venv/bin/pyman", f"--root=/tmp/{runtime}-root", f"--runtime={runtime}")
    machine.root(*pyman, "run", *CONTAINER, "--rootfs", machine.rootfs, "sleep", "1000")
    told = machine.root(*pyman, "inspect", "--format", "{{.Id}} {{.State.CgroupPath}}", "c").stdout.split()
    assert told[1].removesuffix("/container") == f"/machine.slice/pyman-{told[0]}.scope"
    machine.root(*pyman, "rm", "-f", "-t", "0", "c")
    keeper = machine.root(*pyman, "info", "--format", "{{.supervisor.keeperPid}}").stdout.strip()
    assert "/system.slice/pyman-" in machine.cgroup_of(int(keeper))


@each_runtime
def test_a_cgroup_namespace_is_joined(user: Machine, pyman: tuple[str, ...]) -> None:
    """On cgroup v2 every container has one of its own, unless it joins another one's."""
    user.user(*pyman, "run", *CONTAINER, "--rootfs", user.rootfs, "sleep", "1000")
    look = ("readlink", "/proc/self/ns/cgroup")
    theirs = user.out(*pyman, "exec", "c", *look)
    run = (*pyman, "run", "--rm")
    assert user.out(*run, "--cgroupns", "container:c", "--rootfs", user.rootfs, *look) == theirs
    assert user.out(*run, "--rootfs", user.rootfs, *look) != theirs
    pid = user.out(*pyman, "inspect", "--format", "{{.State.Pid}}", "c")
    path = f"ns:/proc/{pid}/ns/cgroup"
    assert user.out(*run, "--cgroupns", path, "--rootfs", user.rootfs, *look) == theirs


@each_runtime
def test_a_removal_ends_all_that_a_container_has_in_a_joined_process_namespace(
    user: Machine, pyman: tuple[str, ...]
) -> None:
    user.user(*pyman, "run", *CONTAINER, "--rootfs", user.rootfs, "sleep", "1000")
    guest = ("sh", "-c", "sleep 1002 & exec sleep 1003")
    options = ("-d", "--name", "guest", "--pid", "container:c", "--rootfs", user.rootfs)
    user.user(*pyman, "run", *options, *guest)
    until(lambda: "sleep 1003" in user.out(*pyman, "exec", "c", "ps"), "it does not begin")
    user.user(*pyman, "rm", "-f", "-t", "0", "guest")
    left = user.out(*pyman, "exec", "c", "ps")
    assert "sleep 1000" in left
    assert "sleep 1002" not in left
    assert "sleep 1003" not in left
