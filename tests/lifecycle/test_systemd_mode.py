"""systemd mode, by containers that look at themselves, and by a real systemd that boots in one."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import cgroups
from tests.support.runtimes import BY_USER
from tests.support.systemd_root import MOUNTS, await_booted, make_systemd_root, make_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

as_root = pytest.mark.oci_runtime("runc", "crun")
by_user = pytest.mark.oci_runtime(*BY_USER)
SYSTEMD = Path("/lib/systemd/systemd")
boots = pytest.mark.skipif(not SYSTEMD.exists(), reason="systemd is not installed")
ALWAYS = ("--systemd", "always")


@pytest.fixture
def booting() -> Iterator[tuple[Path, Path]]:
    """A root file system with systemd, and where it tells that it has booted."""
    directory = Path(tempfile.mkdtemp(prefix="pm-systemd-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield make_systemd_root(directory / "root"), make_told(directory / "told")
    finally:
        shutil.rmtree(directory)


def boot(engine: Engine, booting: tuple[Path, Path], *options: str) -> str:
    """Of a container s; the state of the system."""
    root, told = booting
    words = ("run", "-d", "--name", "s", *MOUNTS, "--volume", f"{told}:/told", *options)
    engine.cli(*words, "--rootfs", f"{root}:O", "/sbin/init")
    return await_booted(told)


def mounted(text: str) -> dict[str, tuple[str, str]]:
    """Of /proc/mounts, among other lines: type and options of what is seen at each place."""
    lines = [line.split() for line in text.splitlines() if line.endswith(" 0 0")]
    return {place: (kind, options) for _, place, kind, options, *_ in lines}


# What it is


@by_user
@pytest.mark.parametrize(
    "command", [("/sbin/init",), ("/opt/systemd", "--system"), ("sh", "-c", "exec systemd")]
)
def test_a_command_by_which_systemd_is_known_is_enough(
    shared_engine: Engine, rootfs: Path, command: tuple[str, ...]
) -> None:
    shared_engine.cli("create", "--name", "s", "--rootfs", f"{rootfs}:O", *command)
    config = shared_engine.inspect("s")["Config"]
    assert config["SystemdMode"] is (command[0] != "sh")
    assert config["StopSignal"] == (37 if command[0] != "sh" else 15)


@by_user
def test_it_can_be_refused_and_demanded(shared_engine: Engine, rootfs: Path) -> None:
    for name, option, command in (("no", "false", "/sbin/init"), ("yes", "ALWAYS", "true")):
        shared_engine.cli("create", "--name", name, "--systemd", option, "--rootfs", f"{rootfs}:O", command)
    assert shared_engine.inspect("no")["Config"]["SystemdMode"] is False
    assert shared_engine.inspect("yes")["Config"]["SystemdMode"] is True
    own = ("--stop-signal", "INT")
    shared_engine.cli("create", "--name", "own", *ALWAYS, *own, "--rootfs", f"{rootfs}:O", "true")
    assert shared_engine.inspect("own")["Config"]["StopSignal"] == 2


@by_user
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--systemd", "perhaps"), "cannot use --systemd perhaps"),
        ((*ALWAYS, "--init"), "cannot use --init with --systemd always"),
        (("--shm-size-systemd", "many"), "option --shm-size-systemd cannot be 'many'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], message: str
) -> None:
    done = shared_engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert message in done.stderr
    assert shared_engine.out("ps", "-aq") == ""


@by_user
@pytest.mark.parametrize(("change", "signal"), [((), 37), (("--change", "STOPSIGNAL INT"), 2)])
def test_an_image_may_have_systemd(
    shared_engine: Engine, rootfs: Path, change: tuple[str, ...], signal: int, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.add(rootfs / "bin", "bin")
    words = ("--quiet", "--change", 'CMD ["/sbin/init"]', *change, "-", "own-init")
    shared_engine.cli("import", *words, input=(tmp_path / "image.tar").read_bytes())
    shared_engine.cli("create", "--name", "s", "own-init")
    config = shared_engine.inspect("s")["Config"]
    assert (config["SystemdMode"], config["StopSignal"]) == (True, signal)
    shared_engine.cli("create", "--name", "no", "own-init", "true")
    assert shared_engine.inspect("no")["Config"]["SystemdMode"] is False
    shared_engine.cli("rmi", "-f", "own-init")


def test_it_has_what_systemd_needs(shared_engine: Engine, rootfs: Path) -> None:
    see = ("--rootfs", f"{rootfs}:O", "sh", "-c", "cat /proc/mounts; echo; env; cat /run/podman-init")
    told = shared_engine.cli("run", "--name", "s", *ALWAYS, "--shm-size-systemd", "3m", *see, check=False)
    mounts, _, variables = told.stdout.partition("\n\n")
    found = mounted(mounts)
    for path in ("/run", "/run/lock", "/tmp", "/var/log/journal"):
        kind, options = found[path]
        assert kind == "tmpfs"
        assert {"rw", "nosuid", "nodev", "size=3072k"} <= set(options.split(","))
    assert f"container_uuid={shared_engine.inspect('s')['Id'][:32]}" in variables.splitlines()
    assert "container=podman" in variables.splitlines()


@by_user
def test_its_tmpfs_have_what_was_there(shared_engine: Engine, rootfs: Path) -> None:
    """The image's /run and /tmp may have directories that services need."""
    where = ("sh", "-c", "ls -d /tmp/. && mkdir /run/lock/x /var/log/journal/y && stat -c %a /tmp")
    told = shared_engine.out("run", "--rm", *ALWAYS, "--rootfs", f"{rootfs}:O", *where)
    assert told.split() == ["/tmp/.", "1777"]


@by_user
def test_what_the_user_mounts_there_stays(shared_engine: Engine, rootfs: Path) -> None:
    options = (*ALWAYS, "-v", "data:/run", "--tmpfs", "/tmp:size=1m", "-e", "container_uuid=mine")
    see = ("sh", "-c", "touch /run/kept; cat /proc/mounts; env")
    told = shared_engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", *see)
    found = mounted(told)
    assert found["/run"][0] != "tmpfs"
    assert "size=1024k" in found["/tmp"][1]
    assert found["/run/lock"][0] == "tmpfs"
    assert "container_uuid=mine" in told.splitlines()
    shared_engine.cli("volume", "rm", "data")


@as_root
@pytest.mark.skipif(cgroups.mode() == "v2", reason="this host has no cgroup v1")
def test_on_cgroup_v1_it_gets_systemds_hierarchy_without_the_release_agent(
    shared_engine: Engine, rootfs: Path
) -> None:
    own = "/sys/fs/cgroup/systemd$(sed -n 's/.*name=systemd://p' /proc/self/cgroup)"
    see = (
        f"mkdir {own}/below && rmdir {own}/below && echo made",
        "stat -c %F /sys/fs/cgroup/systemd/release_agent",
        "mkdir /sys/fs/cgroup/memory/below 2>/dev/null || echo refused",
    )
    words = ("--rootfs", f"{rootfs}:O", "sh", "-c", "; ".join(see))
    told = shared_engine.out("run", "--rm", *ALWAYS, *words)
    assert told.splitlines() == ["made", "character special file", "refused"]
    told = shared_engine.out("run", "--rm", *words[:-1], f"({see[0]}) 2>&1; true")
    assert "can't create" in told


@pytest.mark.oci_runtime("runc")
def test_a_privileged_one_has_no_virtual_consoles(shared_engine: Engine, rootfs: Path) -> None:
    see = ("--privileged", "--rootfs", f"{rootfs}:O", "sh", "-c", "ls /dev; echo $$")
    plain = shared_engine.out("run", "--rm", *see).split()
    inside = shared_engine.out("run", "--rm", *ALWAYS, *see).split()
    assert set(plain) - set(inside) == {name for name in plain if name[:3] == "tty" and name[3:].isdecimal()}
    assert "tty" in inside


# A real one


@boots
@as_root
@pytest.mark.parametrize(
    "options", [("--cgroupns", "host"), ("--cgroupns", "private"), ("--uidmap", "0:100000:65536")]
)
def test_a_real_systemd_boots_and_halts(
    shared_engine: Engine, booting: tuple[Path, Path], options: tuple[str, ...]
) -> None:
    engine = shared_engine
    assert boot(engine, booting, *options) == "running"
    assert engine.out("exec", "s", "systemctl", "show", "-P", "Virtualization") == "podman"
    assert engine.out("exec", "s", "cat", "/etc/machine-id") == engine.inspect("s")["Id"][:32]
    engine.cli("exec", "s", "systemd-run", "--quiet", "--wait", "--unit", "said", "echo", "into the journal")
    told = engine.out("exec", "s", "journalctl", "--no-pager", "--output=cat", "--unit", "said")
    assert "into the journal" in told.splitlines()
    where = "cat /proc/$(systemctl show -P MainPID systemd-journald)/cgroup"
    assert "/system.slice/systemd-journald.service" in engine.out("exec", "s", "sh", "-c", where)
    engine.cli("stop", "-t", "40", "s", timeout=50)
    (stop,) = engine.events(container=["s"], event=["stop"])
    assert stop["Attributes"]["forced"] == "false"
    state = engine.inspect("s")["State"]
    assert state["ExitCode"] == 0
    assert state["Status"] == "exited"
    engine.cli("start", "s")
    assert await_booted(booting[1]) == "running"


@boots
@pytest.mark.oci_runtime("runc")
def test_it_outlives_the_supervisor(shared_engine: Engine, booting: tuple[Path, Path]) -> None:
    engine = shared_engine
    assert boot(engine, booting) == "running"
    engine.kill()
    assert engine.out("exec", "s", "systemctl", "is-system-running") == "running"
    engine.cli("stop", "-t", "40", "s", timeout=50)
    assert engine.inspect("s")["State"]["ExitCode"] == 0
