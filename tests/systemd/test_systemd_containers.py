"""Containers that systemd runs in, on cgroup v2: root's, and an ordinary user's, whose cgroup systemd has delegated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.systemd_root import MOUNTS, await_booted, make_systemd_root, make_told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.support.machine import Machine

    Pyman = Callable[..., CompletedProcess[str]]

by_whom = pytest.mark.parametrize(("who", "runtime"), [("root", "runc"), ("user", "crun"), ("user", "runc")])
"""Root's crun needs CAP_SYS_RESOURCE on cgroup v2, which not every machine gives."""


@pytest.fixture(scope="module")
def root(machine: Machine) -> str:
    """A root file system with systemd, as it is in the machine."""
    make_systemd_root(machine.path / "host/systemd")
    machine.root("cp", "-a", "/run/host/systemd", f"{machine.home}/systemd")
    machine.root("chown", "-R", f"{machine.owner.name}:", f"{machine.home}/systemd")
    return f"{machine.home}/systemd"


@pytest.fixture
def told(machine: Machine) -> Path:
    directory = machine.path / "host/told"
    if not directory.exists():
        make_told(directory)
    return directory


@pytest.fixture
def pyman(user: Machine, who: str, runtime: str) -> Iterator[Pyman]:
    """Of root, or of the user: a command of an engine of the test's own."""
    call = getattr(user, who)
    own = (f"--runroot=/run/pm-{runtime}", f"--tmpdir=/run/pm-{runtime}/tmp") if who == "root" else ()
    engine = ("pyman", f"--root={user.home}/{who}-{runtime}", *own, f"--runtime={runtime}")

    def pyman(*words: str, check: bool = True) -> CompletedProcess[str]:
        done: CompletedProcess[str] = call(*engine, *words, check=check)
        return done

    yield pyman
    pyman("rm", "-a", "-f", "-t", "0")
    pyman("system", "service", "stop", check=False)


@by_whom
@pytest.mark.parametrize("namespace", ["private", "host"])
def test_it_boots_with_a_writable_tree_of_its_own(
    pyman: Pyman, root: str, told: Path, namespace: str
) -> None:
    options = ("-d", "--name", "s", "--cgroupns", namespace, *MOUNTS, "-v", "/run/host/told:/told")
    pyman("run", *options, "--rootfs", f"{root}:O", "/sbin/init")
    assert await_booted(told) == "running"
    seen = pyman("exec", "s", "sed", "-n", "s/^0:://p", "/proc/1/cgroup").stdout.strip()
    assert seen.endswith("/init.scope")
    assert (seen == "/init.scope") is (namespace == "private")
    pyman("exec", "s", "systemd-run", "--quiet", "--wait", "--unit=said", "echo", "into the journal")
    lines = pyman("exec", "s", "journalctl", "--no-pager", "--output=cat", "--unit=said").stdout.splitlines()
    assert "into the journal" in lines
    pyman("stop", "-t", "25", "s")
    assert pyman("inspect", "s", "--format", "{{.State.ExitCode}}").stdout.strip() == "0"


@pytest.mark.parametrize(("who", "runtime"), [("root", "runc")])
def test_it_boots_in_a_user_namespace_of_its_own(pyman: Pyman, root: str, told: Path) -> None:
    options = ("-d", "--name", "s", "--uidmap", "0:100000:65536", *MOUNTS, "-v", "/run/host/told:/told")
    pyman("run", *options, "--rootfs", f"{root}:O", "/sbin/init")
    assert await_booted(told) == "running"
    assert pyman("exec", "s", "stat", "-c", "%u", "/sys/fs/cgroup/init.scope").stdout.strip() == "0"
    pyman("stop", "-t", "25", "s")
    assert pyman("inspect", "s", "--format", "{{.State.ExitCode}}").stdout.strip() == "0"
