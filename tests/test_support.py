"""The checks that every test is under: what they must find, and what they must let pass."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support import processes
from tests.support.leaks import Belongings
from tests.support.loopwatch import run_watched

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.leaks import HostLock
    from tests.support.runtimes import Place


def _leftovers(before: Belongings, path: Path, host_lock: HostLock) -> dict[str, list[str]]:
    return before.leftovers((str(path),), host_lock)


def test_a_left_descriptor_is_found(tmp_path: Path, host_lock: HostLock) -> None:
    before = Belongings.now()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        assert _leftovers(before, tmp_path, host_lock) == {"descriptor": [f"{descriptor} -> /dev/null"]}
    finally:
        os.close(descriptor)


def test_a_left_child_process_is_found_and_ended(tmp_path: Path, host_lock: HostLock) -> None:
    before = Belongings.now()
    child = subprocess.Popen(["sleep", "60"])
    found = _leftovers(before, tmp_path, host_lock)
    assert list(found) == ["process"]
    assert "sleep 60" in found["process"][0]
    assert child.pid not in processes.children()
    child.returncode = -9  # it was reaped behind this object's back


def test_a_left_thread_is_found(tmp_path: Path, host_lock: HostLock) -> None:
    before = Belongings.now()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="left behind")
    thread.start()
    try:
        assert list(_leftovers(before, tmp_path, host_lock)) == ["thread"]
    finally:
        leave.set()
        thread.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_left_mount_is_found(tmp_path: Path, host_lock: HostLock) -> None:
    before = Belongings.now()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert _leftovers(before, tmp_path, host_lock) == {"mount": [str(tmp_path)]}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_step_that_computes_is_found() -> None:
    async def compute() -> None:
        end = time.thread_time() + 0.08
        while time.thread_time() < end:
            pass
        await trio.lowlevel.checkpoint()

    with pytest.raises(pytest.fail.Exception, match=r"compute: \d+ ms computing"):
        run_watched(1.0, compute)


def test_a_step_that_blocks_is_found() -> None:
    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - the mistake that the watch is for
        await trio.lowlevel.checkpoint()

    with pytest.raises(pytest.fail.Exception, match="ms blocked"):
        run_watched(1.0, block)


@pytest.mark.holds_loop(0.5)
async def test_the_limit_can_be_widened() -> None:
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


async def test_waiting_is_not_holding() -> None:
    await trio.sleep(0.3)


def test_the_root_file_system_runs(rootfs: Path) -> None:
    done = subprocess.run(["chroot", rootfs, "/bin/sh", "-c", "id -un"], check=True, capture_output=True)
    assert done.stdout == b"root\n"


def test_the_oci_runtime_works_in_its_place(oci_runtime: Place, rootfs: Path, tmp_path: Path) -> None:
    """A container by hand, without monitor or engine."""
    prefix = oci_runtime.prefix(str(tmp_path))
    name = f"pyman-test-{os.getpid()}"
    subprocess.run([*prefix, oci_runtime.runtime, "spec"], cwd=tmp_path, check=True)
    config = tmp_path / "config.json"
    text = (
        config.read_text().replace('"rootfs"', f'"{rootfs}"').replace('"terminal": true', '"terminal": false')
    )
    text = text.replace('"sh"', '"true"')
    start = text.index('"rlimits"')
    config.write_text(text[:start] + text[text.index("]", start) + 2 :])
    done = subprocess.run(
        [*prefix, oci_runtime.runtime, "run", name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
