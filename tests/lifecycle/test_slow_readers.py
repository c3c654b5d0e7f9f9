"""Clients that read slowly, as who looks at output page by page: nothing of it is lost, and nobody else waits for long."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from supervisor.runtime.life.ending import MONITOR_GRACE
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

pytestmark = pytest.mark.oci_runtime("runc")

PIECE = 16384
PATIENCE = 20.0
SCRIPT = f"""
i=1
while true; do
    (head -c {PIECE} /dev/zero; echo $i >/out/pieces) &
    sleep 0.05
    [ "$(cat /out/pieces)" = $i ] || sleep 2
    [ "$(cat /out/pieces)" = $i ] || exit 0
    i=$((i + 1))
done
"""
"""Ends when nobody takes a piece any more: then all pipes and sockets are full, and conmon waits for its client."""


@pytest.fixture
def out(shared_engine: Engine) -> Iterator[Path]:
    """A directory in which containers say how many pieces they have written."""
    directory = shared_engine.path / "out"
    directory.mkdir()
    (directory / "pieces").write_text("0\n")
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def _unread(engine: Engine, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of whose output nobody reads anything; it is over when this returns, and has not ended."""
    with engine.spawn(*words, stdin=subprocess.DEVNULL) as program:
        try:
            until(lambda: _is_over(engine), "no conmon waits for its client", 2 * PATIENCE)
            yield program
        finally:
            program.kill()


def _run(rootfs: Path, out: Path, *options: str) -> tuple[str, ...]:
    where = ("--volume", f"{out}:/out", "--rootfs", f"{rootfs}:O")
    return ("run", "--name", "c", *options, *where, "sh", "-c", SCRIPT)


def _is_over(engine: Engine) -> bool:
    """Nothing of the container's first process is there any more, and it has not ended."""
    found = json.loads(engine.out("ps", "--format", "json"))
    return any(not os.path.exists(f"/proc/{each['Pid']}/root/bin") for each in found)


def _read(program: subprocess.Popen[bytes], out: Path) -> None:
    """All that there is; who has not been done with a piece may go on with it as soon as somebody reads."""
    assert program.stdout is not None
    pieces = int((out / "pieces").read_text())
    assert len(program.stdout.read()) >= pieces * PIECE
    assert program.wait(PATIENCE) == 0


def test_what_a_container_has_written_is_read_whenever_its_client_likes(
    shared_engine: Engine, rootfs: Path, out: Path
) -> None:
    with _unread(shared_engine, *_run(rootfs, out)) as program:
        time.sleep(2 * MONITOR_GRACE + 0.5)
        assert _is_over(shared_engine), "its client has been cut off"
        _read(program, out)


def test_but_a_client_that_is_stopped_keeps_no_end_from_anybody(
    shared_engine: Engine, rootfs: Path, out: Path
) -> None:
    with _unread(shared_engine, *_run(rootfs, out)) as program:
        program.send_signal(signal.SIGSTOP)
        shared_engine.await_event(lambda event: event["Status"] == "died")


def test_nor_does_any_client_from_who_asks_for_it(shared_engine: Engine, rootfs: Path, out: Path) -> None:
    with _unread(shared_engine, *_run(rootfs, out)):
        assert shared_engine.cli("stop", "c").stdout == "c\n"
        assert shared_engine.inspect("c")["State"]["Status"] == "exited"


def test_nor_from_a_restart(shared_engine: Engine, rootfs: Path, out: Path) -> None:
    with _unread(shared_engine, *_run(rootfs, out, "--restart", "always", "--restart-delay", "100")):
        shared_engine.await_event(lambda event: event["Status"] == "died")


def test_what_a_command_has_written_is_read_whenever_its_client_likes(
    shared_engine: Engine, rootfs: Path, out: Path
) -> None:
    engine = shared_engine
    where = ("--volume", f"{out}:/out", "--rootfs", f"{rootfs}:O")
    engine.cli("run", "--detach", "--name", "box", *where, "sleep", "1000")
    script = f"trap 'echo over >/out/state' EXIT\n{SCRIPT}"
    with engine.spawn("exec", "box", "sh", "-c", script, stdin=subprocess.DEVNULL) as program:
        try:
            until((out / "state").exists, "the command does not end", 2 * PATIENCE)
            time.sleep(2 * MONITOR_GRACE + 0.5)
            assert engine.inspect("box")["ExecIDs"], "its client has been cut off"
            _read(program, out)
        finally:
            program.kill()
