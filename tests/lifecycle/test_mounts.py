"""What is mounted in containers, seen by themselves: as root's and as an ordinary user's, under both OCI runtimes."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from tests.support.user import UserEngine
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
def source(shared_engine: Engine) -> Iterator[Path]:
    """A directory of the host, the user's own: a file, a directory, and links that lead out of it."""
    directory = shared_engine.path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("told\n")
    (directory / "sub/inner").write_text("inner\n")
    (directory / "out").symlink_to("/etc")
    directory.chmod(0o755)
    if isinstance(shared_engine, UserEngine):
        shared_engine.user.owns(directory)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


def _rootless(engine: Engine) -> bool:
    return isinstance(engine, UserEngine)


def _run(engine: Engine, rootfs: Path, *options: str, script: str, cwd: str | Path = "/") -> str:
    words = ("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    return engine.out(*words, cwd=cwd)


def _refused(engine: Engine, rootfs: Path, *options: str) -> str:
    """What a command says that makes nothing."""
    done = engine.cli("create", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode == 125
    assert engine.out("ps", "-aq") == ""
    return done.stderr


def _seen(text: str) -> dict[str, tuple[set[str], list[str], str, set[str]]]:
    """Lines of mountinfo by mount point: options, propagation, type, options of the file system."""
    found = {}
    for line in text.splitlines():
        place, _, described = line.partition(" - ")
        fields = place.split()
        if len(fields) < 6:
            continue
        kind, _, options = described.split(" ", 2)
        found[fields[4]] = set(fields[5].split(",")), fields[6:], kind, set(options.split(","))
    return found


MOUNTINFO = "cat /proc/self/mountinfo"


def test_directories_and_files_are_bound(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    """With the options of --volume, and by a path from the caller's working directory."""
    options = (
        *("-v", f"{source}:/rw", "-v", f"{source}:/ro:ro", "-v", f"{source}/file:/just/a/file"),
        *("-v", f"{source}:/hard:noexec,nosuid,nodev,z", "-v", "./sub:/relative"),
        *("--mount", f"type=bind,src={source},dst=/mount/x/../y,ro=true,relabel=private"),
        *("--mount", "type=bind,source=sub,target=/from-here,readonly"),
    )
    script = f"{MOUNTINFO}; cat /just/a/file /relative/inner /from-here/inner; echo new > /rw/new; touch /ro/x || echo no"
    text = _run(shared_engine, rootfs, *options, script=script, cwd=source)
    seen = _seen(text)
    assert text.splitlines()[-4:] == ["told", "inner", "inner", "no"]
    assert (source / "new").read_text() == "new\n"
    for path, there in (
        ("/rw", {"rw"}),
        ("/ro", {"ro"}),
        ("/hard", {"rw", "noexec", "nosuid", "nodev"}),
        ("/mount/y", {"ro"}),
        ("/from-here", {"ro"}),
    ):
        assert there <= seen[path][0], path
        assert seen[path][1] == [], path  # private


def test_memory_is_mounted(shared_engine: Engine, rootfs: Path) -> None:
    options = (
        *("--tmpfs", "/plain", "--tmpfs", "/small:size=1m,mode=700,noexec", "--tmpfs", "/etc"),
        *("--mount", "type=tmpfs,dst=/home,notmpcopyup,tmpfs-size=2m,ro"),
        *("--mount", "type=tmpfs,dst=/mine,U=true", "--user", "1000:1000"),
        *("--mount", "type=ramfs,dst=/ram,noexec", "--mount", "type=tmpfs,dst=/made,tmpfs-mode=1755"),
        *("--mount", "type=devpts,dst=/terminals,mode=640,ptmxmode=666", "--shm-size", "3m"),
    )
    script = f"{MOUNTINFO}; stat -c %a /small /made; ls /home | wc -l; stat -c %u:%g /mine; cat /etc/passwd | wc -l"
    text = _run(shared_engine, rootfs, *options, script=script)
    seen = _seen(text)
    modes, inside = text.splitlines()[-5:-3], text.splitlines()[-3:]
    assert modes == ["700", "1755"]
    assert inside[:2] == ["0", "1000:1000"]
    assert int(inside[2]) > 1  # what the root filesystem has there is in it
    assert {"rw", "nosuid", "nodev"} <= seen["/plain"][0]
    assert "noexec" not in seen["/plain"][0]
    assert "noexec" in seen["/small"][0]
    assert "size=1024k" in seen["/small"][3]
    assert "size=2048k" in seen["/home"][3]
    assert "ro" in seen["/home"][0]
    assert seen["/ram"][2] == "ramfs"
    assert "noexec" in seen["/ram"][0]
    assert seen["/terminals"][2] == "devpts"
    assert {"mode=640", "ptmxmode=666"} <= seen["/terminals"][3]
    assert "size=3072k" in seen["/dev/shm"][3]


def test_what_matches_a_pattern_is_bound(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    (source / ".hidden").write_text("")
    options = (
        *("--mount", f"type=glob,src={source}/[^o]*,dst=/here,ro"),
        *("--mount", f"type=glob,src={source}/f*"),
    )
    text = _run(shared_engine, rootfs, *options, script=f"{MOUNTINFO}; ls -A /here; cat {source}/file")
    assert text.splitlines()[-4:] == [".hidden", "file", "sub", "told"]
    assert "ro" in _seen(text)["/here/file"][0]


def test_writes_to_an_overlay_end_with_the_run(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    """Or stay in directories that the user names; the directory itself is never changed."""
    upper, work = source / "upper", source / "work"
    for directory in (upper, work):
        directory.mkdir()
    if isinstance(shared_engine, UserEngine):
        shared_engine.user.owns(source)
    engine = shared_engine
    script = (
        "cat /over/file; ls /over/new /kept/new; echo x > /over/new; echo y > /kept/new; rm /over/sub/inner"
    )
    engine.cli(
        *("create", "--name", "c", "-v", f"{source}/sub:/over/sub:O", "-v", f"{source}:/over:O"),
        *("-v", f"{source}/sub:/kept:O,upperdir={upper},workdir={work}"),
        *("--rootfs", f"{rootfs}:O", "sh", "-c", f"({script}) 2>&1"),
    )
    # What is left of a run that ended with the machine is not seen.
    for number in range(3):
        left = engine.root / "pyman/containers" / engine.inspect("c")["Id"] / f"overlays/{number}/upper"
        left.mkdir(parents=True)
        (left / "file").write_text("left\n")
    if isinstance(engine, UserEngine):
        engine.user.owns(engine.root / "pyman/containers")
    try:
        assert engine.out("start", "-a", "c").splitlines()[0] == "told"
        again = engine.out("start", "-a", "c").splitlines()
        assert "/kept/new" in again
        assert "/over/new" not in again
        assert (upper / "new").read_text() == "y\n"
        assert sorted(path.name for path in source.iterdir()) == ["file", "out", "sub", "upper", "work"]
        assert (source / "sub/inner").exists()
        until(
            lambda: not list((engine.root / "pyman/containers").glob("*/overlays")), "what was written stays"
        )
    finally:
        engine.cli("rm", "c")


@pytest.mark.oci_runtime("runc")  # an engine with crun is in a mount namespace of its own here
def test_mounts_spread_as_they_are_told_to(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    engine = shared_engine
    mounts.bind(str(source), str(source))
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        mounts.tmpfs(str(source / "sub"), options="size=4k")
        options = ("-v", f"{source}:/shared:shared", "-v", f"{source}:/slave:rslave")
        more = (
            "-v",
            f"{source}:/flat:bind",
            "--mount",
            f"type=bind,src={source},dst=/alone,bind-nonrecursive",
        )
        engine.cli("run", "-d", "--name", "c", *options, *more, "--rootfs", f"{rootfs}:O", *SLEEP)
        seen = _seen(engine.out("exec", "c", "cat", "/proc/self/mountinfo"))
        assert any(word.startswith("shared:") for word in seen["/shared"][1])
        assert any(word.startswith("master:") for word in seen["/slave"][1])
        assert "/slave/sub" in seen
        assert seen["/flat"][1] == []
        assert not {"/flat/sub", "/alone/sub"} & set(seen)
        (source / "later").mkdir()
        mounts.tmpfs(str(source / "later"), options="size=4k")
        later = _seen(engine.out("exec", "c", "cat", "/proc/self/mountinfo"))
        assert {"/shared/later", "/slave/later"} <= set(later)
        assert "/alone/later" not in later
    finally:
        engine.cli("rm", "-f", "-t", "0", "c", check=False)
        for _ in range(2):
            for path in mounts.mounts_below(str(source)):
                mounts.unmount(path, lazy=True)


def test_owners_are_changed_without_following_links(
    shared_engine: Engine, rootfs: Path, source: Path
) -> None:
    engine = shared_engine
    before = os.stat("/etc").st_uid
    (source / "file").chmod(0o4755)
    options = ("-v", f"{source}:/data:U", "--user", "1000:1001")
    script = "stat -c %u:%g /data /data/file /data/sub/inner /data/out; stat -c %a /data/file"
    assert _run(engine, rootfs, *options, script=script).split() == ["1000:1001"] * 4 + ["755"]
    assert os.stat("/etc").st_uid == before
    # What is the user's already is left alone, down to its rights.
    (source / "file").chmod(0o4755)
    assert _run(engine, rootfs, *options, script="stat -c %a /data/file") == "4755"
    assert "belongs to the host" in _fails(engine, rootfs, "-v", "/tmp:/data:U")


def _fails(engine: Engine, rootfs: Path, *options: str) -> str:
    done = engine.cli("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode in (125, 126, 127)
    assert engine.out("ps", "-aq") == ""
    return done.stderr


def test_owners_are_mapped(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    if _rootless(shared_engine):
        assert "an ordinary user's mounts may not" in _refused(
            shared_engine, rootfs, "-v", f"{source}:/data:idmap"
        )
        return
    engine = shared_engine
    os.chown(source / "sub", 5, 6)
    options: tuple[str, ...] = ("-v", f"{source}:/data:idmap=uids=0-1000-10;gids=0-2000-10")
    script = "stat -c %u:%g /data/file /data/sub"
    assert _run(engine, rootfs, *options, script=script).split() == ["1000:2000", "1005:2006"]
    options = ("--uidmap", "0:300000:2000", "--mount", f"type=bind,src={source},dst=/data,idmap")
    script += "; touch /data/made; chown 7 /data/made"
    assert _run(engine, rootfs, *options, script=script).split() == ["0:0", "5:6"]
    assert os.stat(source / "made").st_uid == 7
    options = ("--uidmap", "0:300000:2000", "-v", f"{source}:/data:idmap=uids=@0-100-10;gids=@0-100-10")
    assert _run(engine, rootfs, *options, script="stat -c %u:%g /data/file") == "100:100"
    said = _fails(engine, rootfs, "-v", f"{source}:/data:idmap")
    assert "has no user namespace of its own" in said


def test_a_read_only_container_writes_to_memory(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    script = f"{MOUNTINFO}; touch /run/x /tmp/x /var/tmp/x /data/x /dev/shm/x; touch /x || echo no"
    options = ("--read-only", "-v", f"{source}:/data", "-v", f"{source}:/var/tmp")
    text = _run(shared_engine, rootfs, *options, script=script)
    seen = _seen(text)
    assert text.splitlines()[-1] == "no"
    assert seen["/tmp"][2] == seen["/run"][2] == "tmpfs"
    assert seen["/var/tmp"][2] != "tmpfs"
    script = "for d in /run /tmp /dev /dev/shm; do touch $d/x 2>/dev/null || echo $d; done; echo > /dev/null"
    text = _run(shared_engine, rootfs, "--read-only", "--read-only-tmpfs=false", script=script)
    assert text.split() == ["/run", "/tmp", "/dev", "/dev/shm"]


def test_a_users_mount_takes_the_place_of_the_engines(
    shared_engine: Engine, rootfs: Path, source: Path
) -> None:
    options = ("-v", f"{source}/file:/run/.containerenv", "--tmpfs", "/dev/shm:size=1m")
    text = _run(shared_engine, rootfs, *options, script=f"{MOUNTINFO}; cat /run/.containerenv")
    assert text.endswith("told")
    assert "size=1024k" in _seen(text)["/dev/shm"][3]


def test_a_link_is_made_instead_of_what_it_leads_to(
    shared_engine: Engine, rootfs: Path, source: Path
) -> None:
    (source / "nowhere").symlink_to("no/such/file")
    option = "type=bind,src={},dst={},no-dereference"
    options = (
        *("--mount", option.format(source / "out", "/made/here")),
        *(
            "--mount",
            option.format(source / "nowhere", "/dangling"),
            "--mount",
            option.format(source, "/plain"),
        ),
    )
    script = "readlink /made/here; readlink /dangling; cat /plain/file; ls /made/here/passwd"
    seen = _run(shared_engine, rootfs, *options, script=script)
    assert seen.split() == ["/etc", "no/such/file", "told", "/made/here/passwd"]
    said = _fails(shared_engine, rootfs, "--mount", option.format(source / "out", "/bin"))
    assert "cannot make the link '/bin': File exists" in said
    said = _fails(shared_engine, rootfs, "--mount", option.format(source / "out", "/dev/out"))
    assert "it would lie on another mount" in said


def test_destinations_do_not_leave_the_root_filesystem(
    shared_engine: Engine, rootfs: Path, source: Path
) -> None:
    copy = shared_engine.path / "copy"
    subprocess.run(["cp", "-a", rootfs, copy], check=True)
    (copy / "pm-inside").mkdir()
    (copy / "away").symlink_to("/../../../pm-inside")
    if isinstance(shared_engine, UserEngine):
        shared_engine.user.owns(copy)
    try:
        options = ("-v", f"{source}:/away/here")
        words = ("run", "--rm", *options, "--rootfs", str(copy), "cat", "/pm-inside/here/file")
        assert shared_engine.out(*words) == "told"
        assert not os.path.lexists("/pm-inside")
    finally:
        shutil.rmtree(copy)


def test_volumes_of_another_container_are_taken_over(
    shared_engine: Engine, rootfs: Path, source: Path
) -> None:
    engine = shared_engine
    root = ("--rootfs", f"{rootfs}:O", "sh", "-c")
    engine.cli(
        *("create", "--name", "first", "-v", f"{source}:/a", "-v", f"{source}/sub:/b:ro"),
        *("--tmpfs", "/t", *root, "true"),
    )
    engine.cli("rename", "first", "renamed")
    script = f"{MOUNTINFO}; cat /a/file /b/inner"
    try:
        text = engine.out("run", "--rm", "--volumes-from", "renamed", *root, script)
        seen = _seen(text)
        assert text.splitlines()[-2:] == ["told", "inner"]
        assert ("rw" in seen["/a"][0], "ro" in seen["/b"][0], "/t" in seen) == (True, True, False)
        more = ("-v", f"{source}/sub:/a")
        text = engine.out(
            "run", "--rm", "--volumes-from", "renamed:ro", *more, *root, f"{MOUNTINFO}; cat /a/inner"
        )
        assert text.endswith("inner")
        assert "rw" in _seen(text)["/a"][0]
        engine.cli(
            "create", "--name", "second", "--volumes-from", "renamed:ro", *root, "touch /a/x || echo no"
        )
        assert engine.inspect("second")["HostConfig"]["VolumesFrom"] == ["renamed:ro"]
        engine.cli("rm", "renamed")
        assert engine.out("start", "-a", "second").endswith("no")
        engine.cli("rm", "second")
    finally:
        engine.cli("rm", "-f", "-i", "renamed", "second", check=False)
    assert "--volumes-from nobody" in _refused(engine, rootfs, "--volumes-from", "nobody")


def test_inspect_tells_what_is_mounted(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    engine = shared_engine
    options = ("-v", f"{source}:/a:ro,z", "--tmpfs", "/t:size=1m", "-v", f"{source}:/o:O", "--shm-size", "5m")
    engine.cli("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "true")
    told = engine.inspect("c")
    engine.cli("rm", "c")
    first = told["Mounts"][0]
    assert (first["Type"], first["Source"], first["Destination"]) == ("bind", str(source), "/a")
    assert (first["Mode"], first["RW"], first["Propagation"]) == ("z", False, "rprivate")
    assert first["Options"][-1] == "rbind"
    host = told["HostConfig"]
    assert host["Tmpfs"] == {"/t": "size=1m,rprivate,nosuid,nodev,tmpcopyup"}
    assert host["Binds"][0].startswith(f"{source}:/a:ro,z,rprivate")
    assert host["ShmSize"] == 5 << 20


def test_mounts_are_configured(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    engine = shared_engine
    before = engine.configuration.read_text()
    conf = f'volumes = ["{source}:/a:ro", "{source}:/b"]\nmounts = ["type=tmpfs,dst=/t,tmpfs-size=1m"]\n'
    engine.add_settings(f"[containers]\n{conf}")
    engine.cli("system", "reload")
    try:
        text = _run(engine, rootfs, "--tmpfs", "/b", script=MOUNTINFO)
    finally:
        engine.configuration.write_text(before)
        engine.cli("system", "reload")
    seen = _seen(text)
    assert "ro" in seen["/a"][0]
    assert seen["/b"][2] == "tmpfs"
    assert "size=1024k" in seen["/t"][3]


def test_nothing_stays_mounted_after_a_kill(shared_engine: Engine, rootfs: Path, source: Path) -> None:
    """Of a run that goes on, all of it; and its end gives it back."""
    engine = shared_engine
    options = (
        "-v",
        f"{source}:/o:O",
        *(() if _rootless(engine) else ("-v", f"{source}:/m:idmap=uids=0-9-1;gids=0-9-1")),
    )
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *SLEEP)
    engine.kill()
    assert engine.out("exec", "c", "cat", "/o/file") == "told"
    engine.cli("stop", "-t", "5", "c")
    until(lambda: not list(engine.tmpdir.glob("containers/*/mounts")), "something stays mounted")
    engine.cli("start", "c")
    assert engine.out("exec", "c", "cat", "/o/file") == "told"
    engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not list((engine.root / "pyman/containers").iterdir()), "something stays")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-v", "/nowhere/at/all:/x"), "cannot mount '/nowhere/at/all' at '/x': no such file"),
        (("-v", "/etc:/"), "nothing can be mounted over the root directory"),
        (("-v", "/etc:/x/../.."), "nothing can be mounted over the root directory"),
        (("-v", "/etc:x"), "the destination 'x' is not an absolute path"),
        (("-v", "/etc:/x:ro:rw"), "option --volume cannot be"),
        (("-v", "/etc:/x:ro,rw"), "cannot mount '/x': option 'rw' contradicts another one"),
        (("-v", "/etc:/x:exec,noexec"), "option 'noexec' contradicts"),
        (("-v", "/etc:/x:shared,slave"), "option 'slave' contradicts"),
        (("-v", "/etc:/x:sometimes"), "'sometimes' is no option of bind mounts"),
        (("-v", "/etc:/x:size=5"), "'size=5' is no option of bind mounts"),
        (("-v", "/etc:/x:O,ro"), "cannot mount '/x': 'ro' is no option of overlay mounts"),
        (("-v", "/etc:/x:O,upperdir=/tmp"), "upperdir and workdir go together"),
        (("-v", "/etc:/x", "-v", "/usr:/x/."), "cannot mount '/x': two different mounts are to be there"),
        (("-v", "/etc:/x", "--tmpfs", "/x"), "two different mounts"),
        (("--tmpfs", "/x:size=much"), "cannot mount '/x': 'much' is no size"),
        (("--tmpfs", "/x:mode=999"), "'999' is no mode"),
        (("--tmpfs", "/x:z"), "'z' is no option of tmpfs mounts"),
        (("--tmpfs", "x"), "is not an absolute path"),
        (("--mount", "type=bind,src=/etc"), "it has no destination"),
        (("--mount", "type=strange,dst=/x"), "'strange' is no type of mount"),
        (("--mount", "type=bind,src=/etc,dst=/x,color=red"), "'color=red' is no option of a mount"),
        (("--mount", "type=bind,src=/etc,dst=/x,tmpfs-size=1m"), "tmpfs-size is no option of type bind"),
        (("--mount", "type=bind,src=/etc,dst=/x,ro=maybe"), "ro cannot be 'maybe'"),
        (("--mount", "type=bind,src=/etc,dst=/x,dst=/y"), "destination is given twice"),
        (("--mount", "type=bind,src=/etc,dst=/x,bind-propagation=up"), "'up' is no propagation"),
        (("--mount", "type=bind,src=/etc,dst=/x,relabel=yes"), "relabel cannot be 'yes'"),
        (("--mount", "type=devpts,dst=/x,mode=rw"), "'rw' is no mode"),
        (("--mount", "type=glob,src=/nowhere*,dst=/x"), "no file matches '/nowhere*'"),
        (("--mount", "type=image,src=nothing,dst=/x"), "cannot find the image 'nothing'"),
        (("--mount", "type=artifact,src=a,dst=/x"), "there are no artifacts"),
        (("--volumes-from", "x:rx"), "--volumes-from x: there is no such container"),
        (("--shm-size", "lots"), "option --shm-size cannot be 'lots'"),
        (("--shm-size", "1m", "--ipc", "host"), "cannot use --shm-size together with --ipc host"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    shared_engine: Engine, rootfs: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in _refused(shared_engine, rootfs, *options)


def test_a_container_that_sees_the_store_is_told_so(shared_engine: Engine, rootfs: Path) -> None:
    """A container program in it finds out by that that a reboot which it notices is none."""
    script = "cat /run/.containerenv"
    store = str(shared_engine.root)
    for source in (store, os.path.dirname(store)):
        assert "graphRootMounted=1" in _run(shared_engine, rootfs, "-v", f"{source}:/store", script=script)
    other = _run(shared_engine, rootfs, "-v", f"{rootfs}:/other:ro", script=script)
    assert "graphRootMounted" not in other
