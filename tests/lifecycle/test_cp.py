"""Files that are copied into containers, out of them and from one to another, as containers then see them."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.copying import INTO, OUT_OF, SCRIPT, archive, make_source
from tests.support.runtimes import BY_USER
from tests.support.user import User, UserEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime(*BY_USER)

IMAGE, SCENE = "localhost/copied:1", "localhost/scene:1"
RESET = f"cd / && rm -rf /srv /tmp/* /new /text /tree /other && mkdir -p /srv && {{ {SCRIPT} }}"


@pytest.fixture
def engine(shared_engine: Engine, rootfs: Path) -> Engine:
    """With an image of the root file system, and one where the script has been run."""
    if shared_engine.cli("image", "exists", SCENE, check=False).returncode:
        data = subprocess.run(["tar", "-C", rootfs, "-c", "."], check=True, capture_output=True).stdout
        shared_engine.cli("import", "--quiet", "-", IMAGE, input=data)
        shared_engine.cli("run", "--name", "made", IMAGE, "sh", "-c", SCRIPT)
        shared_engine.cli("commit", "--quiet", "made", SCENE)
        shared_engine.cli("rm", "made")
    return shared_engine


@pytest.fixture
def here(engine: Engine) -> Iterator[Path]:
    """A directory of the client's."""
    made = engine.path / "here"
    made.mkdir()
    try:
        yield _given(engine, made)
    finally:
        shutil.rmtree(made)


def _given(engine: Engine, path: Path) -> Path:
    if isinstance(engine, UserEngine):
        User.of().owns(path)
    return path


def _running(engine: Engine, *options: str, name: str = "c", image: str = SCENE) -> None:
    engine.cli("run", "-d", "--name", name, "-w", "/srv", *options, image, "sleep", "1000")


def _created(engine: Engine, *options: str, name: str = "c", image: str = SCENE) -> None:
    engine.cli("create", "--name", name, "-w", "/srv", *options, image, "sleep", "1000")


def _cp(engine: Engine, *words: str | Path) -> None:
    assert engine.out("cp", *words) == ""


def _in(engine: Engine, command: str, name: str = "c") -> str:
    return engine.out("exec", name, "sh", "-c", command)


def _taken(engine: Engine, *words: str | Path) -> bytes:
    """The archive on the standard output; nothing: it is refused."""
    with engine.spawn("cp", *words, "-") as child:
        out, err = child.communicate(timeout=30)
    assert bool(err) == bool(child.returncode)
    return out


def _refused(engine: Engine, *words: str | Path, data: bytes | None = None) -> str:
    done = engine.cli("cp", *words, check=False, input=data)
    assert done.returncode == 125
    assert done.stderr.count("\n") == 1
    return done.stderr


# -- what goes where ------------------------------------------------------------------------------


def test_what_is_copied_into_a_running_container_goes_where_podmans_manual_says(
    engine: Engine, here: Path
) -> None:
    make_source(here)
    _given(engine, here)
    _running(engine)
    wrong = []
    for case in INTO:
        _in(engine, RESET)
        done = engine.cli("cp", *case.options, f"{here}/{case.source}", f"c:{case.target}", check=False)
        if case.expected:
            read = engine.cli("exec", "c", "cat", case.expected, check=False).stdout
            if done.returncode or read != "copied\n":
                wrong.append((case, done.stderr, read))
        elif done.returncode != 125 or "copied" in _in(
            engine, "cat /tmp/full/dir/* /new /srv/file 2>&1; true"
        ):
            wrong.append((case, done.stderr, ""))
    assert not wrong


def test_what_is_copied_into_a_container_that_never_ran_goes_to_the_same_places(
    engine: Engine, here: Path
) -> None:
    make_source(here)
    _given(engine, here)
    wrong = []
    for case in INTO:
        _created(engine)
        done = engine.cli("cp", *case.options, f"{here}/{case.source}", f"c:{case.target}", check=False)
        read = _read(engine, f"c:{case.expected}") if case.expected else b""
        if (done.returncode, read) != ((0, b"copied\n") if case.expected else (125, b"")):
            wrong.append((case, done.stderr, read))
        engine.cli("rm", "c")
    assert not wrong


def _read(engine: Engine, path: str) -> bytes:
    """A file of a container's, by way of an archive."""
    data = _taken(engine, path)
    if not data:
        return b""
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        file = found.extractfile(found.next() or "")
        return file.read() if file is not None else b""


@pytest.mark.parametrize("make", [_running, _created])
def test_what_is_copied_out_goes_where_podmans_manual_says(
    engine: Engine, here: Path, make: Callable[[Engine], None]
) -> None:
    make(engine)
    wrong = []
    for case in OUT_OF:
        target = here / "target"
        (target / "kept").mkdir(parents=True)
        (target / "there").write_text("old\n")
        (target / "link").symlink_to("there")
        (target / "dir").write_text("old\n")
        _given(engine, here)
        done = engine.cli("cp", *case.options, f"c:{case.source}", f"{target}{case.target}", check=False)
        if case.expected:
            found = target / case.expected
            texts = {"inner": "inner\n", "kept": "kept\n"}
            expected = texts.get(case.expected.rpartition("/")[2], "file\n")
            if done.returncode or not found.is_file() or found.read_text() != expected:
                wrong.append((case, done.stderr))
        elif done.returncode != 125 or "Error: cannot" not in done.stderr:
            wrong.append((case, done.stderr))
        shutil.rmtree(target)
    assert not wrong


def test_a_copy_keeps_what_a_file_is(engine: Engine, here: Path) -> None:
    """Mode with set-id bits, times to the nanosecond, links, holes, attributes, FIFOs, odd names."""
    tree = here / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "one").write_text("one")
    os.link(tree / "one", tree / "sub" / "two")
    (tree / "sub" / "link").symlink_to("../one")
    os.mkfifo(tree / "fifo", 0o640)
    (tree / os.fsdecode(b"odd\xff\n name")).write_text("odd")
    with (tree / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(50 << 20)
        file.write(b"end")
    os.setxattr(tree / "one", "user.note", b"yes")
    (tree / "one").chmod(0o4751)
    _given(engine, here)
    (tree / "one").chmod(0o4751)
    os.utime(tree / "one", ns=(10**18 + 1, 10**18 + 123456789))
    os.utime(tree / "sub", ns=(10**18, 10**18 + 7))
    _running(engine)
    _cp(engine, tree, "c:/tmp/tree")
    _cp(engine, "c:/tmp/tree", here / "back")
    for copied in (here / "back",):
        status = (copied / "one").stat()
        assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o4751, 10**18 + 123456789)
        assert (copied / "sub").stat().st_mtime_ns == 10**18 + 7
        assert (copied / "sub" / "two").stat().st_ino == status.st_ino
        assert os.readlink(copied / "sub" / "link") == "../one"
        assert os.getxattr(copied / "one", "user.note") == b"yes"
        assert (copied / "fifo").is_fifo()
        assert (copied / os.fsdecode(b"odd\xff\n name")).read_text() == "odd"
        assert (copied / "holes").read_bytes() == b"begin" + bytes((50 << 20) - 5) + b"end"
        assert (copied / "holes").stat().st_blocks < 1000
    assert _in(engine, "stat -c %a /tmp/tree/one; stat -c %b /tmp/tree/holes").split()[0] == "4751"


@pytest.mark.parametrize("make", [_running, _created])
def test_copies_belong_to_the_containers_user_unless_they_keep_their_owner(
    engine: Engine, here: Path, make: Callable[..., None]
) -> None:
    (here / "text").write_text("x")
    _given(engine, here)
    make(engine, "--user", "worker")
    for name, options in (("users", ()), ("kept", ("--archive=false",))):
        _cp(engine, *options, here / "text", f"c:/tmp/{name}")
        data = archive(("deep/member", b"x"), uid=5)
        engine.cli("cp", *options, "-", "c:/tmp", input=data)
        _cp(engine, *options, "c:/tmp/deep", f"c:/tmp/across-{name}")
        engine.cli("cp", "c:/tmp/deep", "c:/srv/")
        if make is _created:
            engine.cli("start", "c")
        names = f"/tmp/{name} /tmp/deep /tmp/deep/member /tmp/across-{name}/member"
        owners = _in(engine, f"stat -c %u:%g {names}").split()
        worker = "1000:1000"
        assert owners == ([worker] * 4 if not options else ["0:0", worker, "5:5", "5:5"])
        if make is _created:
            engine.cli("stop", "-t", "0", "c")


def test_what_comes_out_is_the_clients_and_an_archive_the_users(engine: Engine, here: Path) -> None:
    _running(engine, "--user", "worker")
    engine.cli("exec", "--user", "0", "c", "sh", "-c", "chown 5:6 /srv/file; chmod 4755 /srv/file")
    _cp(engine, "c:/srv/file", here / "file")
    status, own = (here / "file").stat(), here.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (own.st_uid, own.st_gid, 0o4755)
    for options, owner in (((), (1000, 1000)), (("--archive=false",), (5, 6))):
        data = _taken(engine, *options, "c:/srv")
        with tarfile.open(fileobj=io.BytesIO(data)) as found:
            assert set(found.getnames()) == {"srv", "srv/file", "srv/sub", "srv/sub/inner"}
            member = found.getmember("srv/file")
            assert (member.uid, member.gid) == owner


def test_an_archive_is_unpacked_compressed_or_not(engine: Engine) -> None:
    _running(engine)
    data = archive(("new", None), ("new/file", b"one"), ("new/file", b"two"), ("link", "new/file"))
    for packed in (data, gzip.compress(data)):
        engine.cli("cp", "-", "c:/tmp", input=packed)
        assert _in(engine, "cat /tmp/link; rm -r /tmp/new /tmp/link") == "two"
    engine.cli("cp", "-", "c:/tmp/", input=archive((".", None), ("sub", None)))
    assert _in(engine, "stat -c %a /tmp") == "755"


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (b"", "/tmp", "it is empty"),
        (b"hello" * 300, "/tmp", "it is no tar archive"),
        (archive(("x", b"1" * 5000))[:2000], "/tmp", "it ends in the middle of a file"),
        (archive(("x", b"1")), "/srv/file", "it is no directory"),
        (archive(("x", b"1")), "/nowhere", "it is no directory"),
        (archive(("../x", b"1")), "/tmp", "it lies outside of the archive"),
        (archive(("full", b"1")), "/tmp", "it would be a file, and is a directory"),
        (archive(("link", None)), "/tmp", "it would be a directory, and is something else"),
    ],
)
def test_what_is_no_archive_for_that_place_is_refused(
    engine: Engine, data: bytes, path: str, reason: str
) -> None:
    _created(engine)
    assert reason in _refused(engine, "-", f"c:{path}", data=data)


# -- what is mounted ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [_running, _created])
def test_volumes_and_directories_of_the_host_are_where_they_are_mounted(
    engine: Engine, here: Path, make: Callable[..., None]
) -> None:
    (here / "text").write_text("x")
    (here / "bound" / "part").mkdir(parents=True)
    (here / "bound-file").write_text("old")
    _given(engine, here)
    options = (
        *(
            "-v",
            "outer:/deep/volume",
            "-v",
            f"{here}/bound:/deep/volume/bound",
            "-v",
            "inner:/deep/volume/in",
        ),
        *(
            "-v",
            f"{here}/bound-file:/srv/bound-file",
            "--mount",
            "type=volume,src=outer,dst=/part,subpath=in",
        ),
        *("-v", "locked:/locked:ro"),
    )
    engine.cli("volume", "create", "outer")
    _created(engine, "-v", "outer:/o", name="first")
    engine.cli("cp", "-", "first:/o", input=archive(("in", None), ("bound", None)))
    make(engine, *options)
    for path in ("/deep/volume/", "/deep/volume/in/", "/deep/volume/bound/part", "/part/for-part"):
        _cp(engine, here / "text", f"c:{path}")
    assert (here / "bound" / "part" / "text").read_text() == "x"
    assert "Read-only file system" in _refused(engine, here / "text", "c:/locked/")
    _cp(engine, here / "text", "c:/srv/bound-file")
    assert (here / "bound-file").read_text() == "x"
    with tarfile.open(fileobj=io.BytesIO(_taken(engine, "first:/o/."))) as found:
        assert set(found.getnames()) == {"bound", "in", "in/for-part", "text"}
    _cp(engine, "c:/deep", here / "deep")
    assert sorted(str(path.relative_to(here)) for path in (here / "deep").rglob("text")) == [
        "deep/volume/bound/part/text", "deep/volume/in/text", "deep/volume/text",
    ]  # fmt: skip
    engine.cli("rm", "--all", "--force", "-t", "0")
    engine.cli("volume", "rm", "--all", "--force")


def test_a_new_volume_has_the_images_contents_before_something_is_copied_to_it(
    engine: Engine, here: Path
) -> None:
    (here / "text").write_text("x")
    _given(engine, here)
    _created(engine, "-v", "filled:/srv")
    _cp(engine, here / "text", "c:/srv/")
    engine.cli("start", "c")
    assert _in(engine, "ls /srv").split() == ["file", "sub", "text"]
    engine.cli("rm", "--all", "--force", "-t", "0")
    engine.cli("volume", "rm", "filled")


def test_a_tmpfs_gets_its_files_now_or_at_the_start(engine: Engine, here: Path) -> None:
    (here / "text").write_text("x")
    _given(engine, here)
    _created(engine, "--tmpfs", "/tmp", "--mount", "type=tmpfs,dst=/srv,notmpcopyup")
    _cp(engine, here / "text", "c:/tmp/")
    assert "is there only while it runs" in _refused(engine, here / "text", "c:/srv/")
    assert "is there only while it runs" in _refused(engine, "c:/srv/file", here)
    engine.cli("start", "c")
    assert _in(engine, "cat /tmp/text") == "x"
    _cp(engine, here / "text", "c:/srv/new")
    assert _in(engine, "cat /srv/new; grep -c ' /srv tmpfs ' /proc/mounts") == "x1"
    assert (here / "new").exists() is False
    _cp(engine, "c:/srv/new", here)
    assert (here / "new").read_text() == "x"


def test_what_is_written_to_a_view_of_a_directory_would_be_lost(
    engine: Engine, here: Path, rootfs: Path
) -> None:
    (here / "text").write_text("x")
    _given(engine, here)
    engine.cli("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    assert "ends with a run" in _refused(engine, here / "text", "c:/tmp/")
    _cp(engine, "c:/etc/hostname", here)
    engine.cli("start", "c")
    _cp(engine, here / "text", "c:/tmp/")
    assert _in(engine, "cat /tmp/text") == "x"


def test_nothing_is_written_to_a_container_that_is_read_only_while_it_runs(
    engine: Engine, here: Path
) -> None:
    (here / "text").write_text("x")
    _given(engine, here)
    _running(engine, "--read-only")
    assert "Read-only file system" in _refused(engine, here / "text", "c:/srv/")
    _cp(engine, here / "text", "c:/tmp/")


@pytest.mark.oci_runtime("crun")
def test_a_paused_container_is_copied_from_and_to(engine: Engine, here: Path) -> None:
    _running(engine)
    engine.cli("pause", "c")
    _cp(engine, "c:/srv/file", here)
    _cp(engine, here / "file", "c:/tmp/again")
    engine.cli("unpause", "c")
    assert _in(engine, "cat /tmp/again") == "file"


def test_files_of_the_kernel_have_their_data_and_a_whole_root_leaves_them_out(
    engine: Engine, here: Path
) -> None:
    _running(engine)
    _cp(engine, "c:/proc/meminfo", here)
    assert "MemTotal" in (here / "meminfo").read_text()
    engine.cli("cp", "c:/", here / "root")
    assert (here / "root" / "srv" / "file").read_text() == "file\n"
    assert not {"dev", "proc", "sys"} & set(os.listdir(here / "root"))


def test_a_directory_is_not_copied_into_itself(engine: Engine) -> None:
    _running(engine)
    for source, target in (("/srv", "/srv/sub/new"), ("/srv", "/srv"), ("/srv/.", "/srv"), ("/", "/tmp/x")):
        assert "into itself" in _refused(engine, f"c:{source}", f"c:{target}")
    assert _in(engine, "find /srv").split() == ["/srv", "/srv/file", "/srv/sub", "/srv/sub/inner"]


@pytest.mark.oci_runtime("crun")
def test_ids_are_those_that_a_user_namespace_shows(engine: Engine, here: Path) -> None:
    (here / "text").write_text("x")
    maps = ("--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536")
    _running(engine, *maps)
    _created(engine, *maps, "--user", "worker", name="d")
    for name, owner in (("c", "0:0"), ("d", "1000:1000")):
        _cp(engine, here / "text", f"{name}:/tmp/users")
        _cp(engine, "--archive=false", here / "text", f"{name}:/tmp/roots")
        engine.cli("cp", "--archive=false", "-", f"{name}:/tmp", input=archive(("five", b"x"), uid=5))
        engine.cli("start", name)
        seen = _in(engine, "stat -c %u:%g /tmp/users /tmp/roots /tmp/five; cat /tmp/five", name)
        assert seen.split() == [owner, "0:0", "5:5", "x"]
    _cp(engine, "--archive=false", "c:/tmp/five", "d:/tmp/across")
    assert _in(engine, "stat -c %u:%g /tmp/across", "d") == "5:5"
    _cp(engine, "c:/tmp/five", here)
    assert (here / "five").stat().st_uid == 0
    with tarfile.open(fileobj=io.BytesIO(_taken(engine, "--archive=false", "c:/tmp/five"))) as found:
        assert [(each.uid, each.gid) for each in found] == [(5, 5)]
    too_high = archive(("high", b"x"), uid=70000)
    assert "owner 70000" in _refused(engine, "--archive=false", "-", "c:/tmp", data=too_high)


# -- what is large --------------------------------------------------------------------------------


def test_a_large_copy_takes_no_memory_of_the_daemons(engine: Engine, here: Path) -> None:
    large = os.urandom(1 << 20) * 64
    (here / "large").write_bytes(large)
    _given(engine, here / "large")
    (here / "out").mkdir()
    _given(engine, here / "out")
    _running(engine)
    _cp(engine, here / "large", "c:/tmp/before")  # what copying needs is imported
    before = processes.present_memory(engine.pid)
    _cp(engine, here / "large", "c:/tmp/large")
    engine.cli("cp", "-", "c:/tmp", input=archive(("packed", large)))
    _cp(engine, "c:/tmp/large", "c:/tmp/across")
    _cp(engine, "c:/tmp/across", here / "out")
    assert _taken(engine, "c:/tmp/packed").count(large) == 1
    assert (here / "out/across").read_bytes() == large
    assert processes.highest_memory(engine.pid) - before < 4 << 20


# -- what ends early ------------------------------------------------------------------------------


def _stalled(engine: Engine, target: str) -> subprocess.Popen[bytes]:
    """A copy of an archive that stops in the middle of its second file."""
    data = archive(("first", b"1" * 1000), ("second", b"2" * 500_000))
    child = engine.spawn("cp", "-", target)
    assert child.stdin is not None
    child.stdin.write(data[:300_000])
    child.stdin.flush()
    return child


@pytest.mark.parametrize("dies", ["client", "supervisor"])
def test_what_ends_early_leaves_whole_files_and_nothing_mounted(engine: Engine, dies: str) -> None:
    _running(engine)
    with _stalled(engine, "c:/tmp") as child:
        _in(engine, "until test -e /tmp/second; do sleep 0.01; done")
        if dies == "client":
            child.kill()
        else:
            engine.kill()
        _in(engine, "while test -e /tmp/second; do sleep 0.01; done")
        child.kill()
    assert _in(engine, "ls -A /tmp").split() == ["d1", "file-link", "first", "full", "link"]
    engine.cli("rm", "--force", "-t", "0", "c")


def test_a_container_that_is_removed_meanwhile_ends_the_copy(engine: Engine) -> None:
    _running(engine)
    with _stalled(engine, "c:/tmp") as child:
        _in(engine, "until test -e /tmp/second; do sleep 0.01; done")
        engine.cli("rm", "--force", "-t", "0", "c")
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(10) == 125
    assert engine.cli("ps", "--all", "--quiet").stdout == ""


def test_a_container_can_be_started_and_stopped_while_something_is_copied_to_it(engine: Engine) -> None:
    _created(engine)
    with _stalled(engine, "c:/tmp") as child:
        engine.cli("start", "c")
        _in(engine, "until test -e /tmp/second; do sleep 0.01; done")
        engine.cli("stop", "-t", "0", "c")
        engine.cli("start", "c")
        assert child.stdin is not None
        child.stdin.write(archive(("second", b"2" * 500_000))[299_000 - 1024 :])
        child.stdin.close()
        assert child.wait(10) in (0, 125)
    assert _in(engine, "cat /tmp/first") == "1" * 1000
