"""The exit is what conmon wrote: code, time, and whether memory ran out."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import trio

from supervisor.conmon import exit as exits
from supervisor.kernel.process import open_pidfd, ref_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conmon.monitors import Bench


def test_no_file_is_no_exit(tmp_path: Path) -> None:
    assert exits.read_exit(str(tmp_path), str(tmp_path), "id") is None
    assert exits.read_exit(None, None, "id") is None
    exits.clear_exit(str(tmp_path), None, "id")


def test_the_persistent_file_wins_over_the_other(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("3")
    os.utime(tmp_path / "id", ns=(1, 1_700_000_000_123_456_789))
    found = exits.read_exit(str(tmp_path), str(tmp_path / "persist"), "id")
    assert found == exits.Exit(3, 1_700_000_000_123_456_789)
    (tmp_path / "exit").write_text("4")
    (tmp_path / "oom").touch()
    found = exits.read_exit(str(tmp_path), str(tmp_path), "id")
    assert found is not None
    assert (found.code, found.oom) == (4, True)
    exits.clear_exit(str(tmp_path), str(tmp_path), "id")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "nonsense", "1.5"])
def test_a_file_that_is_not_conmons_is_no_exit(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit").write_text(text)
    assert exits.read_exit(None, str(tmp_path), "id") is None


async def test_time_and_code_of_a_killed_container(bench: Bench) -> None:
    container = await bench.started("sleep", "60")
    before = time.time_ns()
    os.kill(container.pid, 9)
    end = await container.wait()
    assert end.code == 137
    assert abs(end.time_ns - before) < 10_000_000_000
    assert sorted(entry.name for entry in container.persist.iterdir()) == ["exit"]
    assert (bench.exits / container.id).read_text() == "137"


async def test_running_out_of_memory_is_noticed(bench: Bench) -> None:
    eater = 'BEGIN { x = "x"; for (;;) x = x x }'
    container = await bench.started("awk", eater, memory=16 << 20)
    end = await container.wait()
    assert end.oom
    assert end.code == 137
    exits.clear_exit(str(bench.exits), str(container.persist), container.id)
    assert not list(container.persist.iterdir())


@pytest.mark.oci_runtime("runc")
async def test_the_code_is_kept_when_the_monitor_is_killed(bench: Bench) -> None:
    fifo = bench.base / "fifo"
    os.mkfifo(fifo)
    permission = os.open(fifo, os.O_RDWR)
    container = await bench.started("sh", "-c", "read go </tmp/fifo; exit 23", fifo=str(fifo))
    ref = ref_of(container.pid)
    assert ref is not None
    assert container.monitor is not None
    with open_pidfd(ref) or pytest.fail("gone") as init:
        os.kill(container.monitor.pid, 9)
        os.write(permission, b"go\n")
        with trio.fail_after(20):
            await init.wait()
        status = init.exit_status()
    os.close(permission)
    assert exits.read_exit(str(bench.exits), str(container.persist), container.id) is None
    assert status is not None
    assert os.waitstatus_to_exitcode(status) == 23
