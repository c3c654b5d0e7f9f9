"""The supervisor is ended, or loses its sockets, while containers are in the middle of something."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import processes

if TYPE_CHECKING:
    from tests.faults.conftest import Faulty, MakeEngine

STEPS = ["before-create", "after-create", "before-start", "after-start"]


def state(engine: Faulty, name: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect(name)["State"]
    return found


def counted(engine: Faulty, id: str) -> tuple[int, int]:
    statuses = [event["Status"] for event in engine.events(container=[id])]
    return statuses.count("start"), statuses.count("died")


def terminate(engine: Faulty) -> None:
    assert engine.keeper is not None
    os.kill(engine.keeper.pid, signal.SIGTERM)


def ended(engine: Faulty) -> None:
    """In order, and soon."""
    assert engine.keeper is not None
    assert engine.keeper.wait(20) == 0
    engine.keeper = None


@pytest.fixture
def single(make_engine: MakeEngine) -> Faulty:
    """An engine of the test's own: its keeper is another one at the end."""
    return make_engine()


@pytest.mark.parametrize("step", STEPS)
def test_a_start_in_the_middle_of_which_the_supervisor_ends_is_finished_by_it_or_the_next(
    single: Faulty, rootfs: Path, step: str
) -> None:
    id = single.out("create", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    single.runtime.hold(step)
    # Not by the command line: that would start a supervisor to have its answer.
    with single.wire() as client:
        client.send("io.pyman.Container.Start", {"selection": {"names": ["c"]}})
        single.runtime.reached(step)
        terminate(single)
        single.runtime.let_go(step)
        ended(single)
    single.start()
    single.cli("wait", "--condition", "running", "c")
    single.cli("rm", "-f", "-t", "0", "c")
    assert counted(single, id) == (1, 1)


@pytest.mark.parametrize("step", STEPS)
def test_a_supervisor_that_is_to_stop_its_containers_leaves_none_that_was_about_to_start(
    single: Faulty, rootfs: Path, step: str
) -> None:
    id = single.out(
        "create", "--name", "c", "--stop-timeout", "0", "--rootfs", f"{rootfs}:O", "sleep", "1000"
    )
    other = single.out("run", "-d", "--stop-timeout", "0", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    single.runtime.hold(step)
    # Not by the command line: that would start a supervisor to have its answer.
    with single.wire() as client:
        client.send("io.pyman.Container.Start", {"selection": {"names": ["c"]}})
        single.runtime.reached(step)
        single.call("io.pyman.System.Shutdown", {"containers": "stop"})
        single.runtime.let_go(step)
        ended(single)
    assert {processes.describe(pid) for pid in processes.mentions([id, other])} == set()
    single.start()
    assert single.out("ps", "-q") == ""
    starts, ends = counted(single, id)
    assert starts == ends
    assert counted(single, other) == (1, 1)


def test_on_stop_stop_ends_every_container_at_sigterm(single: Faulty, rootfs: Path) -> None:
    single.configure(on_stop="stop")
    try:
        single.cli("system", "reload")
        ids = [
            single.out("run", "-d", "--stop-timeout", "0", "--rootfs", f"{rootfs}:O", "sleep", "1000")
            for _ in range(3)
        ]
        single.cli("pause", ids[0])
        terminate(single)
        ended(single)
        assert {processes.describe(pid) for pid in processes.mentions(ids)} == set()
    finally:
        single.configure(on_stop="leave")
        single.start()
    assert [counted(single, id) for id in ids] == [(1, 1)] * 3
    assert single.out("ps", "-q") == ""


def test_an_oci_runtime_that_hangs_delays_the_end_by_its_deadline_and_no_more(
    make_engine: MakeEngine, rootfs: Path
) -> None:
    engine = make_engine(start=False)
    engine.configure(call_deadline=3.0)
    engine.start()
    id = engine.out("run", "-d", "--stop-timeout", "0", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    engine.runtime.hold("before-delete")
    engine.call("io.pyman.System.Shutdown", {"containers": "stop"})
    held = engine.runtime.reached("before-delete")
    begun = time.monotonic()
    ended(engine)
    assert time.monotonic() - begun < 20
    assert not processes.wait_gone([held], 10)
    engine.start()
    assert engine.out("ps", "-q") == ""
    assert counted(engine, id) == (1, 1)


def test_sockets_that_somebody_removes_are_made_again_and_containers_do_not_notice(
    faulty: Faulty, rootfs: Path
) -> None:
    faulty.cli("run", "-d", "--name", "c", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    before, pid = state(faulty, "c")["Pid"], faulty.daemon
    stem = faulty.socket.removesuffix(".sock")
    with faulty.wire() as connection:
        for path in (faulty.socket, f"{stem}-events.sock", f"{stem}-read.sock"):
            os.unlink(path)
        # The open connection stays, and the next command finds the same daemon.
        connection.call("io.pyman.System.Info")
        assert faulty.out("exec", "c", "echo", "works") == "works"
    assert (state(faulty, "c")["Pid"], faulty.daemon) == (before, pid)
    assert all(Path(f"{stem}{end}.sock").is_socket() for end in ("", "-events", "-read"))


def test_a_directory_for_temporary_files_that_somebody_removes_is_made_again(
    faulty: Faulty, rootfs: Path
) -> None:
    """As a cleaner of old files would do it; the mounts of running containers stay."""
    faulty.cli("run", "-d", "--name", "old", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    before = state(faulty, "old")["Pid"]
    for name in ("exits", "socket"):
        folder = faulty.tmpdir / name
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
    (faulty.tmpdir / "alive").unlink()
    faulty.kill()
    assert state(faulty, "old")["Pid"] == before
    faulty.cli("run", "--rm", "--rootfs", f"{rootfs}:O", "true")
    faulty.cli("stop", "-t", "0", "old")
    assert state(faulty, "old")["ExitCode"] == 137
