"""Volumes and images mounted in containers, seen by themselves: as root's and as an ordinary user's."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from supervisor.kernel import mounts
from tests.support.user import UserEngine
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

IMAGE = "registry.example/files:1"
MOUNTINFO = "cat /proc/self/mountinfo"


def _run(engine: Engine, rootfs: Path, *options: str, script: str) -> str:
    return engine.out("run", "--rm", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)


def _options(text: str, path: str) -> set[str]:
    line = next(line for line in text.splitlines() if line.split()[4:5] == [path])
    return set(line.split()[5].split(","))


def _refused(engine: Engine, rootfs: Path, *options: str, verb: str = "create") -> str:
    done = engine.cli(verb, *options, "--rootfs", f"{rootfs}:O", "true", check=False)
    assert done.returncode in (125, 126)
    engine.cli("rm", "--all", "--force")
    return done.stderr


def _volumes(engine: Engine) -> set[str]:
    try:
        return {name for name in os.listdir(engine.root / "volumes") if not name.startswith(".")}
    except FileNotFoundError:
        return set()


@pytest.fixture
def image(shared_engine: Engine) -> str:
    """One whose files are a directory, a file in it and a link that leads out of it."""
    if shared_engine.cli("image", "exists", IMAGE, check=False).returncode:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for name, kind, content in (
                ("share", tarfile.DIRTYPE, b""),
                ("share/text", tarfile.REGTYPE, b"of the image\n"),
                ("share/out", tarfile.SYMTYPE, b""),
            ):
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = (
                    kind,
                    len(content),
                    "/etc" if name[-3:] == "out" else "",
                )
                member.mode = 0o755
                archive.addfile(member, io.BytesIO(content))
        shared_engine.cli("import", "-", IMAGE, input=data.getvalue())
    return IMAGE


@pytest.fixture
def clean(shared_engine: Engine) -> Iterator[None]:
    yield
    shared_engine.cli("rm", "--all", "--force", "--time", "0")


@pytest.mark.usefixtures("clean")
def test_a_volume_is_mounted_with_its_options(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    assert (
        _run(
            engine,
            rootfs,
            "-v",
            "data1:/data",
            script="echo kept > /data/file; mkdir /data/sub; echo in > /data/sub/x; ln -s /etc /data/out",
        )
        == ""
    )
    options = (
        *(
            "-v",
            "data1:/plain",
            "-v",
            "data1:/ro:ro,noexec",
            "--mount",
            "type=volume,src=data1,dst=/mounted,ro=true",
        ),
        *("--mount", "src=data1,dst=/part,subpath=sub"),
        *("--mount", "type=volume,src=data1,dst=/one,volume-subpath=sub/x,ro", "-v", "data1:/over:O"),
        *("--mount", "type=volume,src=data1,dst=/changed,subpath=/sub,U", "--user", "1000:1000"),
    )
    script = f"{MOUNTINFO}; cat /plain/file /part/x /one; stat -c %u /changed /changed/x; touch /changed/y && echo yes"
    text = _run(engine, rootfs, *options, script=script)
    assert text.splitlines()[-6:] == ["kept", "in", "in", "1000", "1000", "yes"]
    assert {"rw", "nosuid", "nodev"} <= _options(text, "/plain")
    assert {"ro", "noexec"} <= _options(text, "/ro")
    assert "ro" in _options(text, "/mounted")
    assert "ro" in _options(text, "/one")
    text = _run(engine, rootfs, "-v", "data1:/over:O", script="echo new > /over/new; ls /over")
    assert text.split() == ["file", "new", "out", "sub"]
    assert _run(engine, rootfs, "-v", "data1:/data", script="ls /data").split() == ["file", "out", "sub"]


@pytest.mark.usefixtures("clean")
def test_no_link_leads_out_of_a_volume(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    _run(
        engine,
        rootfs,
        "-v",
        "data2:/data",
        script="ln -s / /data/root; ln -s ../../../../../etc /data/up; mkdir /data/etc; echo own > /data/etc/passwd",
    )
    for path in ("root/etc", "up", "/root/up/../up"):
        seen = _run(
            engine, rootfs, "--mount", f"src=data2,dst=/part,subpath={path}", script="cat /part/passwd"
        )
        assert seen == "own"
    said = _refused(engine, rootfs, "--mount", "src=data2,dst=/part,subpath=root/home", verb="run")
    assert "cannot mount '/part': there is no 'root/home' in 'data2'" in said
    assert not os.path.lexists("/part")


@pytest.mark.usefixtures("clean")
def test_a_volume_is_made_or_not(shared_engine: Engine, rootfs: Path) -> None:
    engine = shared_engine
    said = _refused(engine, rootfs, "-v", "fresh:/data:nocreate")
    assert "cannot find volume 'fresh', which was not to be made" in said
    before = _volumes(engine)
    assert "fresh" not in before
    options = (
        "type=volume,src=small,dst=/data,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=nodev"
    )
    text = _run(
        engine,
        rootfs,
        "--mount",
        options,
        "-v",
        "fresh:/home:nocopy",
        script=f"{MOUNTINFO}; ls /home | wc -l",
    )
    assert text.splitlines()[-1] == "0"
    assert any(" /data " in line and " - tmpfs " in line for line in text.splitlines())
    assert _volumes(engine) - before == {"fresh", "small"}
    # Without a name it goes with the container.
    engine.cli(
        "create",
        "--name",
        "c",
        "-v",
        "/anonymous",
        "--mount",
        "dst=/other",
        "--rootfs",
        f"{rootfs}:O",
        "true",
    )
    assert len(_volumes(engine) - before) == 4
    told = {mount["Destination"]: mount for mount in engine.inspect("c")["Mounts"]}
    assert told["/anonymous"]["Type"] == "volume"
    assert len(told["/anonymous"]["Name"]) == 64
    engine.cli("rm", "-v", "c")
    assert _volumes(engine) - before == {"fresh", "small"}


@pytest.mark.usefixtures("clean")
def test_volumes_go_on_to_other_containers(shared_engine: Engine, rootfs: Path) -> None:
    """Also anonymous ones, which go with the last."""
    engine = shared_engine
    before = _volumes(engine)
    root = ("--rootfs", f"{rootfs}:O", "sh", "-c")
    engine.cli(
        "create", "--name", "first", "-v", "/a", "-v", "named:/b", *root, "echo a > /a/file; echo b > /b/file"
    )
    engine.cli("start", "-a", "first")
    engine.cli(
        "create",
        "--name",
        "second",
        "--volumes-from",
        "first:ro",
        *root,
        "cat /a/file /b/file; touch /a/x || echo no",
    )
    engine.cli("rm", "-v", "first")
    assert engine.out("start", "-a", "second").split()[:2] == ["a", "b"]
    assert (
        engine.out("logs", "second").split()[-1] == "no" or "Read-only" in engine.cli("logs", "second").stderr
    )
    assert len(_volumes(engine) - before) == 2
    engine.cli("rm", "-v", "second")
    assert _volumes(engine) - before == {"named"}


@pytest.mark.usefixtures("clean")
def test_an_image_is_mounted(shared_engine: Engine, rootfs: Path, image: str) -> None:
    engine = shared_engine
    options = (
        *("--mount", f"type=image,src={image},dst=/i", "--mount", f"type=image,src={image},dst=/w,rw=true"),
        *("--mount", f"type=image,src={image},dst=/part,subpath=/share"),
    )
    script = "cat /i/share/text /part/text; touch /i/x || echo no; echo y > /w/share/new; cat /w/share/new"
    engine.cli("create", "--name", "c", *options, "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    for _ in range(2):
        assert engine.out("start", "-a", "c").splitlines() == ["of the image", "of the image", "no", "y"]
    told = {mount["Destination"]: mount for mount in engine.inspect("c")["Mounts"]}
    assert (told["/i"]["Type"], told["/i"]["Source"], told["/i"]["RW"]) == ("image", image, False)
    assert (told["/w"]["RW"], told["/part"]["SubPath"]) == (True, "/share")
    said = _refused(
        engine, rootfs, "--mount", f"type=image,src={image},dst=/x,subpath=/share/out", verb="run"
    )
    assert "there is no '/share/out'" in said
    until(lambda: not list(engine.tmpdir.glob("containers/*/mounts")), "an image stays mounted")


@pytest.mark.usefixtures("clean")
def test_a_kill_leaves_nothing_mounted(shared_engine: Engine, rootfs: Path, image: str) -> None:
    engine = shared_engine
    sleep = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    options = ("--mount", f"type=image,src={image},dst=/i,subpath=/share", "-v", "data6:/over:O")
    engine.cli("run", "-d", "--name", "c", *options, "--rootfs", f"{rootfs}:O", *sleep)
    engine.kill()
    assert engine.out("exec", "c", "cat", "/i/text") == "of the image"
    engine.cli("rm", "-f", "-t", "0", "c")
    until(lambda: not list(engine.tmpdir.glob("containers/*")), "something stays mounted")


@pytest.mark.usefixtures("clean")
def test_an_image_that_is_mounted_is_used(shared_engine: Engine, rootfs: Path, image: str) -> None:
    engine = shared_engine
    engine.cli(
        "create",
        "--name",
        "c",
        "--mount",
        f"type=image,src={image},dst=/i",
        "--rootfs",
        f"{rootfs}:O",
        "true",
    )
    done = engine.cli("rmi", image, check=False)
    assert "the container c uses it" in done.stderr
    engine.cli("image", "prune", "--all", "--force")
    assert engine.cli("image", "exists", image, check=False).returncode == 0
    engine.cli("rmi", "--force", image)
    assert engine.out("ps", "-aq") == ""


def test_what_a_killed_supervisor_has_made_ready_is_given_back(shared_engine: Engine, rootfs: Path) -> None:
    """Of a container that nobody knows any more, and of a start that was not finished."""
    engine = shared_engine
    if isinstance(engine, UserEngine):
        pytest.skip("mounts of a user's engine are made in its own namespace")
    id = engine.out("create", "--name", "c", "-v", "data9:/x:O", "--rootfs", f"{rootfs}:O", "cat", "/x/file")
    for name in (id, "0" * 64):
        place = engine.tmpdir / "containers" / name / "mounts/0"
        place.mkdir(parents=True)
        mounts.tmpfs(str(place), options="size=4k")
    engine.kill()
    until(lambda: not mounts.mounts_below(str(engine.tmpdir)), "something stays mounted")
    until(lambda: not (engine.tmpdir / "containers" / ("0" * 64)).exists(), "its directory stays")
    engine.cli("rm", "c")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--mount", "type=image,src=IMAGE,dst=/x,subpath=share"),
            "the subpath of an image has to be absolute",
        ),
        (("--mount", "type=image,dst=/x"), "it names no image"),
        (("--mount", "type=image,src=IMAGE,dst=/x,U"), "U is no option of type image"),
        (("-v", "data:/x:O,ro"), "'O' does not go together with 'ro'"),
        (("-v", "da ta:/x"), "da ta"),
        (("-v", "/x:nocreate"), "the destination 'nocreate' is not an absolute path"),
        (("-v", "data:/x", "-v", "other:/x"), "two different mounts"),
        (("--mount", "type=volume,dst=/x,nocreate"), "'nocreate' goes with the name of a volume"),
        (("--mount", "type=volume,src=data,dst=/x,volume-opt=color"), "not of the form volume-opt=KEY=VALUE"),
        (("--mount", "type=volume,src=data,dst=/x,volume-label=a=b"), "volume create --label"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    shared_engine: Engine, rootfs: Path, image: str, options: tuple[str, ...], said: str
) -> None:
    before = _volumes(shared_engine)
    assert said in _refused(shared_engine, rootfs, *(word.replace("IMAGE", image) for word in options))
    assert _volumes(shared_engine) == before


def test_a_volume_is_its_users(shared_engine: Engine, rootfs: Path) -> None:
    """With other ids than the engine's, too."""
    first = 1 if isinstance(shared_engine, UserEngine) else 300_000
    options = ("--uidmap", f"0:{first}:2000", "--mount", "dst=/data,chown=true", "--user", "7:8")
    script = "stat -c %u:%g /data; touch /data/x && stat -c %u /data/x"
    assert _run(shared_engine, rootfs, *options, script=script).split() == ["7:8", "7"]


@pytest.mark.usefixtures("clean")
def test_a_container_of_an_image_has_mounts(shared_engine: Engine, rootfs: Path) -> None:
    """Also over what the image wants a volume for."""
    engine, name = shared_engine, "registry.example/wants:1"
    data = subprocess.run(
        ["tar", "-C", rootfs, "-c", "--exclude=./proc", "--exclude=./dev", "."],
        check=True,
        capture_output=True,
    )
    engine.cli("import", "--change", "VOLUME /home /srv", "-", name, input=data.stdout)
    before = _volumes(engine)
    source = engine.path / "mounted"
    source.mkdir()
    (source / "file").write_text("told\n")
    try:
        words = ("run", "--rm", "-v", f"{source}:/home:ro", "--tmpfs", "/etc/x", name, "sh", "-c")
        text = engine.out(*words, f"{MOUNTINFO}; cat /home/file; ls /srv | wc -l")
        assert text.split()[-2:] == ["told", "0"]
        assert "ro" in _options(text, "/home")
        until(lambda: _volumes(engine) == before, "a volume stays")
    finally:
        shutil.rmtree(source)
        engine.cli("rmi", "--force", name)


@pytest.mark.oci_runtime("crun")
@pytest.mark.usefixtures("clean")
def test_a_volume_keeps_the_times_of_the_directory_it_is_mounted_on(
    shared_engine: Engine,
) -> None:
    """When it was changed and when it was read; a start that only mounts it changes neither."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("empty")
        member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o711, 10**9
        archive.addfile(member)
    shared_engine.cli("import", "-", "localhost/times:1", input=data.getvalue())
    shared_engine.cli("create", "--name", "c", "-v", "timed:/empty", "localhost/times:1", "true")
    for _ in range(2):
        shared_engine.cli("start", "c", check=False)  # there is no such program; all is mounted by then
        status = (shared_engine.root / "volumes" / "timed" / "_data").stat()
        assert (status.st_mode & 0o7777, status.st_mtime, status.st_atime) == (0o711, 10**9, 10**9)
