"""A process is known by pid and start time, and its end is seen by whoever holds a descriptor of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from supervisor.kernel import process
from supervisor.kernel.process import ProcessRef

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def _end(child: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    child.send_signal(number)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


async def test_waiting_ends_with_the_process(sleeper: subprocess.Popen[bytes]) -> None:
    ref = process.ref_of(sleeper.pid)
    assert ref is not None
    with process.open_pidfd(ref) or pytest.fail("gone") as pidfd:
        assert not pidfd.exited()
        assert pidfd.exit_status() is None
        assert pidfd.send_signal(signal.SIGTERM)
        with trio.fail_after(20):
            await pidfd.wait()
        assert pidfd.exited()
        sleeper.wait()
        assert not pidfd.send_signal(signal.SIGTERM)


def test_the_status_of_a_zombie_is_known(sleeper: subprocess.Popen[bytes]) -> None:
    assert process.zombie_status(sleeper.pid) is None
    ref = process.ref_of(sleeper.pid)
    assert ref is not None
    _end(sleeper, signal.SIGTERM)
    status = process.zombie_status(sleeper.pid)
    assert status is not None
    assert process.exit_code_of_status(status) == 128 + signal.SIGTERM
    with process.open_pidfd(ref) or pytest.fail("gone") as pidfd:
        assert pidfd.exit_status() == status
    sleeper.wait()
    assert process.zombie_status(sleeper.pid) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process that belongs to somebody else")
def test_a_zombie_whose_status_the_kernel_hides_has_none(sleeper: subprocess.Popen[bytes]) -> None:
    _end(sleeper)
    source = f"from supervisor.kernel import process; print(process.zombie_status({sleeper.pid}))"
    seen = subprocess.run(
        [sys.executable, "-c", source],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        check=True,
    )
    sleeper.wait()
    assert seen.stdout == b"None\n"


def test_the_status_of_a_process_that_was_reaped_is_known_to_who_held_a_pidfd() -> None:
    child = subprocess.Popen(["sh", "-c", "read x; exit 42"], stdin=subprocess.PIPE)
    ref = process.ref_of(child.pid)
    assert ref is not None
    with process.open_pidfd(ref) or pytest.fail("gone") as pidfd:
        child.communicate(b"\n")
        status = pidfd.exit_status()
    if status is None:
        pytest.skip("this kernel does not keep the status of a process that was reaped")
    assert process.exit_code_of_status(status) == 42


def test_a_pid_that_another_process_has_is_not_opened(sleeper: subprocess.Popen[bytes]) -> None:
    ref = process.ref_of(sleeper.pid)
    assert ref is not None
    assert process.open_pidfd(ProcessRef(ref.pid, ref.start_time - 1)) is None
    _end(sleeper)
    sleeper.wait()
    assert process.open_pidfd(ref) is None
    assert process.ref_of(ref.pid) is None


def test_a_name_with_brackets_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 2 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    ref = process.ref_of(child.pid)
    own = process.ref_of(os.getpid())
    _end(child)
    child.wait()
    assert ref is not None
    assert own is not None
    assert ref.start_time > own.start_time


def test_a_pid_file_leads_to_its_process(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert process.ref_of_file(str(path)) is None
    path.write_text("nonsense")
    assert process.ref_of_file(str(path)) is None
    path.write_text(f"{os.getpid()}\n")
    assert process.ref_of_file(str(path)) == process.ref_of(os.getpid())


def test_a_thread_id_is_no_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, daemon=True)
    thread.start()
    try:
        assert thread.native_id is not None
        assert process.open_pidfd(ProcessRef(thread.native_id, 1)) is None
    finally:
        done.set()
        thread.join()


def test_an_exit_code_is_what_a_shell_shows() -> None:
    assert process.exit_code_of_status(3 << 8) == 3
    assert process.exit_code_of_status(9) == 137
    assert process.exit_code_of_status(11 | 0x80) == 139


def test_the_boot_has_an_id() -> None:
    assert len(process.boot_id()) == 36
