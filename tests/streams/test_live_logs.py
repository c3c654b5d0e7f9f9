"""logs of real containers: exact bytes, rotation under load, time, tail, followers that survive restarts."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engine import Engine

NET = ("--network", "none")
pytestmark = pytest.mark.oci_runtime("crun")  # conmon writes what is read here, whatever it starts


@pytest.fixture
def root(rootfs: Path) -> tuple[str, str]:
    return ("--rootfs", f"{rootfs}:O")


def go(engine: Engine, name: str) -> None:
    """Lets the container's command go on; it may end, and the exec session with it, before that has answered."""
    engine.cli("exec", name, "touch", "/tmp/go", check=False)


def is_another(path: Path, inode: int) -> bool:
    return path.exists() and path.stat().st_ino != inode


def shell(engine: Engine, root: tuple[str, str], program: str, *options: str) -> str:
    """The id of a container that has run the program to its end."""
    identity = engine.out("run", "-d", *NET, *options, *root, "sh", "-c", program)
    engine.cli("wait", identity)
    return identity


def test_logs_are_what_the_container_wrote_on_each_stream(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    shell(shared_engine, root, "printf 'a\\000b\\nno end'; printf 'err\\n' >&2", "--name", "c")
    done = shared_engine.cli("logs", "c")
    assert (done.stdout, done.stderr) == ("a\0b\nno end", "err\n")


def test_a_line_of_megabytes_is_one_line(shared_engine: Engine, root: tuple[str, str]) -> None:
    shell(shared_engine, root, "head -c 3000000 /dev/zero | tr '\\000' x; echo; echo after", "--name", "c")
    assert shared_engine.cli("logs", "c").stdout == "x" * 3_000_000 + "\nafter\n"
    assert shared_engine.cli("logs", "--tail", "2", "c").stdout == "x" * 3_000_000 + "\nafter\n"
    stamped = shared_engine.cli("logs", "-t", "c").stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["x" * 3_000_000, "after"]


def test_tail_and_times_choose_lines(shared_engine: Engine, root: tuple[str, str]) -> None:
    shell(shared_engine, root, "for i in 1 2 3 4 5; do echo $i; done; sleep 0.3; echo late", "--name", "c")
    assert shared_engine.out("logs", "--tail", "2", "c") == "5\nlate"
    assert shared_engine.out("logs", "--tail", "0", "c") == ""
    assert shared_engine.out("logs", "--tail", "-1", "c") == "1\n2\n3\n4\n5\nlate"
    *_, fifth, late = shared_engine.out("logs", "-t", "c").splitlines()
    assert shared_engine.out("logs", "--since", late.split()[0], "c") == "late"
    assert shared_engine.out("logs", "--until", fifth.split()[0], "c") == "1\n2\n3\n4\n5"
    assert shared_engine.out("logs", "--since", "1h", "--until=-1m", "c") == ""


def test_several_containers_are_told_apart_as_by_podman(shared_engine: Engine, root: tuple[str, str]) -> None:
    one = shell(shared_engine, root, "echo from one", "--name", "one")
    two = shell(shared_engine, root, "echo from two", "--name", "two")
    assert shared_engine.out("logs", "one", "two") == f"{one[:12]} from one\n{two[:12]} from two"
    assert shared_engine.out("logs", "-n", "two", "one") == "two from two\none from one"
    colored = shared_engine.out("logs", "-n", "--color", "one", "two")
    assert colored == "\x1b[37mone from one\x1b[0m\n\x1b[31mtwo from two\x1b[0m"
    assert shared_engine.out("logs", "--latest") == "from two"
    assert shared_engine.cli("logs", "nosuch", check=False).returncode == 125


def test_a_follower_ends_with_the_container_and_misses_nothing(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    program = "echo begin; while [ ! -e /tmp/go ]; do sleep 0.02; done; seq 1 1000; printf end"
    shared_engine.cli("run", "-d", "--name", "c", *NET, *root, "sh", "-c", program)
    with shared_engine.spawn("logs", "-f", "c") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"begin\n"
        go(shared_engine, "c")
        assert follower.stdout.read() == b"".join(b"%d\n" % number for number in range(1, 1001)) + b"end"
        assert follower.wait(20) == 0


def test_two_followed_containers_are_interleaved_by_line(
    shared_engine: Engine, root: tuple[str, str]
) -> None:
    program = "printf 'half '; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo whole"
    for name in ("one", "two"):
        shared_engine.cli("run", "-d", "--name", name, *NET, *root, "sh", "-c", program)
    with shared_engine.spawn("logs", "-f", "-n", "one", "two") as follower:
        assert follower.stdout is not None
        go(shared_engine, "two")
        assert follower.stdout.readline() == b"two half whole\n"
        go(shared_engine, "one")
        assert follower.stdout.readline() == b"one half whole\n"
        assert follower.stdout.read() == b""
        assert follower.wait(20) == 0


def test_a_follower_gets_every_byte_through_rotations(
    shared_engine: Engine, root: tuple[str, str], tmp_path: Path
) -> None:
    lines, parts = 400_000, 8
    # In parts of more than the size, each after a rotation: a supervisor that comes late rotates once for many.
    waits = "until rm /tmp/go 2>/dev/null; do sleep 0.02; done"
    program = f"n=1; while [ $n -lt {lines} ]; do {waits}; seq $n $((n + 49999)); n=$((n + 50000)); done"
    options = ("--log-opt", "max-size=2mb", "--log-opt", "max-file=3")
    id = shared_engine.out("run", "-d", "--name", "c", *options, *NET, *root, "sh", "-c", program)
    log = shared_engine.root / "pyman/containers" / id / "ctr.log"
    expected = hashlib.sha256(b"".join(b"%d\n" % number for number in range(1, lines + 1))).hexdigest()
    with (
        ThreadPoolExecutor(1) as reader,
        (tmp_path / "out").open("wb") as out,
        shared_engine.spawn("logs", "-f", "c", stdout=out.fileno()) as follower,
        shared_engine.spawn("logs", "-f", "c") as other,
    ):
        assert other.stdout is not None
        read = reader.submit(other.stdout.read)
        for _ in range(parts - 1):
            rotated = partial(is_another, log, log.stat().st_ino)
            go(shared_engine, "c")
            until(rotated, "it is not rotated")
        go(shared_engine, "c")
        got = hashlib.sha256(read.result()).hexdigest()
        assert other.wait(50) == 0
        assert follower.wait(50) == 0
    assert got == expected
    assert hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest() == expected
    kept = shared_engine.cli("logs", "c").stdout.splitlines()
    assert kept[-1] == str(lines)
    assert len(kept) < lines, "what was rotated away is gone"
    assert shared_engine.out("logs", "--tail", "70000", "c").splitlines() == kept[-70000:]


def test_a_follower_goes_on_after_the_supervisor_was_killed(engine: Engine, root: tuple[str, str]) -> None:
    program = "echo begin; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo middle; sleep 0.1; echo end"
    engine.cli("run", "-d", "--name", "c", *NET, *root, "sh", "-c", program)
    with engine.spawn("logs", "-f", "c") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"begin\n"
        engine.kill()
        go(engine, "c")
        assert follower.stdout.read() == b"middle\nend\n"
        assert follower.wait(20) == 0


def test_a_follower_with_an_end_ends_then(shared_engine: Engine, root: tuple[str, str]) -> None:
    shared_engine.cli("run", "-d", "--name", "c", *NET, *root, "sh", "-c", "echo hello; sleep 1000")
    until(lambda: shared_engine.out("logs", "c") == "hello", "it writes nothing")
    begin = time.monotonic()
    assert shared_engine.out("logs", "-f", "--until", "500ms", "c") == "hello"
    assert 0.4 < time.monotonic() - begin < 20


def test_a_reader_that_has_gone_ends_the_follower(shared_engine: Engine, root: tuple[str, str]) -> None:
    program = "while :; do echo more; sleep 0.02; done"
    shared_engine.cli("run", "-d", "--name", "c", *NET, *root, "sh", "-c", program)
    with shared_engine.spawn("logs", "-f", "c") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"more\n"
        follower.stdout.close()
        assert follower.wait(20) == 141


def test_a_driver_that_keeps_nothing_is_told(shared_engine: Engine, root: tuple[str, str]) -> None:
    shell(shared_engine, root, "echo x", "--name", "c", "--log-driver", "none")
    done = shared_engine.cli("logs", "c", check=False)
    assert done.returncode == 125
    assert "none" in done.stderr
