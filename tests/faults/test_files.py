"""Files that a user names: there already, not there, or of a kind that nobody can write to or should wait for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.faults.conftest import Faulty


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode in (125, 126), done
    assert done.stderr.startswith("Error: cannot ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def state(engine: Faulty, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_cidfile_that_exists_is_left_alone_and_nothing_is_made(
    faulty: Faulty, rootfs: Path, tmp_path: Path, verb: str
) -> None:
    cidfile = tmp_path / "cid"
    cidfile.write_text("precious")
    refused(faulty.cli(verb, "--cidfile", cidfile, "--rootfs", rootfs, "true", check=False), str(cidfile))
    assert cidfile.read_text() == "precious"
    assert faulty.out("ps", "-aq") == ""


def test_a_cidfile_that_cannot_be_written_is_said_before_anything_is_made(
    faulty: Faulty, rootfs: Path, tmp_path: Path
) -> None:
    for path in (tmp_path / "no/where", tmp_path):
        refused(faulty.cli("run", "--cidfile", path, "--rootfs", rootfs, "true", check=False), str(path))
    assert faulty.out("ps", "-aq") == ""


def test_a_create_that_fails_leaves_no_cidfile(faulty: Faulty, tmp_path: Path) -> None:
    cidfile = tmp_path / "cid"
    refused(faulty.cli("create", "--cidfile", cidfile, "--rootfs", "/not/there", "true", check=False))
    assert not cidfile.exists()


@pytest.mark.parametrize("option", ["--pidfile", "--conmon-pidfile"])
@pytest.mark.parametrize("kind", ["no directory", "a directory"])
def test_a_pidfile_that_cannot_be_written_fails_the_start_and_undoes_it(
    faulty: Faulty, rootfs: Path, tmp_path: Path, option: str, kind: str
) -> None:
    path = tmp_path / "no/where" if kind == "no directory" else tmp_path
    command = ("--name", "c", option, path, "--rootfs", f"{rootfs}:O", "true")
    refused(faulty.cli("run", *command, check=False), str(path))
    assert [state(faulty, c)["Status"] for c in faulty.out("ps", "-aq").split()] in ([], ["created"])
    assert not list((faulty.tmpdir / "containers").iterdir())


def test_logs_of_a_file_that_was_deleted_are_empty_or_say_so_and_new_lines_come(
    faulty: Faulty, rootfs: Path
) -> None:
    script = "echo before; while [ ! -e /go ]; do sleep 0.02; done; echo after"
    id = faulty.out("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sh", "-c", script)
    log = faulty.root / "pyman/containers" / id / "ctr.log"
    with faulty.spawn("logs", "-f", "c") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"before\n"
        log.unlink()
        faulty.cli("exec", "c", "touch", "/go")
        faulty.cli("wait", "c")
        assert follower.wait(20) == 0
    done = faulty.cli("logs", "c", check=False)
    if done.returncode:
        refused(done, str(log))
    else:
        assert done.stdout in ("", "after\n")
    faulty.cli("start", "c")
    until(lambda: faulty.out("logs", "c").endswith("before"), "it writes nothing")


def test_a_log_whose_directory_was_deleted_neither_hangs_nor_stops_the_next_run(
    faulty: Faulty, rootfs: Path, tmp_path: Path
) -> None:
    log = tmp_path / "logs/app.log"
    log.parent.mkdir()
    options = ("--name", "c", "--log-opt", f"path={log}", "--rootfs", f"{rootfs}:O")
    faulty.cli("run", *options, "echo", "line")
    assert "line" in log.read_text()
    log.unlink()
    log.parent.rmdir()
    done = faulty.cli("logs", "c", check=False)
    assert done.returncode in (0, 125)
    assert done.stderr.count("\n") <= 1
    faulty.cli("start", "-a", "c")
    assert faulty.out("logs", "c") == "line"


@pytest.fixture
def odd_log(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """What there can be in the place of a log."""
    path = tmp_path / "odd"
    if request.param == "device":
        return "/dev/full"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "directory":
        path.mkdir()
    elif request.param == "link to a fifo":
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to(tmp_path / "fifo")
    return str(path)


@pytest.mark.parametrize("odd_log", ["fifo", "directory", "device", "link to a fifo"], indirect=True)
def test_a_log_path_that_is_no_file_is_refused_at_once_and_nothing_hangs(
    faulty: Faulty, rootfs: Path, odd_log: str
) -> None:
    command = ("--name", "c", "--log-opt", f"path={odd_log}", "--rootfs", f"{rootfs}:O", "echo", "line")
    begun = time.monotonic()
    done = faulty.cli("run", *command, check=False)
    refused(done, odd_log)
    assert time.monotonic() - begun < 15
    assert not list((faulty.tmpdir / "containers").iterdir())
    assert faulty.out("ps", "-q") == ""


def test_a_log_that_becomes_a_fifo_is_not_waited_for(faulty: Faulty, rootfs: Path, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    options = ("--name", "c", "--log-opt", f"path={log}", "--rootfs", f"{rootfs}:O")
    faulty.cli("run", *options, "echo", "line")
    log.unlink()
    os.mkfifo(log)
    refused(faulty.cli("logs", "c", check=False, timeout=15), str(log))
    refused(faulty.cli("start", "-a", "c", check=False, timeout=15), str(log))
    log.unlink()
    faulty.cli("start", "-a", "c")


def test_a_label_or_environment_file_that_cannot_be_read_is_named(
    faulty: Faulty, rootfs: Path, tmp_path: Path
) -> None:
    for option in ("--env-file", "--label-file"):
        for path in (tmp_path / "none", tmp_path):
            done = faulty.cli("create", option, path, "--rootfs", rootfs, "true", check=False)
            refused(done, str(path))
        binary = tmp_path / "binary"
        binary.write_bytes(b"A=\xff\xfe\n")
        refused(faulty.cli("create", option, binary, "--rootfs", rootfs, "true", check=False), str(binary))
    assert faulty.out("ps", "-aq") == ""
