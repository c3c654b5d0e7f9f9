"""User namespaces of containers: what a container sees of itself, as root's and as an ordinary user's."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import idmaps
from tests.support.runtimes import BY_USER
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

MAPS = "cat /proc/self/uid_map; echo; cat /proc/self/gid_map"
SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


def _maps(text: str) -> idmaps.IdMaps:
    uids, gids = text.split("\n\n")
    return idmaps.IdMaps(idmaps.parse(uids), idmaps.parse(gids))


def _rootless(engine: Engine) -> bool:
    return isinstance(engine, UserEngine)


def _run(engine: Engine, rootfs: Path, *options: str, script: str = MAPS) -> str:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def _refused(engine: Engine, rootfs: Path, *options: str, root: str = "{}:O") -> str:
    """What a command says that makes nothing."""
    done = engine.cli("create", *options, "--rootfs", root.format(rootfs), "true", check=False)
    assert done.returncode == 125
    assert engine.out("ps", "-aq") == ""
    return done.stderr


@pytest.fixture
def first(shared_engine: Engine) -> int:
    """The first id that the engine may map besides its own: of the host, or of the user's namespace."""
    return 1 if _rootless(shared_engine) else 300_000


@pytest.fixture
def pool(shared_engine: Engine) -> Iterator[None]:
    """Ids for `auto`: root's engine takes them from a name's subordinate ids."""
    conf = shared_engine.storage_configuration
    before = conf.read_text()
    conf.write_text(f'{before}[storage.options]\nroot-auto-userns-user = "pyman-test"\n')
    shared_engine.cli("system", "reload")
    yield
    conf.write_text(before)
    shared_engine.cli("system", "reload")


def test_a_map_is_the_containers(shared_engine: Engine, rootfs: Path, first: int) -> None:
    made = _maps(
        _run(shared_engine, rootfs, "--uidmap", f"0:{first}:2000", "--gidmap", f"0:{first + 5}:3000")
    )
    assert made == ((idmaps.IdRange(0, first, 2000),), (idmaps.IdRange(0, first + 5, 3000),))


def test_a_container_is_root_in_its_own_view_of_the_files(
    shared_engine: Engine, rootfs: Path, first: int
) -> None:
    """Also where it is nobody to its engine's directories."""
    script = (
        "id -u; stat -c %u:%g /; touch /new; stat -c %u:%g /new; chown 1000:1000 /new && stat -c %u:%g /new"
    )
    options = ("--uidmap", f"0:{first}:2000")
    assert _run(shared_engine, rootfs, *options, script=script).split() == ["0", "0:0", "0:0", "1000:1000"]
    assert not (rootfs / "new").exists()


@pytest.mark.oci_runtime("runc", "crun")
def test_roots_view_shows_files_with_the_ids_they_have_on_disk(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--uidmap", "0:300000:2000", "--gidmap", "0:400000:2000")
    seen = _run(
        shared_engine, rootfs, *options, script="stat -c %u:%g /etc/passwd /home/worker; echo >> /etc/passwd"
    )
    assert seen.split() == ["0:0", "1000:1000"]


def test_a_root_filesystem_itself_is_shown_with_its_ids(
    shared_engine: Engine, rootfs: Path, tmp_path: Path
) -> None:
    if _rootless(shared_engine):
        said = _refused(shared_engine, rootfs, "--userns", "keep-id", root="{}:idmap")
        assert "an ordinary user's mounts may not" in said
        return
    root = tmp_path / "copy"
    subprocess.run(["cp", "-a", rootfs, root], check=True)
    options = ("run", "--rm", "--uidmap", "0:300000:2000", "--rootfs", f"{root}:idmap")
    script = "stat -c %u:%g /home/worker; touch /mine; touch /theirs; chown 1000:1000 /theirs"
    assert shared_engine.out(*options, "sh", "-c", script) == "1000:1000"
    assert (root / "mine").stat().st_uid == 0
    assert (root / "theirs").stat().st_uid == 1000


def test_a_foreign_root_filesystem_can_be_used_all_the_same(
    shared_engine: Engine, rootfs: Path, first: int
) -> None:
    """Nothing in it is the container's: what has to be mounted on is made for it."""
    directory = shared_engine.path / "copy"
    subprocess.run(["cp", "-a", rootfs, directory], check=True)
    for name in ("proc", "dev", "run", "sys"):
        shutil.rmtree(directory / name)  # other tests have run containers in the one that this was
    (directory / "run").symlink_to("/etc")
    options = ("run", "--rm", "--uidmap", f"0:{first}:2000", "--rootfs", str(directory))
    assert shared_engine.out(*options, "sh", "-c", "cat /proc/self/comm; touch /x || echo no").split() == [
        "cat",
        "no",
    ]
    assert (directory / "etc/.containerenv").exists()
    assert not os.path.lexists("/etc/.containerenv")
    subprocess.run(["rm", "-rf", directory], check=True)


def test_keep_id_runs_the_command_as_the_caller(shared_engine: Engine, rootfs: Path) -> None:
    seen = _run(
        shared_engine, rootfs, "--userns", "keep-id", script="id -u; id -g; id -un; tail -n1 /etc/passwd"
    )
    if not _rootless(shared_engine):
        assert seen.splitlines()[:3] == ["0", "0", "root"]
        return
    assert isinstance(shared_engine, UserEngine)
    user = shared_engine.user
    entry = f"{user.name}:*:{user.uid}:{user.gid}::/:/bin/sh"
    assert seen.splitlines() == [str(user.uid), str(user.gid), user.name, entry]
    maps = _maps(_run(shared_engine, rootfs, "--userns", "keep-id"))
    assert idmaps.IdRange(user.uid, 0, 1) in maps.uids
    assert idmaps.IdRange(user.gid, 0, 1) in maps.gids
    # Also for a command that runs as somebody else.
    others = ("--userns", "keep-id", "--user", "777:777", "--passwd-entry", "$USERNAME:x:$UID:$GID:::")
    seen = _run(shared_engine, rootfs, *others, script="tail -n2 /etc/passwd")
    assert seen.splitlines() == [f"{user.name}:x:{user.uid}:{user.gid}:::", "777:x:777:777:::"]
    by_name = ("--userns", "keep-id", "--user", user.name, "-w", "/tmp")
    script = "id -u; echo $HOME; tail -n1 /etc/passwd | cut -d: -f6"
    assert _run(shared_engine, rootfs, *by_name, script=script).split() == [str(user.uid), "/tmp", "/tmp"]
    # A file of the container's is the user's on the host, and the other way round.
    assert _run(shared_engine, rootfs, "--userns", "keep-id", script="stat -c %u /etc") == str(user.uid)


def test_keep_id_takes_other_ids_a_size_and_another_user(shared_engine: Engine, rootfs: Path) -> None:
    options = ("--userns", "keep-id:uid=200,gid=210")
    assert _run(shared_engine, rootfs, *options, script="id -u; id -g").split() == ["200", "210"]
    assert _run(shared_engine, rootfs, *options, "--user", "0", script="id -u") == "0"
    assert _run(shared_engine, rootfs, *options, "--user", "nobody", script="id -u") == "65534"
    if _rootless(shared_engine):
        maps = _maps(_run(shared_engine, rootfs, "--userns", "keep-id:uid=200,size=500"))
        assert idmaps.count(maps.uids) == 500
    else:
        assert "every id of the host is kept" in _refused(shared_engine, rootfs, "--userns", "keep-id:size=5")


@pytest.mark.oci_runtime(*BY_USER)
def test_nomap_leaves_out_the_user(shared_engine: Engine, rootfs: Path) -> None:
    if not _rootless(shared_engine):
        assert "as root" in _refused(shared_engine, rootfs, "--userns", "nomap")
        return
    maps = _maps(_run(shared_engine, rootfs, "--userns", "nomap"))
    assert not any(idmaps.has_outside(0, lines) for lines in maps)


@pytest.mark.usefixtures("pool")
def test_auto_gives_every_container_ids_of_its_own(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    taken: list[range] = []
    for name, options in (("a", ""), ("b", ":size=5000"), ("c", "")):
        engine.cli(
            "run", "-d", "--name", name, "--userns", f"auto{options}", "--rootfs", f"{rootfs}:O", *SLEEP
        )
        told = engine.inspect(name)["HostConfig"]
        assert told["UsernsMode"] == "private"
        seen = _maps(engine.out("exec", name, "sh", "-c", MAPS))
        for kind, lines in zip(("UidMap", "GidMap"), seen, strict=True):
            assert told["IDMappings"][kind] == [f"{i}:{o}:{size}" for i, o, size in lines]
        assert idmaps.count(seen.uids) == (5000 if options else 1024)
        mine = [range(line.outside, line.outside + line.size) for line in seen.uids]
        assert not [1 for one in mine for other in taken if one.start < other.stop and other.start < one.stop]
        taken += mine
    # The next supervisor knows them, and what a removed container had is free again.
    engine.kill()
    engine.cli("rm", "-f", "-t", "0", "b")
    again = _maps(_run(engine, rootfs, "--userns", "auto:size=5000"))
    assert again.uids[0].outside == taken[1].start


@pytest.mark.usefixtures("pool")
def test_auto_is_as_large_as_the_root_filesystem_needs(shared_engine: Engine, rootfs: Path) -> None:
    directory = shared_engine.path / "copy"
    subprocess.run(["cp", "-a", rootfs, directory], check=True)
    with (directory / "etc/passwd").open("a") as file:
        file.write("big:x:5000:6000::/:/bin/sh\n")
    try:
        assert idmaps.count(_maps(_run(shared_engine, directory, "--userns", "auto")).uids) == 6001
        with (directory / "etc/group").open("a") as file:
            file.write("huge:x:100000:\n")
        assert "needs 100001 ids" in _refused(shared_engine, directory, "--userns", "auto")
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)


@pytest.mark.usefixtures("pool")
def test_auto_leaves_alone_what_other_engines_on_the_store_have(shared_engine: Engine, rootfs: Path) -> None:
    before = _maps(_run(shared_engine, rootfs, "--userns", "auto"))
    begin = before.uids[0].outside
    line = f'{{"container_id": 0, "host_id": {begin}, "size": 3000}}'
    records = shared_engine.root / "overlay-containers"
    records.mkdir()
    (records / "containers.json").write_text(f'[{{"id": "x", "uidmap": [{line}], "gidmap": [{line}]}}]')
    if isinstance(shared_engine, UserEngine):
        shared_engine.user.owns(records)
    after = _maps(_run(shared_engine, rootfs, "--userns", "auto"))
    assert after.uids[0].outside == after.gids[0].outside == begin + 3000
    subprocess.run(["rm", "-r", records], check=True)


def test_a_container_joins_anothers_namespace(shared_engine: Engine, rootfs: Path, first: int) -> None:
    engine = shared_engine
    root = ("--rootfs", f"{rootfs}:O")
    id = engine.out("create", "--name", "owner", "--uidmap", f"0:{first}:2000", *root, *SLEEP)
    joins = ("create", "--name", "other", "--userns", "container:owner", *root, "sh", "-c", "stat -c %u /")
    engine.cli(*joins)
    assert engine.inspect("other")["HostConfig"]["UsernsMode"] == f"container:{id}"
    assert engine.inspect("other")["Dependencies"] == [id]
    alone = {"selection": {"names": ["other"]}, "recursive": False}
    (result,) = engine.call("io.pyman.Container.Start", alone)["results"]
    assert "container 'owner', which it depends on, is not running" in result["error"]["message"]
    assert engine.out("start", "-a", "other") == "0"
    pid = engine.inspect("owner")["State"]["Pid"]
    theirs = engine.out("run", "--rm", "--userns", "container:owner", *root, "readlink", "/proc/self/ns/user")
    assert theirs == os.readlink(f"/proc/{pid}/ns/user")
    path = f"ns:/proc/{pid}/ns/user"
    assert (
        engine.out(
            "run", "--rm", "--userns", path, *root, "sh", "-c", "readlink /proc/self/ns/user; stat -c %u /"
        )
        == f"{theirs}\n0"
    )
    done = engine.cli("rm", "-f", "-t", "0", "owner", check=False)
    assert "container 'other' depends on it" in done.stderr
    engine.cli("rm", "-f", "-t", "0", "owner", "other")
    assert engine.out("ps", "-aq") == ""


def test_containers_start_after_the_one_whose_namespace_they_join(
    shared_engine: Engine, rootfs: Path, first: int
) -> None:
    engine = shared_engine
    root = ("--rootfs", f"{rootfs}:O", *SLEEP)
    engine.cli("create", "--name", "owner", "--uidmap", f"0:{first}:2000", *root)
    for name in ("b", "c"):
        engine.cli("create", "--name", name, "--userns", "container:owner", *root)
    assert engine.out("start", "c", "owner", "b").split() == ["c", "owner", "b"]
    assert engine.out("restart", "-t", "0", "b", "owner", "c").split() == ["b", "owner", "c"]
    engine.cli("stop", "-t", "0", "--all")
    engine.cli("start", "--all")
    assert len(engine.out("ps", "-q").split()) == 3
    engine.cli("rm", "-f", "-t", "0", "b", "c", "owner")


@pytest.mark.oci_runtime(*BY_USER)
def test_what_depends_on_a_container_goes_with_it(shared_engine: Engine, rootfs: Path, first: int) -> None:
    engine = shared_engine
    root = ("--rootfs", f"{rootfs}:O", "true")
    engine.cli("create", "--name", "owner", "--uidmap", f"0:{first}:2000", *root)
    engine.cli("create", "--name", "other", "--userns", "container:owner", *root)
    engine.cli("rm", "--depend", "owner")
    assert engine.out("ps", "-aq") == ""


def test_the_hosts_namespaces_can_be_used_from_one(shared_engine: Engine, rootfs: Path, first: int) -> None:
    options = ("--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host")
    script = "readlink /proc/1/ns/pid >/dev/null; ls -d /proc/1 /sys/class/net/lo; hostname"
    seen = _run(shared_engine, rootfs, "--uidmap", f"0:{first}:2000", *options, script=script)
    assert seen.splitlines() == ["/proc/1", "/sys/class/net/lo", os.uname().nodename]
    if _rootless(shared_engine):
        assert _run(shared_engine, rootfs, *options, script="ls -d /proc/1") == "/proc/1"


def test_a_namespace_outlives_the_supervisor(shared_engine: Engine, rootfs: Path, first: int) -> None:
    engine = shared_engine
    options = ("--uidmap", f"0:{first}:2000", "--restart", "always", "--restart-delay", "0")
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *SLEEP)
    engine.kill()
    assert engine.out("exec", "c", "id", "-u") == "0"
    before = engine.inspect("c")["State"]["Pid"]
    seen = engine.events()[-1]["Seq"]
    os.kill(before, 9)
    engine.await_event(lambda event: event["Status"] == "start", since_seq=seen)
    assert _maps(engine.out("exec", "c", "sh", "-c", MAPS)).uids == (idmaps.IdRange(0, first, 2000),)


@pytest.mark.oci_runtime(*BY_USER)
def test_the_mode_can_be_configured_and_said_by_the_environment(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    root = ("--rootfs", f"{rootfs}:O", "true")
    before = engine.configuration.read_text()
    engine.add_settings('[containers]\nuserns = "keep-id:uid=200"\n')
    engine.cli("system", "reload")
    try:
        engine.cli("create", "--name", "configured", *root)
        engine.cli("create", "--name", "given", "--userns", "host", *root)
        engine.cli("create", "--name", "empty", "--userns=", *root)
        engine.cli("create", "--name", "told", *root, env={"PODMAN_USERNS": "host"})
    finally:
        engine.configuration.write_text(before)
        engine.cli("system", "reload")
    modes = {
        name: engine.inspect(name)["HostConfig"]["UsernsMode"]
        for name in ("configured", "given", "empty", "told")
    }
    assert modes == {"configured": "private", "given": "", "empty": "", "told": ""}


@pytest.mark.oci_runtime(*BY_USER)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--userns", "strange"), "cannot use --userns strange"),
        (("--userns", "private"), "without a map"),
        (("--userns", "keep-id:color=red"), "'color=red' is no option"),
        (("--userns", "keep-id:uid=x"), "'x' is no number"),
        (("--userns", f"keep-id:uid={'9' * 5000}"), "is no number"),
        (("--userns", "auto:size=0"), "'0' is no number"),
        (("--userns", "auto:uidmapping=+0:5:1"), "has no flags"),
        (("--userns", "auto:gidmapping=u0:5:1"), "has no flags"),
        (("--userns", "nomap:size=1"), "nomap has no options"),
        (("--userns", "host:x"), "host has no options"),
        (("--userns", "container:"), "without a container"),
        (("--userns", "container:nobody"), "--userns container:nobody: there is no such"),
        (("--userns", "ns:/nowhere"), "ns:/nowhere: no such file"),
        (("--userns", f"ns:/{'x' * 300}"), "file name too long"),
        (("--userns", "ns:relative"), "is not absolute"),
        (("--userns", "auto", "--uidmap", "0:1:1"), "cannot use --userns together with --uidmap"),
        (("--uidmap", "zero"), "option --uidmap cannot be 'zero'"),
        (("--uidmap", "0:1:10,5:20:10"), "cannot map the container's uid 5 twice"),
        (("--uidmap", "0:4294967290:3,3:1:1", "--gidmap", "0:1:0"), "option --gidmap cannot be '0:1:0'"),
        (("--uidmap", "0:1:10", "--user", "10"), "cannot use the uid 10"),
        (("--subuidname", "no-such-name"), "has no line for it"),
        (("--subuidname", "9" * 5000), "has no line for it"),
        (("--group-add", "keep-groups", "--group-add", "5"), "together with other groups"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in _refused(shared_engine, rootfs, *options)


def _null_device_is_roots() -> bool:
    """What stays somebody else's; while a test beside this one begins a command, it is for a moment."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = os.stat(os.devnull)
        if (status.st_uid, status.st_gid, status.st_mode) == (0, 0, stat.S_IFCHR | 0o666):
            return True
    return False


@pytest.mark.oci_runtime("runc", "crun")
def test_the_hosts_null_device_stays_the_hosts(shared_engine: Engine, rootfs: Path) -> None:
    """It is what a container has as its standard input; crun gives that to the container's root."""
    script = "chmod 600 /proc/self/fd/0; chown 5 /proc/self/fd/0; sleep 1000"
    options = ("--name", "c", "--uidmap", "0:310000:2000", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    shared_engine.cli("create", *options)
    for command in (("init", "c"), ("start", "c"), ("exec", "c", "true")):
        shared_engine.cli(*command)
        assert _null_device_is_roots()


@pytest.mark.oci_runtime("runc", "crun")
@pytest.mark.parametrize("own_ids", [(), ("--uidmap", "0:310000:2000")])
def test_no_user_gets_the_hosts_null_device(
    shared_engine: Engine, rootfs: Path, own_ids: tuple[str, ...]
) -> None:
    """crun gives a command's standard input to the command's user, also where that is the host's device."""
    shared_engine.cli(
        *("run", "-d", "--name", "c", *own_ids, "--user", "1000:1000"),
        *("--health-cmd", "stat -L -c %F /proc/self/fd/0", "--health-interval", "disable"),
        *("--rootfs", f"{rootfs}:O", *SLEEP),
    )
    assert _null_device_is_roots()
    for options in ((), ("-d",), ("--user", "1001:1001")):
        shared_engine.cli("exec", *options, "c", "true")
        assert _null_device_is_roots()
    shared_engine.cli("healthcheck", "run", "c")
    assert shared_engine.inspect("c")["State"]["Health"]["Log"][-1]["Output"] == "fifo\n"
    assert _null_device_is_roots()


@pytest.mark.oci_runtime("crun")
def test_the_next_supervisor_takes_the_null_device_back(engine: Engine) -> None:
    """From an OCI runtime that had given it away when its supervisor was killed."""
    os.chown(os.devnull, 1000, 1000)
    engine.kill()
    assert _null_device_is_roots()
