"""Containers that look at themselves, run by each OCI runtime straight from a built configuration."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pyman.api.spec import Namespace, Rlimit
from supervisor.oci.host import this_host
from supervisor.oci.request import ExecBuildRequest
from tests.oci.support import Life, host_settings, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.runtimes import Place

HOST = Namespace("host")


@pytest.fixture
def root(tmp_path: Path, rootfs: Path) -> str:
    """A root file system of the test's own: runtimes make mount points in it."""
    copy = tmp_path / "root"
    shutil.copytree(rootfs, copy, symlinks=True)
    return str(copy)


@pytest.fixture
def make(tmp_path: Path, root: str, oci_runtime: Place) -> Iterator[Callable[..., Life]]:
    lives: list[Life] = []

    def make(script: str = "", **spec: Any) -> Life:
        spec.setdefault("command", ["sh", "-c", script])
        chosen = host_settings()
        life = Life(oci_runtime, tmp_path / f"bundle{len(lives)}", request(root, chosen, **spec))
        lives.append(life)
        return life

    yield make
    for life in lives:
        life.close()


@pytest.fixture
def see(make: Callable[..., Life]) -> Callable[..., str]:
    """What a script prints inside a container."""

    def see(script: str = "", **spec: Any) -> str:
        return make(script, **spec).run().strip()

    return see


def _inode(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def test_its_namespaces_are_its_own_or_the_hosts(see: Callable[..., str]) -> None:
    script = "for kind in pid net ipc uts mnt; do readlink /proc/self/ns/$kind; done"
    host = [_inode(kind) for kind in ("pid", "net", "ipc", "uts", "mnt")]
    assert not set(see(script).splitlines()) & set(host)
    shared = see(script, pidns=HOST, netns=HOST, ipcns=HOST, utsns=HOST).splitlines()
    assert shared[:4] == host[:4]
    assert shared[4] != host[4]


def test_without_a_network_there_is_only_loopback(see: Callable[..., str]) -> None:
    assert see("ls /sys/class/net", netns=Namespace("none")) == "lo"


def test_its_first_process_is_its_command_or_the_init(see: Callable[..., str]) -> None:
    script = "tr '\\0' ' ' < /proc/1/cmdline; echo; readlink /proc/1/exe"
    assert see(script).startswith("sh -c")
    if shutil.which("catatonit"):
        assert see(script, init=True).startswith("/run/podman-init -- sh -c")


def test_its_name_and_environment(see: Callable[..., str]) -> None:
    assert see("hostname; echo $HOSTNAME $HOME $container", env={"A": "b c"}).splitlines() == [
        "boxhost",
        "boxhost /root podman",
    ]
    assert see("echo $A", env={"A": "b c"}) == "b c"


def test_its_user_groups_and_umask(see: Callable[..., str]) -> None:
    assert see("id; umask; echo $HOME", user="worker", umask="0077").splitlines() == [
        "uid=1000(worker) gid=1000(worker) groups=50(staff),1000(worker)",
        "0077",
        "/home/worker",
    ]
    assert see("id", user="1234:5", groups=["staff"]) == "uid=1234(1234) gid=5(5) groups=5(5),50(staff)"


def test_its_capabilities(see: Callable[..., str]) -> None:
    script = "grep -E '^Cap(Eff|Bnd)' /proc/self/status | cut -f2"
    effective, bounding = see(script).splitlines()
    assert effective == bounding
    assert int(bounding, 16) >> 21 & 1 == 0, "CAP_SYS_ADMIN"
    effective, bounding = see(script, user="worker").splitlines()
    assert (int(effective, 16), int(bounding, 16) != 0) == (0, True)
    assert int(see(script, privileged=True).splitlines()[0], 16) >> 21 & 1 == 1


@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
def test_its_system_calls_are_filtered_unless_it_is_privileged(see: Callable[..., str]) -> None:
    if not host_settings().containers.seccomp_profile:
        pytest.skip("no seccomp profile is installed")
    script = "grep Seccomp: /proc/self/status | cut -f2"
    assert see(script) == "2"
    assert see(script, privileged=True) == "0"


def test_what_it_cannot_see_and_change(see: Callable[..., str]) -> None:
    script = "head -c1 /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/panic; true"
    assert see(f"({script}) 2>&1").splitlines() == [
        "0",
        "0",
        "sh: can't create /proc/sys/kernel/panic: Read-only file system",
    ]
    assert "sysfs" in see("grep ' /sys ' /proc/self/mounts")
    assert " ro," in see("grep ' /sys ' /proc/self/mounts")


def test_shm_has_its_size(see: Callable[..., str]) -> None:
    assert "size=65536k" in see("grep ' /dev/shm ' /proc/self/mounts")
    assert see("mount | grep -c ' /dev/shm ' || true", ipcns=Namespace("none")) == "0"


def test_its_limits(see: Callable[..., str]) -> None:
    limits = [Rlimit("RLIMIT_NOFILE", hard=200, soft=100), Rlimit("RLIMIT_CORE", hard=0, soft=0)]
    assert see("ulimit -Sn; ulimit -Hn; ulimit -c", r_limits=limits).split() == ["100", "200", "0"]


def test_the_number_of_its_processes_is_limited(see: Callable[..., str]) -> None:
    if "pids" not in this_host().controllers:
        pytest.skip("this host has no pids controller")
    script = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
    assert see(script) == "2048"


def test_its_cgroup_is_named_after_it(make: Callable[..., Life]) -> None:
    life = make("cat /proc/self/cgroup", cgroupns=HOST)
    assert f"/pyman/ctr-{life.id}" in life.run()


def test_a_read_only_root_has_writable_places(see: Callable[..., str]) -> None:
    script = "touch /x 2>/dev/null || echo refused; touch /tmp/x /run/x /var/tmp/x && echo done; ls /run/.containerenv"
    assert see(script, read_only_filesystem=True).splitlines() == ["refused", "done", "/run/.containerenv"]
    bare = see("touch /tmp/x 2>/dev/null || echo refused", read_only_filesystem=True, read_write_tmpfs=False)
    assert bare == "refused"


def test_its_working_directory(see: Callable[..., str]) -> None:
    assert see("pwd", work_dir="/home/worker") == "/home/worker"


def test_a_privileged_container_can_mount_and_sees_the_hosts_devices(see: Callable[..., str]) -> None:
    assert see("mount -t tmpfs t /tmp && echo mounted; ls /dev/kmsg", privileged=True).splitlines() == [
        "mounted",
        "/dev/kmsg",
    ]
    assert "mounted" not in see("mount -t tmpfs t /tmp 2>/dev/null && echo mounted; true")


def test_the_file_that_tells_it_is_a_container(see: Callable[..., str]) -> None:
    assert see("cat /run/.containerenv") == ""
    assert 'engine="pyman"' in see("cat /run/.containerenv", privileged=True)


def test_a_command_inside_it(make: Callable[..., Life]) -> None:
    life = make(command=["sleep", "1000"], env={"A": "1"})
    life.start()
    asked = ExecBuildRequest(
        life.request,
        ["sh", "-c", "id -u; echo $A$B $HOME; pwd; hostname; umask"],
        env={"B": "2"},
        user="worker",
        work_dir="/home/worker",
    )
    assert life.exec(asked).split() == ["1000", "12", "/home/worker", "/home/worker", "boxhost", "0022"]
    privileged = ExecBuildRequest(life.request, ["grep", "CapEff", "/proc/self/status"], privileged=True)
    assert int(life.exec(privileged).split()[1], 16) >> 21 & 1 == 1
