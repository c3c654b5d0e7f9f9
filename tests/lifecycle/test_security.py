"""What a container may do, as it finds out itself: as root's and as an ordinary user's."""

from __future__ import annotations

import json
import pwd
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from supervisor.oci.host import CAPABILITIES, this_host
from supervisor.settings.model import ContainersSettings
from tests.support.user import UserEngine
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"
USUAL = set(ContainersSettings().default_capabilities)
EVERY = set(this_host().capabilities)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory whose files an ordinary user can read as well."""
    with tempfile.TemporaryDirectory(prefix="pm-security-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


class Status(NamedTuple):
    """Of a process, as /proc tells it."""

    caps: dict[str, set[str]]
    no_new_privs: bool
    filtered: bool

    @property
    def bounding(self) -> set[str]:
        return self.caps["Bnd"]

    @property
    def active(self) -> set[str]:
        assert self.caps["Eff"] == self.caps["Prm"]
        return self.caps["Eff"]


def parsed(text: str) -> Status:
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    caps = {
        key.removeprefix("Cap"): {name for bit, name in enumerate(CAPABILITIES) if int(value, 16) >> bit & 1}
        for key, value in lines.items()
        if key.startswith("Cap")
    }
    return Status(caps, lines["NoNewPrivs"] == "1", lines["Seccomp"] == "2")


def run(engine: Engine, rootfs: Path, *options: str, script: str = STATUS) -> str:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def status(engine: Engine, rootfs: Path, *options: str) -> Status:
    return parsed(run(engine, rootfs, *options))


def refused(engine: Engine, rootfs: Path, *options: str) -> str:
    """What a command says that makes nothing."""
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode in (125, 126), options
    assert engine.out("ps", "-aq") == ""
    return done.stderr


def test_capabilities_are_added_and_dropped(shared_engine: Engine, rootfs: Path) -> None:
    found = status(shared_engine, rootfs, "--cap-add", "net_admin,CAP_NET_RAW", "--cap-drop", "Kill")
    assert found.active == found.bounding == USUAL - {"CAP_KILL"} | {"CAP_NET_ADMIN", "CAP_NET_RAW"}
    assert status(shared_engine, rootfs, "--cap-drop", "all", "--cap-add", "chown").active == {"CAP_CHOWN"}
    every = EVERY if not isinstance(shared_engine, UserEngine) else EVERY | {"CAP_SYS_RESOURCE"}
    assert status(shared_engine, rootfs, "--cap-add", "ALL").active <= every
    assert "CAP_SYS_ADMIN" in status(shared_engine, rootfs, "--cap-add", "ALL").active


def test_another_user_has_in_effect_what_was_added_and_its_exec_too(
    shared_engine: Engine, rootfs: Path
) -> None:
    options = ("--user", "worker", "--cap-add", "net_admin", "--cap-drop", "kill")
    shared_engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    told = shared_engine.inspect("c")
    assert told["EffectiveCaps"] == ["CAP_NET_ADMIN"]
    assert told["HostConfig"]["CapAdd"] == ["CAP_NET_ADMIN"]
    assert told["HostConfig"]["CapDrop"] == ["CAP_KILL"]
    most = USUAL - {"CAP_KILL"} | {"CAP_NET_ADMIN"}
    assert set(told["BoundingCaps"]) == most
    seen = parsed(shared_engine.out("exec", "c", "sh", "-c", STATUS))
    assert (seen.bounding, seen.active, seen.caps["Amb"]) == (most, {"CAP_NET_ADMIN"}, {"CAP_NET_ADMIN"})
    first = STATUS.replace("self", "1")  # which may still be the OCI runtime that is about to become it
    until(lambda: parsed(shared_engine.out("exec", "c", "sh", "-c", first)) == seen, "it has other rights")
    root = parsed(shared_engine.out("exec", "-u", "root", "c", "sh", "-c", STATUS))
    assert (root.active, root.caps["Amb"]) == (most, set())
    other = parsed(shared_engine.out("exec", "-u", "nobody", "c", "sh", "-c", STATUS))
    assert other.active == set()
    whole = parsed(shared_engine.out("exec", "--privileged", "-u", "root", "c", "sh", "-c", STATUS))
    assert "CAP_SYS_ADMIN" in whole.active


@pytest.mark.oci_runtime("runc", "crun")
def test_in_a_user_namespace_it_is_the_same(shared_engine: Engine, rootfs: Path) -> None:
    own = ("--uidmap", "0:300000:2000", "--gidmap", "0:300000:2000", "--cap-add", "net_admin")
    found = status(shared_engine, rootfs, *own, "--cap-drop", "kill")
    assert found.active == found.bounding == USUAL - {"CAP_KILL"} | {"CAP_NET_ADMIN"}
    other = status(shared_engine, rootfs, *own, "--user", "worker")
    assert (other.active, other.caps["Amb"]) == ({"CAP_NET_ADMIN"}, {"CAP_NET_ADMIN"})


def test_no_new_privileges_are_gained(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--security-opt", "no-new-privileges")
    shared_engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    for of in ("self", "1"):
        assert parsed(shared_engine.out("exec", "c", "sh", "-c", STATUS.replace("self", of))).no_new_privs
    assert shared_engine.inspect("c")["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    off = ("--security-opt", "no-new-privileges=false")
    assert not status(shared_engine, rootfs, *off).no_new_privs


def profile(path: Path, *names: str, **changes: Any) -> str:
    rule = {"names": list(names), "action": "SCMP_ACT_ERRNO", "errno": "ENOTBLK", **changes}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    return f"seccomp={path}"


@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
def test_a_profile_is_what_its_file_said_when_the_container_was_created(
    shared_engine: Engine, rootfs: Path, readable: Path
) -> None:
    path = readable / "profile.json"
    option = profile(path, "mkdir", "mkdirat", excludes={"caps": ["CAP_NET_ADMIN"]})
    script = "mkdir /made 2>&1; echo $?"
    create = ("--security-opt", option, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    shared_engine.cli("create", "--name", "c", *create)
    path.write_text("{}")
    path.unlink()
    assert "Block device required" in shared_engine.out("start", "-a", "c")
    assert shared_engine.inspect("c")["HostConfig"]["SecurityOpt"] == [option]
    option = profile(path, "mkdir", "mkdirat", excludes={"caps": ["CAP_NET_ADMIN"]})
    for more in (["--cap-add", "net_admin"], ["--privileged"]):
        assert run(shared_engine, rootfs, "--security-opt", option, *more, script=script) == "0"
    option = profile(path, "mkdir", "mkdirat")
    whole = ("--privileged", "--security-opt", option)
    assert "Block device required" in run(shared_engine, rootfs, *whole, script=script)


@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
def test_unconfined_is_without_filter(shared_engine: Engine, rootfs: Path) -> None:
    unconfined = ("--security-opt", "seccomp=unconfined")
    assert not status(shared_engine, rootfs, *unconfined).filtered
    assert status(shared_engine, rootfs).filtered
    assert not status(shared_engine, rootfs, "--privileged").filtered


def test_paths_are_hidden_and_shown(shared_engine: Engine, rootfs: Path) -> None:
    look = "wc -c < /etc/passwd; ls /home | wc -l; (echo x > /proc/sys/kernel/hostname) 2>&1; true"
    seen = run(shared_engine, rootfs, "--security-opt", "mask=/etc/passwd:/home", script=look)
    assert seen.split("\n")[:2] == ["0", "0"]
    assert "Read-only file system" in seen
    read_only = "grep -c ' /proc/sys proc ro' /proc/mounts; grep -c ' /sys/firmware ' /proc/mounts"
    options = ("--security-opt", "unmask=/proc/s*:/sys/firmware")
    assert run(shared_engine, rootfs, *options, script=f"{read_only}; true").split() == ["0", "0"]
    assert run(shared_engine, rootfs, script=f"{read_only}; true").split() == ["1", "1"]
    everything = "grep -cE ' /proc/|/sys/firmware' /proc/mounts; true"
    for option in ("unmask=ALL", "systempaths=unconfined"):
        assert run(shared_engine, rootfs, "--security-opt", option, script=everything) == "0"


def test_proc_is_mounted_with_other_options(shared_engine: Engine, rootfs: Path) -> None:
    option = ("--security-opt", "proc-opts=nosuid,nodev,noexec,hidepid=2")
    seen = run(shared_engine, rootfs, *option, script="grep '^proc /proc ' /proc/mounts")
    assert "hidepid=invisible" in seen or "hidepid=2" in seen


def test_labels_are_kept_where_there_is_no_selinux(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--security-opt", "label=type:spc_t", "--security-opt", "label=level:s0:c1,c2")
    shared_engine.cli("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true")
    told = shared_engine.inspect("c")
    assert told["HostConfig"]["SecurityOpt"] == ["label=type:spc_t,label=level:s0:c1,c2"]
    assert (told["ProcessLabel"], told["MountLabel"]) == ("", "")


def attempts(*paths: str) -> str:
    """A script that opens each path, for reading or with a `>` before it for writing, and says with what result."""
    return "; ".join(
        f"( : {path if path[0] == '>' else f'<{path}'} ) 2>/dev/null && echo yes || echo no" for path in paths
    )


@pytest.mark.oci_runtime("runc", "crun")
def test_a_device_is_there_with_its_rights_and_others_are_not(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--device", "/dev/fuse:/dev/mine:r", "--device", "/dev/net", "--cap-add", "mknod")
    shared_engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sleep", "1000")
    made = "mknod /dev/made c 10 229; mknod /dev/other c 10 235"
    script = f"{made} 2>/dev/null; {attempts('/dev/mine', '>/dev/mine', '/dev/made', '/dev/other', '/dev/net/tun')}"
    assert shared_engine.out("exec", "c", "sh", "-c", script).split() == ["yes", "no", "yes", "no", "yes"]
    assert shared_engine.out("exec", "c", "stat", "-c", "%t,%T", "/dev/mine") == "a,e5"
    assert shared_engine.inspect("c")["HostConfig"]["Devices"] == [
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"},
        {"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rwm"},
    ]
    rule = ("--device-cgroup-rule", "c 10:229 rm", "--cap-add", "mknod")
    script = f"mknod /dev/made c 10 229; {attempts('/dev/made', '>/dev/made')}"
    assert run(shared_engine, rootfs, *rule, script=script).split() == ["yes", "no"]


@pytest.mark.oci_runtime("runc", "crun")
def test_a_device_is_there_in_a_user_namespace(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--device", "/dev/zero:/dev/mine", "--uidmap", "0:300000:1000", "--gidmap", "0:300000:1000")
    script = f"stat -c %t,%T /dev/mine; {attempts('/dev/mine', '/dev/null')}"
    assert run(shared_engine, rootfs, *options, script=script).split() == ["1,5", "yes", "yes"]


@pytest.mark.oci_runtime("rootless")
def test_an_ordinary_user_gives_the_hosts_device(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--device", "/dev/zero:/dev/mine:rw", "--device", "/dev/full")
    script = f"stat -c %t,%T /dev/mine; {attempts('/dev/mine', '>/dev/mine', '/dev/full')}"
    assert run(shared_engine, rootfs, *options, script=script).split() == ["1,5", "yes", "yes", "yes"]
    for more in (["--device", "/dev/full:r"], ["--device-cgroup-rule", "c 1:7 r"]):
        assert "this container's cgroup does not limit devices" in refused(shared_engine, rootfs, *more)


def test_a_privileged_container_sees_everything(shared_engine: Engine, rootfs: Path) -> None:
    script = f"{STATUS}; ls /dev/net /dev/loop0; grep -cE ' /sys/firmware|proc /proc/' /proc/mounts; {attempts('/dev/full')}"
    seen = run(shared_engine, rootfs, "--privileged", script=script)
    found = parsed(seen.split("\n/dev/loop0")[0])
    assert found.active == found.bounding
    assert "CAP_SYS_ADMIN" in found.active if isinstance(shared_engine, UserEngine) else found.active == EVERY
    assert seen.split("\n")[-2:] == ["0", "yes"]
    assert "tun" in seen


def test_a_user_by_number_has_a_name(shared_engine: Engine, rootfs: Path) -> None:
    script = "whoami; id -gn; tail -n1 /etc/passwd; tail -n1 /etc/group"
    told = ["1234", "77", "1234:*:1234:77:container user:/:/bin/sh", "77:x:77:1234"]
    assert run(shared_engine, rootfs, "--user", "1234:77", script=script).split("\n") == told
    given = ("--passwd-entry", "me:x:$UID:$GID::$HOME:/bin/sh", "--group-entry", "us:x:$GID:$USERLIST")
    told = ["me", "us", "me:x:1234:77::/tmp:/bin/sh", "us:x:77:1234"]
    assert (
        run(shared_engine, rootfs, "--user", "1234:77", "-w", "/tmp", *given, script=script).split("\n")
        == told
    )
    without = run(shared_engine, rootfs, "--user", "1234:77", "--passwd=false", script="tail -n1 /etc/passwd")
    assert without.startswith("nobody:")
    added = ("--hostuser", "games", "--user", "games")
    games = pwd.getpwnam("games")
    assert run(shared_engine, rootfs, *added, script="id -un; id -u").split() == ["games", str(games.pw_uid)]


def test_limits_are_the_ones_asked_for(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "fsize=-1")
    script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f"
    assert run(shared_engine, rootfs, *options, script=script).split() == ["100", "200", "0", "unlimited"]
    shared_engine.cli("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true")
    told = {
        limit["Name"]: (limit["Soft"], limit["Hard"])
        for limit in shared_engine.inspect("c")["HostConfig"]["Ulimits"]
    }
    assert told["RLIMIT_NOFILE"] == (100, 200)
    assert told["RLIMIT_FSIZE"] == (-1, -1)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = run(shared_engine, rootfs, "--ulimit", "host", script="ulimit -Sn; ulimit -Hn").split()
    assert [int(number) for number in seen] == list(own)


@pytest.mark.oci_runtime("rootless")
def test_a_user_whom_an_ordinary_users_namespace_does_not_have_is_refused(
    shared_engine: Engine, rootfs: Path
) -> None:
    for user, named in (("1000000", "uid 1000000"), ("0:1000001", "gid 1000001")):
        said = refused(shared_engine, rootfs, "--user", user)
        assert f"cannot use the {named}: this user's user namespace does not have it" in said


@pytest.fixture
def configured(shared_engine: Engine, readable: Path) -> Iterator[None]:
    profile(readable / "seccomp.json", "mkdir", "mkdirat")
    before = shared_engine.configuration.read_text()
    shared_engine.add_settings(f"""[containers]
annotations = ["kind=configured"]
default_capabilities = ["CHOWN", "CAP_KILL"]
default_ulimits = ["nofile=111:222"]
devices = ["/dev/zero:/dev/mine:rw"]
seccomp_profile = "{readable}/seccomp.json"
""")
    shared_engine.cli("system", "reload")
    yield
    shared_engine.configuration.write_text(before)
    shared_engine.cli("system", "reload")


@pytest.mark.usefixtures("configured")
@pytest.mark.skipif(not this_host().seccomp, reason="this kernel has no seccomp")
def test_what_is_configured_holds_for_every_container(shared_engine: Engine, rootfs: Path) -> None:
    script = f"{STATUS}; echo; ulimit -Sn; ulimit -Hn; {attempts('/dev/mine')}; mkdir /made 2>&1"
    seen, rest = run(shared_engine, rootfs, "--cap-drop", "kill", script=f"{script}; true").split("\n\n")
    assert parsed(seen).active == parsed(seen).bounding == {"CAP_CHOWN"}
    assert rest.split("\n")[:3] == ["111", "222", "yes"]
    assert "Block device required" in rest
    shared_engine.cli("create", "--name", "c", "--cap-add", "net_raw", "--rootfs", f"{rootfs}:O", "true")
    told = shared_engine.inspect("c")["HostConfig"]
    assert (told["CapAdd"], told["CapDrop"]) == (["CAP_NET_RAW"], [])
    assert [device["PathInContainer"] for device in told["Devices"]] == ["/dev/mine"]


@pytest.mark.oci_runtime("runc", "rootless")
def test_bad_input_makes_nothing_and_is_named(shared_engine: Engine, rootfs: Path, readable: Path) -> None:
    bad = readable / "bad.json"
    bad.write_text('{"defaultAction": "SCMP_ACT_ALLOWED"}')
    for options, sentence in (
        (["--cap-add", "NET_ADMINISTRATOR"], "--cap-add 'NET_ADMINISTRATOR': there is no such capability"),
        (["--cap-drop", "ALL", "--cap-add", "ALL"], "--cap-add ALL together with --cap-drop ALL"),
        (["--cap-drop", "kill", "--cap-add", "kill"], "--cap-add CAP_KILL together with --cap-drop"),
        (["--privileged", "--cap-drop", "kill"], "--cap-drop together with --privileged"),
        (["--security-opt", "no-new-privilege"], "--security-opt cannot be 'no-new-privilege'"),
        (["--security-opt", f"seccomp={bad}"], f"seccomp={bad}: there is no action 'SCMP_ACT_ALLOWED'"),
        (["--security-opt", "seccomp=/none.json"], "seccomp=/none.json: no such file"),
        (["--security-opt", "label=tipe:x"], "--security-opt label=tipe:x"),
        (["--security-opt", "mask=a"], "--security-opt mask=a: the path is not absolute"),
        (["--security-opt", "proc-opts=hide"], "proc-opts=hide: /proc has no such option"),
        (["--device", "/dev/none-such"], "--device /dev/none-such: no such file or directory"),
        (["--device", "/etc/passwd"], "--device /etc/passwd: it is no device"),
        (["--device", "/dev/null:/dev/x:rx"], "'rx' is no combination of r, w and m"),
        (["--device", "vendor.com/class=1"], "--device vendor.com/class=1: CDI devices are not supported"),
        (["--device-cgroup-rule", "c 1 r"], "--device-cgroup-rule 'c 1 r'"),
        (["--gpus", "all"], "cannot use --gpus"),
        (["--hostuser", "no-such-user"], "--hostuser 'no-such-user': the host has no such user"),
        (["--passwd-entry", "typo"], "--passwd-entry 'typo': it is no line with 7 fields"),
        (["--group-entry", "typo"], "--group-entry 'typo': it is no line with 4 fields"),
        (["--user", "no-such-user"], "no-such-user"),
        (["--group-add", "no-such-group"], "no-such-group"),
        (["--ulimit", "nofile=2:1"], "--ulimit cannot be 'nofile=2:1'"),
        (["--ulimit", "nofiles=1"], "--ulimit cannot be 'nofiles=1'"),
        (["--security-opt", "apparmor=mine"], "--security-opt apparmor=mine"),
    ):
        assert sentence in refused(shared_engine, rootfs, *options), options
