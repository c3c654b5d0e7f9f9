"""Children are started at one door, end with their call, and are never waited for by the wrong one."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from pyman.errors import DeadlineExceeded
from supervisor.kernel import ancestry, children
from supervisor.kernel.process import open_pidfd, ref_of
from tests.support import processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.conftest import Orphans


async def test_run_gives_code_output_and_errors() -> None:
    completed = await children.run(["sh", "-c", "cat; echo no >&2; exit 3"], deadline=10, input=b"hello")
    assert completed == children.Completed(3, b"hello", b"no\n")


async def test_run_gives_the_signal_that_ended_the_program() -> None:
    completed = await children.run(["sh", "-c", "kill -9 $$"], deadline=10)
    assert completed.returncode == -9


async def test_a_megabyte_passes_both_ways() -> None:
    data = os.urandom(1 << 20)
    completed = await children.run(["cat"], deadline=10, input=data)
    assert completed.stdout == data


async def test_input_that_nobody_reads_is_dropped() -> None:
    completed = await children.run(["true"], deadline=10, input=b"x" * (1 << 20))
    assert completed.returncode == 0


async def test_output_past_the_limit_is_read_and_dropped() -> None:
    completed = await children.run(["head", "-c", "3000000", "/dev/zero"], deadline=10, max_output=1000)
    assert completed.returncode == 0
    assert completed.stdout == bytes(1000)


async def test_output_ends_with_the_child_even_if_a_descendant_holds_the_pipe(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"sleep 60 & echo $! >{pid_file}; echo done"
    with trio.fail_after(20):
        completed = await children.run(["sh", "-c", program], deadline=10)
    assert completed.stdout == b"done\n"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_a_child_sees_a_clean_environment_and_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        environment = await children.run(["env"], deadline=10)
        descriptors = await children.run(["ls", "/proc/self/fd"], deadline=10)
        passed = await children.run(["ls", "/proc/self/fd"], deadline=10, pass_fds=[writer])
    finally:
        os.close(reader)
        os.close(writer)
    names = {line.split(b"=")[0] for line in environment.stdout.splitlines()}
    assert names == {b"PATH", b"LANG"}
    assert descriptors.stdout.split() == [b"0", b"1", b"2", b"3"]
    assert str(writer).encode() in passed.stdout.split()


async def test_a_program_that_is_not_there_is_an_oserror_and_leaves_nothing() -> None:
    with pytest.raises(FileNotFoundError):
        await children.run(["/does/not/exist"], deadline=10)
    assert not children._registered


async def test_a_missed_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(DeadlineExceeded, match="cannot wait any longer for 'sh -c'"):
        await children.run(["sh", "-c", f"sleep 60 & echo $! >{pid_file}; wait"], deadline=0.2)
    assert not processes.wait_gone([int(pid_file.read_text())], 20)
    assert not children._registered


async def test_cancellation_kills_and_reaps_the_child() -> None:
    before = processes.children()  # what other tests' fixtures hold
    with trio.move_on_after(0.1):
        await children.run(["sleep", "60"], deadline=math.inf)
    assert not children._registered
    assert processes.children() <= before


async def test_spawn_survives_the_cancelled_wait_and_ends_with_kill() -> None:
    child = await children.spawn(["sleep", "60"])
    with trio.move_on_after(0.05):
        await child.wait()
    assert ref_of(child.pid) == child.ref
    await child.kill()
    assert child.returncode == -9
    assert not child.send_signal(signal.SIGTERM)
    await child.kill()


async def test_an_orphan_is_collected_and_its_status_told(tmp_path: Path, orphans: Orphans) -> None:
    pid_file = tmp_path / "pid"
    program = f"(sh -c 'sleep 0.05; exit 9' & echo $! >{pid_file})"
    completed = await children.run(["sh", "-c", program], deadline=10)
    assert completed.returncode == 0
    await orphans.wait_for(1)
    assert {pid: os.waitstatus_to_exitcode(status) for pid, status in orphans.collected.items()} == {
        int(pid_file.read_text()): 9
    }


async def test_a_launched_process_is_an_orphan_from_the_beginning(orphans: Orphans) -> None:
    ref = children.launch(["sh", "-c", "exit 4"])
    await orphans.wait_for(1)
    assert os.waitstatus_to_exitcode(orphans.collected[ref.pid]) == 4
    assert orphans.refs == [ref], "a pid alone names nobody"


async def test_the_reaper_outlives_a_want_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, orphans: Orphans
) -> None:
    def refuse(*_: object) -> list[str]:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        first = children.launch(["true"])
        pidfd = open_pidfd(first)
        assert pidfd is not None
        with pidfd:
            await pidfd.wait()
        await trio.testing.wait_all_tasks_blocked(0.01)
    children.launch(["true"])
    await orphans.wait_for(2)


async def test_a_launched_process_that_cannot_be_looked_at_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, orphans: Orphans
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(children, "ref_of", refuse)
        with pytest.raises(OSError, match="too many"):
            children.launch(["sleep", "1000"])
    await orphans.wait_for(1)
    assert list(orphans.collected.values()) == [signal.SIGKILL]


async def test_the_reaper_never_takes_the_status_of_a_registered_child(orphans: Orphans) -> None:
    codes: list[int] = []

    async def one(number: int) -> None:
        completed = await children.run(["sh", "-c", f"(true &); exit {number}"], deadline=20)
        codes.append(completed.returncode)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(one, number)
    assert sorted(codes) == list(range(100))
    await orphans.wait_for(100)


async def test_a_child_killed_while_it_cannot_die_is_left_to_the_reaper(
    monkeypatch: pytest.MonkeyPatch, orphans: Orphans
) -> None:
    monkeypatch.setattr(children, "_KILL_PATIENCE", 0.05)
    child = await children.spawn(["sleep", "60"])
    monkeypatch.setattr(child, "send_signal", lambda _: True)
    monkeypatch.setattr(child.pidfd, "send_signal", lambda _: True)
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    await child.kill()
    assert child.returncode is None
    assert not children._registered
    monkeypatch.undo()
    os.kill(child.pid, signal.SIGKILL)
    await orphans.wait_for(1)
    assert child.pid in orphans.collected


async def test_running_a_program_costs_the_loop_little() -> None:
    await children.run(["true"], deadline=10)
    spent = []
    for _ in range(20):
        before = time.thread_time()
        await children.run(["true"], deadline=10)
        spent.append(time.thread_time() - before)
    assert sorted(spent)[2] < 0.003


def test_a_process_dies_with_its_parent(tmp_path: Path) -> None:
    grandchild = tmp_path / "grandchild"
    source = (
        "import os, sys, time\n"
        "from supervisor.kernel import ancestry\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    ancestry.die_with_parent(parent=parent)\n"
        f"    open({str(grandchild)!r}, 'w').write(str(os.getpid()))\n"
        "    os.write(1, b'.')\n"
        "    time.sleep(60)\n"
        "time.sleep(60)\n"
    )
    reader, writer = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", source],
        {**os.environ, "PYTHONPATH": os.getcwd()},
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
    )
    os.close(writer)
    assert os.read(reader, 1) == b"."
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not processes.wait_gone([int(grandchild.read_text())], 20)


def test_prctl_refusals_are_oserrors() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        ancestry._prctl(1, 1000)
