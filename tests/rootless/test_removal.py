"""What a container of an ordinary user has written is removed to the last file, whoever it belongs to."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.user import UserEngine

WRITES = r"""
set -e
mkdir -p /tmp/a/b /var/theirs; touch /tmp/a/b/c /var/theirs/x
chmod 000 /tmp/a/b; chmod 500 /tmp/a; chown 1000:1000 /var/theirs/x /var/theirs; chmod 000 /var/theirs
mkdir /shared; chmod 1777 /shared; touch /shared/y; chown 33 /shared/y
touch "$(printf '/tmp/\377\376name')" "$(printf '/tmp/line\nbreak')" /tmp/-rf; mkdir "$(printf '/tmp/\201d')"
rm -r /home /etc/passwd; mkdir /home; ln -s / /tmp/root; ln -s /proc/1/root /tmp/all; mknod /tmp/fifo p
chown 1000 /; chmod 700 /root; chown 65535 /root
"""


def uppers(engine: UserEngine) -> list[Path]:
    return list((engine.root / "pyman/containers").glob("*/upper"))


def own_id(engine: UserEngine, number: int) -> int:
    """What an id in the namespace is outside."""
    line = Path(f"/proc/{engine.pid}/uid_map").read_text().splitlines()[1].split()
    return int(line[1]) + number - int(line[0])


def grow(engine: UserEngine, upper: Path) -> None:
    """What a shell cannot make: a tree deeper than a path may be long, and white-outs of every kind."""
    here = os.open(upper, os.O_RDONLY)
    owner = own_id(engine, 1000)
    for number in range(200):
        name = f"{number:03}" * 20
        os.mkdir(name, 0o700, dir_fd=here)
        os.chown(name, owner, owner, dir_fd=here)
        there = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    for name in (".wh.gone", ".wh..wh..opq"):
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here))
    os.mknod("whiteout", stat.S_IFCHR, 0, dir_fd=here)
    os.chown("whiteout", owner, owner, dir_fd=here)
    os.fchmod(here, 0)
    os.close(here)


def surroundings(engine: UserEngine, *canaries: Path) -> dict[str, set[str]]:
    """What of the engine, and of what links in a container lead to, is where everybody has files."""
    mine = {engine._stem, engine.path.name, *(path.name for path in canaries)}
    return {
        directory: {name for name in os.listdir(directory) if any(word in name for word in mine)}
        for directory in ("/tmp", "/dev/shm")
    }


def kept(engine: UserEngine) -> list[str]:
    """Whatever of any container is left in the storage, in the run directory and beside them."""
    pyman = engine.root / "pyman"
    places = (pyman / "containers", engine.tmpdir / "containers", pyman / "trash")
    for place in places:
        processes.wait_empty(place, 10)
    return [str(path) for place in places for path in place.iterdir()]


@pytest.fixture
def precious(engine: UserEngine) -> Path:
    """A tree of the user's that links in a container lead to."""
    made = engine.path / "precious"
    (made / "inside").mkdir(parents=True)
    (made / "inside/file").write_text("precious")
    engine.user.owns(made)
    return made


@pytest.fixture
def canaries(engine: UserEngine) -> Iterator[list[Path]]:
    """The user's own, where a link to / leads to."""
    made = [Path(tempfile.mkdtemp(prefix="pm-", dir=directory)) for directory in ("/tmp", "/dev/shm")]
    engine.user.owns(*made)
    yield made
    for path in made:
        path.rmdir()


@pytest.mark.parametrize("how", ["--rm", "rm", "rm -f", "stop", "next"])
def test_nothing_remains(engine: UserEngine, precious: Path, canaries: list[Path], how: str) -> None:
    before = surroundings(engine, *canaries)
    more = ["--rm"] if how == "--rm" else []
    script = f"{WRITES}\nln -s {precious} /tmp/out; exec sleep 1000"
    engine.cli("run", "-d", "--name", "c", *more, "--rootfs", f"{engine.rootfs}:O", "sh", "-c", script)
    engine.cli("exec", "c", "sh", "-c", "until [ -L /tmp/out ] ; do :; done")
    [upper] = uppers(engine)
    grow(engine, upper)
    if how == "next":
        engine.kill_keeper()
        engine.start()
    if how in ("rm", "stop"):
        engine.cli("stop", "-t", "0", "c")
        assert uppers(engine) == [], "writes end with the run"
    if how == "--rm":
        engine.cli("kill", "c")
    elif how != "stop":
        engine.cli("rm", *(["-f", "-t", "0"] if how != "rm" else []), "c")
    if how == "stop":
        engine.cli("start", "c")
        engine.cli("exec", "c", "test", "-d", "/shared")
        engine.cli("rm", "-f", "-t", "0", "c")
    assert kept(engine) == []
    assert (precious / "inside/file").read_text() == "precious"
    assert surroundings(engine, *canaries) == before


def test_a_next_supervisor_empties_the_trash_of_one_that_was_killed_at_it(engine: UserEngine) -> None:
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    [upper] = uppers(engine)
    grow(engine, upper)
    engine.kill_keeper()
    shutil.copytree(upper.parent / "persist", engine.root / "pyman/trash/half")
    (engine.root / "pyman/trash/more/below").mkdir(parents=True)
    os.chown(engine.root / "pyman/trash/more/below", own := 524_290, own)
    ours = engine.root / "pyman/trash"
    for path in (ours / "half", ours / "more"):
        engine.user.owns(path)
    engine.start()
    engine.cli("rm", "-f", "-t", "0", "c")
    assert kept(engine) == []


@pytest.mark.parametrize("supervisor", ["running", "ended", "killed"])
def test_a_reset_removes_it_all(engine: UserEngine, precious: Path, supervisor: str) -> None:
    script = f"{WRITES}\nln -s {precious} /tmp/out; exec sleep 1000"
    words = ("--stop-timeout", "0", "--rootfs", f"{engine.rootfs}:O", "sh", "-c", script)
    engine.cli("run", "-d", "--name", "c", *words)
    engine.cli("exec", "c", "sh", "-c", "until [ -L /tmp/out ] ; do :; done")
    grow(engine, uppers(engine)[0])
    if supervisor == "running":
        engine.keeper_ends()
    elif supervisor == "ended":
        assert engine.stop() == 0
    else:
        engine.kill_keeper()
    done = engine.cli("system", "reset", "-f")
    assert "left as it is" not in done.stderr
    assert not (engine.root / "pyman").exists()
    assert not list(Path("/dev/shm").glob(f"pyman_lock*{engine._stem}*"))
    assert not engine.tmpdir.exists()
    assert (precious / "inside/file").read_text() == "precious"
    engine.start()


FOREIGN = 424_242
"""An id that the user does not have, as one that was taken from the subordinate ids."""


def give_away(path: Path) -> None:
    (path / "theirs/inside").mkdir(parents=True)
    (path / "ours").mkdir()
    for name in ("theirs/inside", "theirs"):
        os.chown(path / name, FOREIGN, FOREIGN)
    (path / "theirs").chmod(0o700)


def test_what_belongs_to_ids_that_were_taken_away_is_named_once_and_the_rest_goes(engine: UserEngine) -> None:
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    [upper] = uppers(engine)
    give_away(upper)
    engine.user.owns(upper / "ours")
    engine.cli("rm", "-f", "-t", "0", "c")
    assert engine.out("ps", "-aq") == ""
    engine.cli("run", "--rm", "--rootfs", f"{engine.rootfs}:O", "true")
    trash = engine.root / "pyman/trash"
    logged = [line for line in engine.log_text().splitlines() if '"cannot delete"' in line]
    while len(list(trash.iterdir())) > 1:
        processes.wait_empty(trash, 0.1)
    assert [path.name for path in trash.glob("*/upper/*")] == ["theirs"]
    logged = [line for line in engine.log_text().splitlines() if '"cannot delete"' in line]
    assert len(logged) == 1
    assert "upper/theirs" in logged[0]
    assert "root can remove it" in logged[0]
    engine.keeper_ends()
    done = engine.cli("system", "reset", "-f", check=False)
    assert done.returncode == 125
    assert f"cannot remove everything in '{engine.root}/pyman'" in done.stderr
    assert "upper/theirs" in done.stderr
    subprocess.run(["chown", "-R", str(engine.user.uid), trash], check=True)
    engine.cli("system", "reset", "-f")
    assert not (engine.root / "pyman").exists()
    engine.start()


def test_a_container_whose_own_root_was_given_away_can_be_stopped_and_removed(engine: UserEngine) -> None:
    engine.cli("run", "-d", "--name", "c", "--rootfs", f"{engine.rootfs}:O", "sleep", "1000")
    [upper] = uppers(engine)
    os.chown(upper, FOREIGN, FOREIGN)
    engine.cli("stop", "-t", "0", "c", check=False)
    engine.cli("rm", "-f", "-t", "0", "c")
    assert engine.out("ps", "-aq") == ""
    assert kept_in_trash(engine) <= 1


def kept_in_trash(engine: UserEngine) -> int:
    return len(list((engine.root / "pyman/trash").iterdir()))
