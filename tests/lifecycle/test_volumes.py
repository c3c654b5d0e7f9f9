"""Volumes that real containers use: what is in them, whose they are, what becomes of them."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.engine import Engine  # noqa: TC001
from tests.support.images import IMAGE, import_image, leave_no_mount, podman
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.skipif(
    not any(os.access(f"{directory}/podman", os.X_OK) for directory in ("/usr/bin", "/usr/local/bin")),
    reason="needs Podman to make images",
)

VOLUME = "io.pyman.Volume"
CHANGES = ("VOLUME /home /fresh",)


@pytest.fixture
def box(shared_engine: Engine, rootfs: Path) -> Iterator[Engine]:
    """A shared engine, whose image has something in the place of one volume and nothing in that of another."""
    if podman(shared_engine, "image", "exists", IMAGE, check=False).returncode:
        import_image(shared_engine, rootfs, changes=CHANGES)
    yield shared_engine
    shared_engine.cli("rm", "--all", "--force", "--time", "0")
    shared_engine.cli("volume", "rm", "--all", "--force")


def make(engine: Engine, name: str, script: str, *volumes: dict[str, Any], **fields: Any) -> None:
    """A container with volumes, not started."""
    spec = {
        "name": name,
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "volumes": list(volumes),
        "image_volume_mode": "ignore",
        **fields,
    }
    engine.call("io.pyman.Container.Create", {"spec": spec})


def said(engine: Engine, script: str, *volumes: dict[str, Any], **fields: Any) -> list[str]:
    """By a container with volumes, which is removed."""
    make(engine, "teller", script, *volumes, remove=True, **fields)
    return engine.out("start", "--attach", "teller").splitlines()


def told(engine: Engine, since: int = 0) -> list[tuple[str, str]]:
    return [(event["Status"], event["Name"]) for event in engine.events(since, type=["volume"])]


def volumes(engine: Engine, **filters: list[str]) -> list[str]:
    return [one["Name"] for one in engine.call(f"{VOLUME}.List", {"filters": filters})["volumes"]]


def shown(engine: Engine, name: str) -> dict[str, Any]:
    (one,) = engine.call(f"{VOLUME}.Inspect", {"names": [name]})["volumes"]
    return dict(one)


def test_a_named_volume_outlives_its_containers_and_is_shared(box: Engine) -> None:
    since = box.last_seq()
    volume = {"name": "shared", "dest": "/data"}
    assert said(box, "echo one > /data/file; ls /data", volume) == ["file"]
    assert volumes(box) == ["shared"]
    assert said(box, "cat /data/file", volume) == ["one"]
    make(box, "reader", "cat /data/file; echo two > /data/file", {**volume, "options": ["ro"]})
    done = box.cli("start", "--attach", "reader", check=False)
    assert done.stdout == "one\n"
    assert "Read-only file system" in done.stderr
    (mount,) = box.inspect("reader")["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == (
        "volume",
        "shared",
        "/data",
        False,
    )
    assert Path(mount["Source"], "file").exists()
    box.cli("rm", "--volumes", "reader")
    assert volumes(box) == ["shared"]
    assert told(box, since) == [("create", "shared")]
    (event,) = box.events(since, type=["volume"])
    assert event["Actor"]


def test_an_anonymous_volume_goes_with_its_container_if_that_is_asked_for(box: Engine) -> None:
    since = box.last_seq()
    box.cli("run", "--name", "plain", IMAGE, "true")
    names = volumes(box, anonymous=["true"])
    assert len(names) == 2
    assert all(len(name) == 64 for name in names)
    box.cli("rm", "plain")
    assert volumes(box) == names
    assert sorted(volumes(box, dangling=["true"])) == names
    for way in (["run", "--rm", IMAGE, "true"], ["run", "--name", "other", IMAGE, "true"]):
        box.cli(*way)
    box.cli("rm", "--volumes", "other")
    assert volumes(box) == names
    # With --rm the answer comes before all of it is taken away.
    until(lambda: len(told(box, since)) >= 10, "what went with its container is told")
    statuses = [status for status, _ in told(box, since)]
    assert sorted(statuses) == ["create"] * 6 + ["remove"] * 4
    assert len(set(told(box, since))) == 10
    assert box.out("volume", "prune", "--force").splitlines() == names
    assert volumes(box) == []


def test_a_running_container_that_is_removed_takes_its_volumes_along(box: Engine) -> None:
    box.cli("run", "-d", "--name", "runs", IMAGE, "sleep", "1000")
    assert len(volumes(box)) == 2
    box.cli("rm", "--force", "--time", "0", "--volumes", "runs")
    assert volumes(box) == []


def test_the_first_container_fills_an_empty_volume(box: Engine) -> None:
    script = "stat -c '%u:%g %a' /home /home/worker; echo mine > /home/worker/mine; ls /home/worker"
    home = {"name": "home", "dest": "/home"}
    lines = said(box, script, home)
    assert lines[1].startswith("1000:1000")
    assert lines[-1] == "mine"
    assert not shown(box, "home")["NeedsCopyUp"]
    assert said(box, "rm -r /home/worker; ls /home", home) == []
    assert said(box, "ls /home", home) == []  # once and never again


def test_what_is_in_a_volume_is_never_copied_over(box: Engine) -> None:
    box.cli("volume", "create", "full")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("only"))
    box.cli("volume", "import", "full", "-", input=archive.getvalue())
    assert said(box, "ls /home", {"name": "full", "dest": "/home"}) == ["only"]


def test_nothing_is_copied_where_that_is_not_wanted(box: Engine) -> None:
    assert said(box, "ls /home", {"name": "bare", "dest": "/home", "options": ["nocopy"]}) == []
    box.cli("volume", "create", "--opt", "nocopy", "empty")
    assert said(box, "ls /home", {"name": "empty", "dest": "/home"}) == []


def test_an_empty_volume_has_owner_mode_and_times_of_the_image(box: Engine) -> None:
    script = "stat -c '%u:%g %a %X %Y' /home"
    assert said(box, script, {"name": "times", "dest": "/home"}) == said(box, script)


def test_where_the_image_has_nothing_it_is_the_users(box: Engine) -> None:
    script = "stat -c '%u:%g' /made/here; touch /made/here/file"
    assert said(box, script, {"name": "mine", "dest": "/made/here"}, user="1000:1000") == ["1000:1000"]
    box.cli("volume", "create", "--uid", "7", "--gid", "8", "given")
    assert said(box, script, {"name": "given", "dest": "/made/here"}) == ["7:8"]


@pytest.mark.oci_runtime("runc", "crun")
def test_what_is_shown_with_other_owners_is_filled_with_those_on_the_disk(box: Engine) -> None:
    maps = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"]
    script = "stat -c %u:%g /home /home/worker /none"
    volumes = ["--volume", "shifted:/home:idmap", "--volume", "void:/none:idmap"]
    line = [
        "run",
        "--rm",
        "--image-volume",
        "ignore",
        *maps,
        *volumes,
        "--user",
        "7:8",
        IMAGE,
        "sh",
        "-c",
        script,
    ]
    done = box.cli(*line, check=False)
    if "neither this kernel nor the file system" in done.stderr:
        pytest.skip("no mounts with other owners here")
    assert done.stdout.split() == ["0:0", "1000:1000", "7:8"]
    where = Path(shown(box, "shifted")["Mountpoint"])
    assert (where.stat().st_uid, (where / "worker").stat().st_uid) == (0, 1000)


def test_a_volume_in_use_is_refused_naming_the_containers(box: Engine) -> None:
    make(box, "user", "true", {"name": "used", "dest": "/data"})
    done = box.cli("volume", "rm", "used", check=False)
    assert done.returncode == 2
    assert "containers use it: user" in done.stderr
    assert box.cli("volume", "rm", "none", check=False).returncode == 1
    assert box.cli("volume", "rm", "none", "used", check=False).returncode == 2
    since = box.last_seq()
    assert box.out("volume", "rm", "--force", "used", "none") == "used"
    assert not box.out("ps", "--all", "--quiet")
    assert told(box, since) == [("remove", "used")]


def test_a_tmpfs_is_mounted_as_long_as_containers_run(box: Engine) -> None:
    since = box.last_seq()
    box.cli(
        "volume",
        "create",
        "--opt",
        "type=tmpfs",
        "--opt",
        "device=tmpfs",
        "--opt",
        "o=size=2m,mode=1777",
        "t",
    )
    volume = {"name": "t", "dest": "/t"}
    for name in ("one", "two"):
        make(box, name, f"echo {name} > /t/{name}; exec sleep 1000", volume)
        box.cli("start", name)
        until(lambda name=name: name in box.out("exec", name, "ls", "/t"), "it has written")  # type: ignore[misc]
    assert box.out("exec", "two", "ls", "/t").split() == ["one", "two"]
    assert "2048" in box.out("exec", "two", "df", "-k", "/t")
    assert shown(box, "t")["MountCount"] == 2
    box.kill()
    assert shown(box, "t")["MountCount"] == 2
    box.cli("stop", "--time", "0", "one")
    assert shown(box, "t")["MountCount"] == 1
    assert box.out("exec", "two", "ls", "/t").split() == ["one", "two"]
    box.cli("rm", "--force", "--time", "0", "two")
    assert shown(box, "t")["MountCount"] == 0
    assert said(box, "ls /t", volume) == []
    # What is removed at its end is answered before all of it is taken away.
    until(lambda: len(told(box, since)) >= 7, "the last container has let go")
    statuses = [status for status, _ in told(box, since)]
    assert statuses == ["create", *["mount"] * 2, *["unmount"] * 2, "mount", "unmount"]


def test_a_directory_that_is_bound_is_the_volume(box: Engine) -> None:
    source = Path(str(box.root)).parent / "bound"
    source.mkdir(exist_ok=True)
    source.chmod(0o777)
    (source / "there").write_text("already")
    box.cli("volume", "create", "--opt", "type=bind", "--opt", f"device={source}", "b")
    assert said(box, "cat /b/there; echo new > /b/made", {"name": "b", "dest": "/b"}) == ["already"]
    assert (source / "made").read_text() == "new\n"
    box.cli("volume", "rm", "b")
    assert (source / "there").exists()


def test_a_mount_that_fails_says_why_and_leaves_nothing(box: Engine) -> None:
    box.cli("volume", "create", "--opt", "type=overlay", "--opt", "device=overlay", "bad")
    make(box, "unlucky", "true", {"name": "bad", "dest": "/bad"})
    done = box.cli("start", "unlucky", check=False)
    assert done.returncode == 125
    assert "cannot mount volume 'bad'" in done.stderr
    assert shown(box, "bad")["MountCount"] == 0
    assert box.inspect("unlucky")["State"]["Status"] == "created"


def test_an_archive_goes_out_and_comes_in_again(box: Engine) -> None:
    source = {"name": "source", "dest": "/data"}
    script = (
        "mkdir -p /data/d; echo text > /data/d/f; chown 5:6 /data/d/f; chmod 640 /data/d/f; ln -s d/f /data/l"
    )
    assert said(box, script, source) == []
    done = subprocess.run(
        [*box.place.prefix("/"), *box.command("volume", "export", "source")],
        env=box.environment,
        capture_output=True,
        check=True,
        timeout=30,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert {member.name for member in tar} == {"d", "d/f", "l"}
    box.cli("volume", "create", "target")
    box.cli("volume", "import", "target", "-", input=done.stdout)
    script = "stat -c '%u:%g %a' /data/d/f; cat /data/l; ls /data"
    assert said(box, script, {"name": "target", "dest": "/data"}) == ["5:6 640", "text", "d", "l"]
    # Into one with contents: what is there and not in the archive stays.
    box.cli("volume", "import", "target", "-", input=archive_of(("more", b"1")))
    assert said(box, "ls /data", {"name": "target", "dest": "/data"}) == ["d", "l", "more"]


def archive_of(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return data.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE: dict[str, Sequence[Any]] = {
    "parent": [("../../escaped", b"x")],
    "deep parent": [("a/../../../escaped", b"x")],
    "hard link": [link("l", "../../../../etc/passwd", tarfile.LNKTYPE)],
    "through a link": [link("out", "/"), ("out/escaped", b"x")],
    "through a relative link": [link("out", "../../.."), ("out/escaped", b"x")],
    "absolute": [("/escaped", b"x")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_archive_leaves_the_volume(box: Engine, kind: str) -> None:
    box.cli("volume", "create", "prison")
    where = Path(shown(box, "prison")["Mountpoint"])
    done = box.cli("volume", "import", "prison", "-", input=archive_of(*HOSTILE[kind]), check=False)
    if done.returncode:
        assert "cannot import into volume 'prison'" in done.stderr
        assert os.listdir(where) == []
    for path in (Path("/escaped"), where.parent / "escaped", where.parent.parent / "escaped"):
        assert not os.path.lexists(path)
    assert sorted(os.listdir(where.parent)) == ["_data", "owner"]


def test_an_archive_that_is_none_leaves_nothing(box: Engine) -> None:
    box.cli("volume", "create", "clean")
    broken = archive_of(("first", b"1"), ("second", b"2"))[:1100]
    for data in (b"no archive" * 100, broken):
        done = box.cli("volume", "import", "clean", "-", input=data, check=False)
        assert done.returncode == 125
        assert "cannot import into volume 'clean'" in done.stderr
    assert os.listdir(shown(box, "clean")["Mountpoint"]) == []


def test_podman_on_the_same_root_does_not_see_them_and_keeps_its_own(box: Engine) -> None:
    box.cli("volume", "create", "ours")
    podman(box, "volume", "create", "theirs")
    try:
        assert podman(box, "volume", "ls", "--quiet").stdout.split() == ["theirs"]
        assert volumes(box) == ["ours"]
        done = box.cli("volume", "create", "theirs", check=False)
        assert done.returncode == 125
        assert "is there, and not this engine's" in done.stderr
        box.cli("volume", "prune", "--all", "--force")
        assert podman(box, "volume", "inspect", "theirs").returncode == 0
        assert volumes(box) == []
    finally:
        podman(box, "volume", "rm", "--force", "theirs")
        leave_no_mount(box)


def test_the_check_finds_a_directory_that_is_gone(box: Engine) -> None:
    box.cli("volume", "create", "lost")
    where = Path(shown(box, "lost")["Mountpoint"])
    where.rmdir()
    problems = box.call("io.pyman.System.Check", {})["problems"]
    assert [p["subject"] for p in problems if p["subject"].startswith("volume")] == ["volume lost"]
    done = box.cli("volume", "reload", check=False)
    assert done.returncode == 125
    assert "of volume 'lost'" in done.stderr
    make(box, "without", "true", {"name": "lost", "dest": "/data"})
    done = box.cli("start", "without", check=False)
    assert done.returncode == 125
    assert "cannot use volume 'lost'" in done.stderr


def test_locks_and_listings_know_them(box: Engine) -> None:
    box.cli("volume", "create", "--label", "a=b", "--label", "c", "listed")
    assert box.out("volume", "ls") == "DRIVER      VOLUME NAME\nlocal       listed"
    assert box.out("volume", "ls", "--quiet", "--filter", "label=a=b") == "listed"
    assert box.out("volume", "ls", "--format", "{{.Name}} {{.Labels}}") == "listed a=b,c="
    (one,) = json.loads(box.out("volume", "ls", "--format", "json"))
    assert (one["Name"], one["Labels"]) == ("listed", {"a": "b", "c": ""})
    assert box.out("volume", "inspect", "--format", "{{.Driver}} {{.Scope}}", "list") == "local local"
    (held,) = box.call("io.pyman.System.Locks", {})["locks"]
    assert (held["kind"], held["name"]) == ("volume", "listed")
    assert box.cli("volume", "exists", "listed", check=False).returncode == 0
    assert box.cli("volume", "exists", "list", check=False).returncode == 1
    (one,) = json.loads(box.out("inspect", "listed"))
    assert one["Mountpoint"].endswith("/volumes/listed/_data")


def test_a_copy_that_a_killed_supervisor_had_finished_is_moved_into_the_volume(box: Engine) -> None:
    box.cli("volume", "create", "half")
    where = Path(shown(box, "half")["Mountpoint"])
    (own,) = where.parent.parent.glob(".pyman-*")
    for path in (own / "copy-half/b", own / "copy-none", own / "new-0"):
        path.mkdir(parents=True)
    (own / "copy-half/a").write_text("copied\n")
    (own / "new-0/part").write_text("of a copy")
    owner = own.stat()
    for path in own.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid)
    box.kill()
    until(lambda: sorted(os.listdir(own)) == ["copy-half"], "what nobody needs is deleted")
    assert said(box, "cat /home/a; ls /home", {"name": "half", "dest": "/home"}) == ["copied", "a", "b"]
    until(lambda: os.listdir(own) == [], "it is moved as a whole")


def test_what_goes_with_a_container_is_not_seen_any_more_when_that_is_gone(box: Engine) -> None:
    for _ in range(3):
        box.cli("run", "--rm", IMAGE, "true")
        assert volumes(box) == []


def test_containers_are_found_by_their_volumes(box: Engine) -> None:
    make(box, "has", "true", {"name": "found", "dest": "/data"})
    make(box, "has-not", "true")
    for value in ("found", "/data", "found:/data"):
        assert box.out("ps", "--all", "--filter", f"volume={value}", "--format", "{{.Names}}") == "has"
    assert box.out("ps", "--all", "--filter", "volume=found:/other", "--quiet") == ""
    assert box.out("ps", "--all", "--filter", "volume=found", "--format", "{{.Mounts}}") == "[/data]"


def test_a_link_that_a_container_has_left_leads_no_archive_out(box: Engine) -> None:
    volume = {"name": "trap", "dest": "/data"}
    assert (
        said(box, "ln -s / /data/out; ln -s ../../.. /data/up; mkdir /data/d; ln -s /etc /data/d/etc", volume)
        == []
    )
    where = Path(shown(box, "trap")["Mountpoint"])
    data = archive_of(("out/escaped", b"x"), ("up/escaped", b"x"), ("d/etc/escaped", b"x"))
    box.cli("volume", "import", "trap", "-", input=data, check=False)
    for path in (Path("/"), Path("/etc"), where.parent, where.parent.parent, where.parent.parent.parent):
        assert not os.path.lexists(path / "escaped")


def test_archives_may_be_files_and_compressed(box: Engine) -> None:
    box.cli("volume", "create", "packed")
    place = Path(str(box.root)).parent
    (place / "in.tar.gz").write_bytes(gzip.compress(archive_of(("file", b"text"))))
    (place / "in.tar.gz").chmod(0o644)
    box.cli("volume", "import", "packed", place / "in.tar.gz")
    box.cli("volume", "export", "--output", place / "out.tar", "packed")
    with tarfile.open(place / "out.tar") as tar:
        assert tar.getnames() == ["file"]
    done = box.cli("volume", "import", "packed", place / "none.tar", check=False)
    assert done.returncode == 125
    assert "none.tar': No such file" in done.stderr
    assert box.cli("volume", "export", "--output", place / "not.tar", "none", check=False).returncode == 125
    assert not (place / "not.tar").exists()


def test_prune_asks_and_takes_named_volumes_only_if_told(box: Engine) -> None:
    anonymous = box.out("volume", "create")
    box.cli("volume", "create", "--label", "keep", "named")
    done = box.cli("volume", "prune", input="n\n")
    assert anonymous in done.stdout
    assert "Are you sure" in done.stdout
    assert box.out("volume", "prune", "--dry-run", "--all").splitlines()[1:] == [anonymous, "named"]
    assert len(volumes(box)) == 2
    since = box.last_seq()
    assert box.cli("volume", "prune", input="y\n").stdout.splitlines()[-1].endswith(anonymous)
    assert told(box, since) == [("remove", anonymous), ("prune", anonymous)]
    assert box.out("volume", "prune", "--force", "--all", "--filter", "label!=keep") == ""
    assert box.out("volume", "prune", "--force", "--filter", "all=true") == "named"


def test_people_mount_what_a_volume_mounts(box: Engine) -> None:
    box.cli("volume", "create", "--opt", "type=tmpfs", "m")
    box.cli("volume", "create", "plain")
    since = box.last_seq()
    for _ in range(2):
        box.call(f"{VOLUME}.Mount", {"name": "m"})
    assert box.call(f"{VOLUME}.Mount", {"name": "plain"})["path"] == shown(box, "plain")["Mountpoint"]
    assert (shown(box, "m")["MountCount"], shown(box, "plain")["MountCount"]) == (2, 0)
    box.kill()
    box.cli("volume", "unmount", "m")
    assert shown(box, "m")["MountCount"] == 1
    box.cli("volume", "unmount", "--force", "m")
    box.cli("volume", "unmount", "m")
    assert shown(box, "m")["MountCount"] == 0
    assert [status for status, _ in told(box, since)] == ["mount"] * 2 + ["unmount"] * 2
