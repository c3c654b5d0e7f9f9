"""Namespaces that containers share with one another, as the containers themselves see it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Engine

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
KINDS = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup"}
"""Options, and the kernel's names."""
MODES = {
    "pid": "PidMode",
    "network": "NetworkMode",
    "ipc": "IpcMode",
    "uts": "UTSMode",
    "cgroupns": "CgroupMode",
}


def start(
    engine: Engine, rootfs: Path, name: str, *options: str, command: tuple[str, ...] = SLEEP
) -> dict[str, str]:
    """Run a container in the background; its namespaces."""
    engine.cli("run", "-d", "--name", name, *options, "--rootfs", f"{rootfs}:O", *command)
    return spaces(engine, name)


def spaces(engine: Engine, name: str) -> dict[str, str]:
    pid = engine.inspect(name)["State"]["Pid"]
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS.values()}


def refused(engine: Engine, rootfs: Path, *options: str) -> str:
    """What a command says that makes nothing."""
    before = engine.out("ps", "-aq")
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert engine.out("ps", "-aq") == before
    return done.stderr


def shm_mounts() -> str:
    """What is made ready of shared memory on the host."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if "/mounts/shm " in line)


def rootless(engine: Engine) -> bool:
    return isinstance(engine, UserEngine)


@pytest.mark.parametrize("option", KINDS)
def test_a_container_has_a_namespace_of_its_own_or_the_hosts(
    shared_engine: Engine, rootfs: Path, option: str
) -> None:
    """An ordinary user's `host` is what the user's engine lives in; its network is the host's."""
    kind = KINDS[option]
    around = {name: os.readlink(f"/proc/{shared_engine.pid}/ns/{name}") for name in KINDS.values()}
    own = start(shared_engine, rootfs, "own", f"--{option}", "none" if option == "network" else "private")
    theirs = start(shared_engine, rootfs, "theirs", f"--{option}", "host")
    assert own[kind] != around[kind] == theirs[kind]
    shared = {name for name in KINDS.values() if theirs[name] == around[name]}
    assert shared - {kind} <= {"cgroup"}
    assert shared_engine.inspect("theirs")["HostConfig"][MODES[option]] == "host"
    assert shared_engine.out("exec", "theirs", "readlink", f"/proc/self/ns/{kind}") == around[kind]


@pytest.mark.parametrize("option", KINDS)
def test_a_container_joins_a_namespace_of_another_one_and_no_other(
    shared_engine: Engine, rootfs: Path, option: str
) -> None:
    own = () if option != "cgroupns" else ("--cgroupns", "private")
    theirs = start(shared_engine, rootfs, "owner", *own)
    mine = start(shared_engine, rootfs, "guest", f"--{option}", "container:owner")
    assert mine[KINDS[option]] == theirs[KINDS[option]]
    shared = {kind for kind in KINDS.values() if mine[kind] == theirs[kind]}
    assert shared - {KINDS[option]} <= {"cgroup"}  # on cgroup v1 all are in the host's
    id = shared_engine.inspect("owner")["Id"]
    told = shared_engine.inspect("guest")
    assert told["HostConfig"][MODES[option]] == f"container:{id}"
    assert told["Dependencies"] == [id]
    # A further command is in it as well.
    seen = shared_engine.out("exec", "guest", "readlink", f"/proc/self/ns/{KINDS[option]}")
    assert seen == theirs[KINDS[option]]


@pytest.mark.parametrize("option", KINDS)
def test_a_container_joins_a_namespace_at_a_path(shared_engine: Engine, rootfs: Path, option: str) -> None:
    own = () if option != "cgroupns" else ("--cgroupns", "private")
    theirs = start(shared_engine, rootfs, "owner", *own)
    pid = shared_engine.inspect("owner")["State"]["Pid"]
    path = f"/proc/{pid}/ns/{KINDS[option]}"
    mine = start(shared_engine, rootfs, "guest", f"--{option}", f"ns:{path}")
    assert mine[KINDS[option]] == theirs[KINDS[option]]
    told = shared_engine.inspect("guest")
    assert told["HostConfig"][MODES[option]] == f"ns:{path}"
    assert told["Dependencies"] == []


def test_processes_of_both_see_one_another(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", command=("sh", "-c", "trap 'exit 0' TERM; sleep 1001 & wait"))
    until(lambda: "sleep 1001" in engine.out("exec", "owner", "ps"), "it does not begin")
    seen = engine.out(
        "run", "--rm", "--pid", "container:owner", "--rootfs", f"{rootfs}:O", "sh", "-c", "echo $$; ps"
    )
    own, _, listed = seen.partition("\n")
    assert int(own) > 1
    assert "sleep 1001" in listed
    # Ended by force, no process of the guest's is left, though the namespace goes on.
    guest = ("sh", "-c", "sleep 1002 & exec sleep 1003")
    start(engine, rootfs, "guest", "--pid", "container:owner", command=guest)
    until(lambda: "sleep 1002" in engine.out("exec", "owner", "ps"), "it does not begin")
    engine.cli("rm", "-f", "-t", "0", "guest")
    left = engine.out("exec", "owner", "ps")
    assert "sleep 1001" in left
    assert "sleep 1003" not in left
    if not rootless(engine):  # who has no cgroup on v1
        assert "sleep 1002" not in left


def test_shared_memory_is_the_owners(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", "--shm-size", "3m")
    engine.cli("exec", "owner", "sh", "-c", "echo theirs > /dev/shm/x; mkdir /dev/mqueue/../shm/d")
    script = (
        "cat /dev/shm/x; df -k /dev/shm | tail -n1 | awk '{print $2}'; echo mine > /dev/shm/y; ls /dev/mqueue"
    )
    seen = engine.out(
        "run", "--rm", "--ipc", "container:owner", "--rootfs", f"{rootfs}:O", "sh", "-c", script
    )
    assert seen.split() == ["theirs", "3072"]
    assert engine.out("exec", "owner", "cat", "/dev/shm/y") == "mine"
    # Its options are the usual ones, and nothing of it is mounted on the host when it is over.
    start(engine, rootfs, "guest", "--ipc", "container:owner")
    line = engine.out("exec", "guest", "grep", " /dev/shm ", "/proc/mounts")
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[3].split(","))
    # Through a guest one joins what the guest has joined.
    start(engine, rootfs, "third", "--ipc", "container:guest")
    assert engine.out("exec", "third", "cat", "/dev/shm/x") == "theirs"
    assert spaces(engine, "third")["ipc"] == spaces(engine, "owner")["ipc"]
    engine.cli("rm", "-f", "-t", "0", "third", "guest")
    assert engine.out("exec", "owner", "cat", "/dev/shm/y") == "mine"


@pytest.mark.oci_runtime(*BY_USER)
def test_a_link_in_the_place_of_shared_memory_leads_nowhere(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", "--privileged")
    swap = "umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm"
    engine.cli("exec", "--privileged", "owner", "sh", "-c", swap)
    run = ("run", "--rm", "--ipc", "container:owner", "--rootfs", f"{rootfs}:O", "true")
    done = engine.cli(*run, check=False)
    assert done.returncode == 125
    assert "container 'owner', whose IPC namespace it joins (--ipc), has no /dev/shm" in done.stderr
    assert engine.out("ps", "-aq", "--format", "{{.Names}}") == "owner"
    assert f"{engine.tmpdir}/containers" not in shm_mounts()


@pytest.mark.oci_runtime(*BY_USER)
def test_what_the_owner_has_mounted_at_shared_memory_is_shared(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", "--mount", "type=tmpfs,dst=/dev/shm,tmpfs-size=2m")
    engine.cli("exec", "owner", "sh", "-c", "echo theirs > /dev/shm/x")
    run = ("run", "--rm", "--ipc", "container:owner", "--rootfs", f"{rootfs}:O", "cat", "/dev/shm/x")
    assert engine.out(*run) == "theirs"


def test_only_shareable_ipc_is_joined(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    for mode in ("private", "none"):
        engine.cli("create", "--name", mode, "--ipc", mode, "--rootfs", f"{rootfs}:O", "true")
        assert engine.inspect(mode)["HostConfig"]["IpcMode"] == mode
        said = refused(engine, rootfs, "--ipc", f"container:{mode}")
        assert f"cannot use --ipc container:{mode}" in said
        assert "--ipc shareable" in said
    engine.cli("create", "--name", "host", "--ipc", "host", "--rootfs", f"{rootfs}:O", "true")
    engine.cli("create", "--name", "guest", "--ipc", "container:host", "--rootfs", f"{rootfs}:O", *SLEEP)
    told = engine.inspect("guest")
    assert (told["HostConfig"]["IpcMode"], told["Dependencies"]) == ("host", [])
    engine.cli("start", "guest")
    assert spaces(engine, "guest")["ipc"] == os.readlink("/proc/self/ns/ipc")
    engine.cli("create", "--name", "owner", "--rootfs", f"{rootfs}:O", "true")
    assert "--shm-size together with --ipc container" in refused(
        engine, rootfs, "--ipc", "container:owner", "--shm-size", "1m"
    )


def test_ipc_none_has_no_shared_memory(shared_engine: Engine, rootfs: Path) -> None:
    script = "grep -c ' /dev/shm ' /proc/mounts; readlink /proc/self/ns/ipc"
    seen = shared_engine.out(
        "run", "--rm", "--ipc", "none", "--rootfs", f"{rootfs}:O", "sh", "-c", script
    ).split()
    assert seen[0] == "0"
    assert seen[1] != os.readlink("/proc/self/ns/ipc")


def test_a_shared_network_is_the_same_loopback(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    serve = "trap 'exit 0' TERM; while :; do echo hello | nc -l -p 8099; done"
    start(engine, rootfs, "owner", command=("sh", "-c", serve))
    ask = "until nc -w 1 127.0.0.1 8099 </dev/null | grep hello; do sleep 0.1; done; ls /sys/class/net"
    seen = engine.out(
        "run", "--rm", "--network", "container:owner", "--rootfs", f"{rootfs}:O", "sh", "-c", ask
    ).split()
    assert seen[0] == "hello"
    assert "lo" in seen


def test_the_host_name_is_the_owners(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", "--hostname", "big-box")
    script = "hostname; echo $HOSTNAME"
    run = ("run", "--rm", "--uts", "container:owner")
    assert engine.out(*run, "--rootfs", f"{rootfs}:O", "sh", "-c", script).split() == ["big-box", "big-box"]
    own = engine.out(*run, "-e", "HOSTNAME=mine", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    assert own.split() == ["big-box", "mine"]
    pid = engine.inspect("owner")["State"]["Pid"]
    start(engine, rootfs, "guest", "--uts", f"ns:/proc/{pid}/ns/uts")
    assert engine.inspect("guest")["Config"]["Hostname"] == "big-box"
    assert engine.out("exec", "guest", "sh", "-c", script).split() == ["big-box", "big-box"]
    for mode in ("container:owner", "host", f"ns:/proc/{pid}/ns/uts"):
        assert f"cannot use --hostname together with --uts {mode}" in refused(
            engine, rootfs, "--uts", mode, "--hostname", "x"
        )
    engine.cli("rm", "-f", "-t", "0", "guest")


def test_a_container_in_the_hosts_network_has_the_hosts_name(shared_engine: Engine, rootfs: Path) -> None:
    run = ("run", "--rm", "--network", "host")
    assert shared_engine.out(*run, "--rootfs", f"{rootfs}:O", "hostname") == os.uname().nodename
    assert shared_engine.out(*run, "-h", "mine", "--rootfs", f"{rootfs}:O", "hostname") == "mine"
    assert spaces_differ(shared_engine, rootfs, *run)


def spaces_differ(engine: Engine, rootfs: Path, *run: str) -> bool:
    seen = engine.out(*run, "--rootfs", f"{rootfs}:O", "readlink", "/proc/self/ns/uts")
    return seen != os.readlink("/proc/self/ns/uts")


# Who has to run, and who waits for whom


def test_the_owner_is_started_first_and_cannot_be_removed_before(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    engine.cli("create", "--name", "owner", "--rootfs", f"{rootfs}:O", *SLEEP)
    engine.cli("create", "--name", "guest", "--uts", "container:owner", "--rootfs", f"{rootfs}:O", *SLEEP)
    done = engine.cli("rm", "owner", check=False)
    assert "container 'guest' depends on it" in done.stderr
    engine.cli("start", "guest")
    assert engine.inspect("owner")["State"]["Running"]
    assert spaces(engine, "guest")["uts"] == spaces(engine, "owner")["uts"]
    # The guest keeps what it has joined, and joins anew when it starts again.
    before = spaces(engine, "guest")["uts"]
    engine.cli("restart", "-t", "0", "owner")
    assert spaces(engine, "guest")["uts"] == before != spaces(engine, "owner")["uts"]
    engine.cli("restart", "-t", "0", "guest")
    assert spaces(engine, "guest")["uts"] == spaces(engine, "owner")["uts"]
    engine.cli("rm", "-t", "0", "-f", "--depend", "owner")
    assert engine.out("ps", "-aq") == ""


def test_a_namespace_of_a_stopped_container_is_not_joined(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    engine.cli("create", "--name", "owner", "--rootfs", f"{rootfs}:O", "true")
    engine.cli("create", "--name", "guest", "--pid", "container:owner", "--rootfs", f"{rootfs}:O", *SLEEP)
    asked = {"selection": {"names": ["guest"]}, "recursive": False}
    told = engine.call("io.pyman.Container.Start", asked)["results"][0]["error"]["message"]
    assert "container 'owner', which it depends on, is not running" in told
    # Its owner ends at once: whichever comes first, the guest does not run outside.
    done = engine.cli("start", "guest", check=False)
    if done.returncode:
        assert "guest" in done.stderr
        assert not engine.inspect("guest")["State"]["Running"]


def test_the_end_of_a_process_namespace_is_the_end_of_all_in_it(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner")
    start(engine, rootfs, "guest", "--pid", "container:owner")
    engine.cli("kill", "-s", "KILL", "owner")
    assert engine.out("wait", "guest") == "137"


@pytest.mark.oci_runtime(*BY_USER)
def test_a_restart_of_the_owner_of_a_process_namespace_brings_its_guests_back(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner")
    start(engine, rootfs, "guest", "--pid", "container:owner", "--restart", "always")
    since = engine.last_seq()
    engine.cli("restart", "-t", "0", "owner")
    engine.await_event(lambda event: (event["Status"], event["Name"]) == ("start", "guest"), since)
    assert spaces(engine, "guest")["pid"] == spaces(engine, "owner")["pid"]
    starts = [event["Name"] for event in engine.events(since, event=["start"])]
    assert starts == ["owner", "guest"]
    engine.cli("rm", "-f", "-t", "0", "guest", "owner")


@pytest.mark.oci_runtime(*BY_USER)
def test_who_stops_the_owner_of_a_process_namespace_has_it_stay_down(
    shared_engine: Engine, rootfs: Path
) -> None:
    """A restart of the guest by its policy would bring the owner back."""
    engine = shared_engine
    start(engine, rootfs, "owner")
    start(engine, rootfs, "guest", "--pid", "container:owner", "--restart", "always")
    engine.cli("stop", "-t", "0", "owner")
    engine.cli("wait", "guest")
    told = engine.inspect("guest")["Restart"]
    assert (told["Next"], told["Count"]) == ("", 0)
    assert "a user stopped container 'owner'" in told["Reason"]
    assert not engine.inspect("owner")["State"]["Running"]
    # One that ends by itself, and is up again, gets its guest back.
    engine.cli("update", "--restart", "always", "owner")
    engine.cli("start", "guest")
    since = engine.last_seq()
    os.kill(engine.inspect("guest")["State"]["Pid"], signal.SIGKILL)
    engine.await_event(lambda event: (event["Status"], event["Name"]) == ("start", "guest"), since)
    assert spaces(engine, "guest")["pid"] == spaces(engine, "owner")["pid"]
    engine.cli("rm", "-f", "-t", "0", "guest", "owner")


@pytest.mark.oci_runtime(*BY_USER)
def test_the_next_supervisor_knows_who_needs_whom(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    theirs = start(engine, rootfs, "owner", "--restart", "always")
    start(engine, rootfs, "guest", "--ipc", "container:owner", "--restart", "always")
    engine.kill()
    assert engine.cli("rm", "owner", check=False).returncode != 0
    assert spaces(engine, "guest")["ipc"] == theirs["ipc"]
    engine.cli("restart", "-t", "0", "guest")
    assert spaces(engine, "guest")["ipc"] == theirs["ipc"]
    engine.cli("rm", "-t", "0", "-f", "guest", "owner")


@pytest.mark.oci_runtime("runc")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--pid", "container:"), "option --pid cannot be 'container:': the name of a container is missing"),
        (("--ipc", "ns:"), "option --ipc cannot be 'ns:': the path of a namespace is missing"),
        (("--uts", "ns:run/x"), "option --uts cannot be 'ns:run/x': the path is not absolute"),
        (("--pid", "container:nobody"), "--pid container:nobody: there is no such"),
        (("--network", "ns:/nowhere"), "cannot use --network ns:/nowhere: no such file or directory"),
        (("--network", "ns:/etc/passwd"), "cannot use --network ns:/etc/passwd: it is no network namespace"),
        (("--pid", "ns:/proc/self/ns/uts"), "it is no pid namespace"),
        (("--uts", "ns:/dev/zero"), "it is no uts namespace"),
        (("--pid", "pod"), "option --pid cannot be 'pod'"),
        (("--pid", "container:owner", "--init"), "cannot use --init with --pid container:owner: "),
        (("--name", "me", "--pid", "container:me"), "me → me"),
        (("--name", "owner", "--replace", "--pid", "container:owner"), "owner → owner"),
        (
            ("--pid", "container:owner", "--cgroups", "disabled"),
            "cannot use --pid container:owner together with --cgroups disabled",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], complaint: str
) -> None:
    shared_engine.cli("create", "--name", "owner", "--rootfs", f"{rootfs}:O", "true")
    assert complaint in refused(shared_engine, rootfs, *options)


# User namespaces beside


@pytest.fixture
def first(shared_engine: Engine) -> int:
    """The first id that the engine may map besides its own."""
    return 1 if rootless(shared_engine) else 300_000


def test_a_user_namespace_is_joined_with_everything_in_it(
    shared_engine: Engine, rootfs: Path, first: int
) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner", "--uidmap", f"0:{first}:2000")
    engine.cli("exec", "owner", "sh", "-c", "echo theirs > /dev/shm/x")
    everything = [
        word for option in KINDS if option != "cgroupns" for word in (f"--{option}", "container:owner")
    ]
    mine = start(engine, rootfs, "guest", "--userns", "container:owner", *everything)
    theirs = spaces(engine, "owner")
    assert all(mine[kind] == theirs[kind] for kind in ("pid", "net", "ipc", "uts"))
    assert engine.out("exec", "guest", "cat", "/dev/shm/x") == "theirs"
    assert "sleep" in engine.out("exec", "guest", "ps")


@pytest.mark.parametrize("option", ["ipc", "network", "uts"])
def test_a_container_with_ids_of_its_own_joins_others(
    shared_engine: Engine, rootfs: Path, first: int, option: str
) -> None:
    engine = shared_engine
    theirs = start(engine, rootfs, "owner")
    mine = start(engine, rootfs, "guest", "--uidmap", f"0:{first}:2000", f"--{option}", "container:owner")
    assert mine[KINDS[option]] == theirs[KINDS[option]]


@pytest.mark.parametrize("option", ["pid", "ipc", "network", "uts"])
def test_a_namespace_of_a_container_with_other_ids_is_joined(
    shared_engine: Engine, rootfs: Path, first: int, option: str
) -> None:
    engine = shared_engine
    theirs = start(engine, rootfs, "owner", "--uidmap", f"0:{first}:2000")
    mine = start(engine, rootfs, "guest", f"--{option}", "container:owner")
    assert mine[KINDS[option]] == theirs[KINDS[option]]


def test_processes_of_another_user_namespace_cannot_be_shown(
    shared_engine: Engine, rootfs: Path, first: int
) -> None:
    engine = shared_engine
    start(engine, rootfs, "owner")
    options = ("--uidmap", f"0:{first}:2000", "--pid", "container:owner")
    done = engine.cli("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert "(--pid) cannot be shown in its user namespace" in done.stderr
    assert engine.out("ps", "-aq", "--format", "{{.Names}}") == "owner"


@pytest.fixture
def foreign_network() -> Iterator[str]:
    """The path of a network namespace of root's, as `ip netns` makes them, but for what that leaves mounted."""
    with tempfile.NamedTemporaryFile(prefix="pm-netns-", dir="/tmp") as file:
        os.chmod(file.name, 0o644)
        subprocess.run(["unshare", f"--net={file.name}", "true"], check=True)
        yield file.name
        subprocess.run(["umount", file.name], check=True)


@pytest.mark.oci_runtime("runc", "rootless")
def test_a_named_network_namespace_is_joined_by_whom_it_belongs_to(
    foreign_network: str, engine: Engine, rootfs: Path
) -> None:
    """The engine is started after it, and so sees it mounted in its own mount namespace, too."""
    run = ("run", "--rm", "--network", f"ns:{foreign_network}", "--rootfs", f"{rootfs}:O")
    done = engine.cli(*run, "stat", "-Lc", "%i", "/proc/self/ns/net", check=False)
    if rootless(engine):
        assert done.returncode == 125
        assert "the network namespace that it is to join (--network) belongs to another user" in done.stderr
    else:
        assert int(done.stdout) == os.stat(foreign_network).st_ino
