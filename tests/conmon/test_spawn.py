"""A monitor is started in steps that any supervisor can take up."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from pyman.errors import ConmonFailed, ConmonNotFound, DeadlineExceeded, InvalidArgument, StorageFailed
from supervisor.conmon import spawn
from supervisor.conmon.find import Conmon
from supervisor.conmon.spawn import (
    RuntimeRefused,
    end_monitor,
    find_monitor,
    make_fifos,
    read_sync,
    release,
    spawn_monitor,
)
from supervisor.kernel import children
from supervisor.kernel.process import open_pidfd, ref_of
from tests.conmon.monitors import PATIENCE, resume, stop
from tests.support import processes

if TYPE_CHECKING:
    from supervisor.kernel.process import ProcessRef
    from tests.conmon.monitors import Bench


def gone(monitor: ProcessRef) -> bool:
    pidfd = open_pidfd(monitor)
    if pidfd is None:
        return True
    with pidfd:
        return pidfd.exited()


only_runc = pytest.mark.oci_runtime("runc")


async def test_a_container_lives_from_spawn_to_exit_code(bench: Bench) -> None:
    container = bench.container("sh", "-c", "echo to out; echo to err >&2; exit 7")
    pid = await container.create()
    assert ref_of(pid) is not None
    await container.start()
    end = await container.wait()
    assert end.code == 7
    assert not end.oom
    assert sorted(container.lines()) == ["to err", "to out"]


async def test_the_monitor_waits_for_its_start_byte(bench: Bench) -> None:
    container = bench.container("true")
    monitor = await container.spawn()
    assert ref_of(monitor.pid) == monitor
    assert (container.bundle / "conmon.pid").read_text() == str(monitor.pid)
    with pytest.raises(DeadlineExceeded, match=r"cannot wait any longer for the monitor of .*within 0\.2 s"):
        await read_sync(container.request, 0.2, monitor)
    assert release(container.request)
    assert await read_sync(container.request, PATIENCE, monitor) > 0


async def test_the_answer_can_be_read_again_and_again(bench: Bench) -> None:
    container = bench.container("sleep", "60")
    pid = await container.create()
    assert not release(container.request), "it waits no more"
    assert await read_sync(container.request, PATIENCE) == pid
    assert await read_sync(container.request, PATIENCE) == pid


@only_runc
@pytest.mark.parametrize("last", ["nothing recorded", "spawned", "released", "read"])
async def test_the_next_supervisor_goes_on_where_one_was_killed(bench: Bench, last: str) -> None:
    container = bench.container("sh", "-c", "exit 5")
    argv = [sys.executable, "-m", "tests.conmon.first_supervisor", last, bench.conmon.path]
    first = await children.run(
        argv,
        deadline=PATIENCE,
        input=msgspec.json.encode(container.request),
        cwd=os.getcwd(),
    )
    assert first.returncode == -signal.SIGKILL, first.stderr.decode()
    container.monitor = find_monitor(container.request)
    assert container.monitor is not None
    release(container.request)
    assert await read_sync(container.request, PATIENCE) > 0
    await container.start()
    assert (await container.wait()).code == 5


@only_runc
async def test_a_monitor_that_waits_can_be_ended(bench: Bench) -> None:
    container = bench.container("true")
    monitor = await container.spawn()
    await end_monitor(container.request)
    assert gone(monitor)
    await end_monitor(container.request, monitor)
    with pytest.raises(ConmonFailed, match="it ended without an answer"):
        await read_sync(container.request, PATIENCE, monitor)
    assert not release(container.request)


@only_runc
async def test_ending_a_monitor_ends_the_runtime_it_waits_for(bench: Bench) -> None:
    slow = bench.base / "slow-runtime"
    begun = bench.base / "begun"
    os.mkfifo(begun)
    slow.write_text(f"#!/bin/sh\necho $$ >{begun}\nexec sleep 60\n")
    slow.chmod(0o755)
    container = bench.container("true", runtime_path=str(slow))
    monitor = await container.spawn()
    release(container.request)
    at_work = int(await trio.to_thread.run_sync(begun.read_text))
    await end_monitor(container.request, monitor)
    assert not processes.wait_gone([at_work], 20)


async def test_what_the_runtime_says_is_told(bench: Bench) -> None:
    container = bench.container("/no/such/command")
    with pytest.raises(RuntimeRefused) as info:
        await container.create()
    assert "/no/such/command" in info.value.message
    assert container.monitor is not None
    monitor = open_pidfd(container.monitor)
    if monitor is not None:
        with monitor, trio.fail_after(PATIENCE):
            await monitor.wait()


@only_runc
@pytest.mark.parametrize("ending", ["exit 1", "kill -9 $$"])
async def test_a_runtime_that_fails_without_a_word_is_told(bench: Bench, ending: str) -> None:
    silent = bench.base / "silent-runtime"
    silent.write_text(f"#!/bin/sh\n{ending}\n")
    silent.chmod(0o755)
    container = bench.container("true", runtime_path=str(silent))
    with pytest.raises(ConmonFailed, match="it ended without an answer"):
        await container.create()


@only_runc
async def test_what_conmon_says_before_it_gives_up_is_told(bench: Bench) -> None:
    container = bench.container("true", log_path=str(bench.base / "no" / "such" / "directory" / "log"))
    with pytest.raises(ConmonFailed, match=r"cannot start the monitor of .*: Failed to open log file"):
        await container.create()


@only_runc
async def test_quotes_newlines_and_bytes_that_are_no_text_survive_the_answer(bench: Bench) -> None:
    awkward = bench.base / "awkward-runtime"
    awkward.write_bytes(
        b"#!/bin/sh\nprintf 'level \"error\"\\ttab\\n\\001\\037 \\377 \\\\ end' >&2\nexit 1\n"
    )
    awkward.chmod(0o755)
    container = bench.container("true", runtime_path=str(awkward))
    with pytest.raises(RuntimeRefused) as info:
        await container.create()
    assert info.value.message == 'level "error"\ttab\n\x01\x1f � \\ end'


@only_runc
async def test_a_long_answer_is_read_whole(bench: Bench) -> None:
    long = bench.base / "long-runtime"
    long.write_text('#!/bin/sh\nhead -c 20000 /dev/zero | tr "\\0" "\\001" >&2\nexit 1\n')
    long.chmod(0o755)
    container = bench.container("true", runtime_path=str(long))
    with pytest.raises(RuntimeRefused) as info:
        await container.create()
    assert set(info.value.message) == {"\x01"}
    assert len(info.value.message) > 8000


@only_runc
async def test_a_request_that_cannot_be_carried_out_leaves_no_process(bench: Bench) -> None:
    before = processes.children()
    gone = bench.container("true")
    shutil.rmtree(gone.bundle)
    with pytest.raises(StorageFailed, match="cannot make"):
        make_fifos(gone.request.bundle)
    with pytest.raises(StorageFailed, match="cannot open"):
        await spawn_monitor(bench.conmon, gone.request)
    other = bench.container("true")
    make_fifos(other.request.bundle)
    with pytest.raises(ConmonNotFound, match="cannot execute '/no/conmon'"):
        await spawn_monitor(Conmon("/no/conmon", "2.1.6"), other.request)
    unwritable = msgspec.structs.replace(other.request, conmon_pid_file="/no/such/file")
    with pytest.raises(StorageFailed, match="cannot write '/no/such/file'"):
        await spawn_monitor(bench.conmon, unwritable)
    colon = msgspec.structs.replace(other.request, log_path="/tmp/a:b")
    with pytest.raises(InvalidArgument, match="a path with a colon"):
        await spawn_monitor(bench.conmon, colon)
    assert not processes.wait_gone(processes.children() - before, 20)
    assert not spawn._kept


@only_runc
async def test_the_environment_of_monitor_and_runtime_is_clean(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the daemon")
    nosy = bench.base / "nosy-runtime"
    nosy.write_text("#!/bin/sh\nenv >&2\nls -l /proc/$$/fd >&2\npwd >&2\nexit 1\n")
    nosy.chmod(0o755)
    container = bench.container(
        "true", runtime_path=str(nosy), environment={"XDG_RUNTIME_DIR": "/run/user/1"}
    )
    with pytest.raises(RuntimeRefused) as info:
        await container.create()
    lines = info.value.message.splitlines()
    names = {line.partition("=")[0] for line in lines if "=" in line and " " not in line}
    assert names == {"LANG", "PATH", "PWD", "TMPDIR", "XDG_RUNTIME_DIR", "_OCI_STARTPIPE", "_OCI_SYNCPIPE"}
    assert not [line for line in lines if f" -> {container.bundle}" in line], (
        "the runtime has none of the FIFOs"
    )
    assert lines[-1] == str(container.bundle)


async def test_a_terminal_works_with_a_bundle_of_any_length(bench: Bench) -> None:
    container = bench.container("tty", terminal=True, bundle="long/" + "x" * 120)
    await container.create()
    await container.start()
    assert (await container.wait()).code == 0
    assert container.lines() == ["/dev/pts/0"]
    assert not list(container.bundle.glob("conmon-term*"))


@only_runc
async def test_a_time_out_is_an_exit_of_its_own(bench: Bench) -> None:
    container = await bench.started("sleep", "60", timeout=3)
    end = await container.wait()
    assert (end.code, end.timed_out) == (255, True)


@only_runc
async def test_passthrough_hands_the_callers_streams_to_the_command(bench: Bench) -> None:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    container = bench.container(
        "sh",
        "-c",
        "read line; echo got $line; exit 2",
        log_driver="passthrough",
        passed=spawn.Passed((in_read, out_write, out_write)),
    )
    await container.create()
    os.close(in_read)
    os.close(out_write)
    await container.start()
    os.write(in_write, b"a line\n")
    os.close(in_write)
    assert (await container.wait()).code == 2
    assert os.read(out_read, 100) == b"got a line\n"
    assert os.read(out_read, 100) == b"", "nobody holds the caller's pipe any more"
    os.close(out_read)


@only_runc
async def test_a_stopped_monitor_costs_the_deadline_and_no_more(bench: Bench) -> None:
    container = bench.container("true")
    monitor = await container.spawn()
    stop(monitor)
    assert release(container.request)
    with pytest.raises(DeadlineExceeded):
        await read_sync(container.request, 0.2, monitor)
    resume(monitor)
    assert await read_sync(container.request, PATIENCE, monitor) > 0


@only_runc
async def test_many_monitors_at_once_all_answer(bench: Bench) -> None:
    made = [bench.container("sleep", "60") for _ in range(30)]
    async with trio.open_nursery() as nursery:
        for container in made:
            nursery.start_soon(container.create)
    assert len({container.pid for container in made}) == 30
