"""Clients that read slowly, as who looks at output page by page: nothing of it is lost, and nobody else waits for long."""

from __future__ import annotations

import contextlib
import json
import os
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

SIZES = range(200_000, 640_000, 40_000)
"""Of outputs, in bytes. Pipes and sockets take some of them altogether, and others keep their writer from its end; what is in
between makes conmon wait where the container does not."""
PATIENCE = 20.0


def _writes(size: int) -> str:
    return f"head -c {size} /dev/zero"


def _read(program: subprocess.Popen[bytes]) -> int:
    """How much there is."""
    assert program.stdout is not None
    return len(program.stdout.read())


@contextlib.contextmanager
def _unread(engine: Engine, rootfs: Path, *options: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Containers in the foreground, of whose outputs nobody reads anything; at least one has conmon wait."""
    with contextlib.ExitStack() as stack:
        programs = {}
        for size in SIZES:
            command = ("--rootfs", f"{rootfs}:O", "sh", "-c", _writes(size))
            words = ("run", "--name", f"c{size}", *options, *command)
            program = stack.enter_context(engine.spawn(*words, stdin=subprocess.DEVNULL))
            stack.callback(program.kill)
            programs[f"c{size}"] = program
        until(lambda: _late(engine), "no conmon waits for its client", PATIENCE)
        yield programs


def _late(engine: Engine) -> list[str]:
    """Containers of which no process is there any more, and which do not end."""
    first = _over(engine)
    time.sleep(0.5)
    return [name for name in _over(engine) if name in first]


def _over(engine: Engine) -> list[str]:
    found = json.loads(engine.out("ps", "--format", "json"))
    return [each["Names"][0] for each in found if not os.path.exists(f"/proc/{each['Pid']}/root/bin")]


def test_what_a_container_has_written_is_read_whenever_its_client_likes(
    shared_engine: Engine, rootfs: Path
) -> None:
    with _unread(shared_engine, rootfs) as programs:
        time.sleep(2 * MONITOR_GRACE + 0.5)
        assert _late(shared_engine), "nobody had to wait"
        assert [_read(each) for each in programs.values()] == list(SIZES)
        assert [each.wait(PATIENCE) for each in programs.values()] == [0] * len(SIZES)


def test_but_a_client_that_is_stopped_keeps_no_end_from_anybody(shared_engine: Engine, rootfs: Path) -> None:
    with _unread(shared_engine, rootfs) as programs:
        late = _late(shared_engine)
        for name in late:
            programs[name].send_signal(signal.SIGSTOP)
        until(lambda: not set(late) & set(_late(shared_engine)), "its end is not told", PATIENCE)
        died = {event["Name"] for event in shared_engine.events(event=["died"])}
        assert set(late) <= died


def test_nor_does_any_client_from_who_asks_for_it(shared_engine: Engine, rootfs: Path) -> None:
    with _unread(shared_engine, rootfs):
        late = _late(shared_engine)
        assert shared_engine.cli("stop", *late).stdout.split() == late
        assert not set(late) & set(_late(shared_engine))


def test_nor_from_a_restart(shared_engine: Engine, rootfs: Path) -> None:
    with _unread(shared_engine, rootfs, "--restart", "always", "--restart-delay", "100"):
        until(lambda: not _late(shared_engine), "nobody is cut off", PATIENCE)


def test_what_a_command_has_written_is_read_whenever_its_client_likes(
    shared_engine: Engine, rootfs: Path
) -> None:
    engine = shared_engine
    engine.cli("run", "--detach", "--name", "box", "--rootfs", f"{rootfs}:O", "sleep", "1000")
    with contextlib.ExitStack() as stack:
        programs = []
        for size in SIZES:
            words = ("exec", "box", "sh", "-c", f"{_writes(size)}; echo >/tmp/{size}")
            program = stack.enter_context(engine.spawn(*words, stdin=subprocess.DEVNULL))
            stack.callback(program.kill)
            programs.append(program)
        until(lambda: engine.out("exec", "box", "ls", "/tmp"), "no command ends", PATIENCE)
        time.sleep(2 * MONITOR_GRACE + 0.5)
        writing = len(SIZES) - len(engine.out("exec", "box", "ls", "/tmp").split())
        assert len(engine.inspect("box")["ExecIDs"]) > writing, "nobody had to wait"
        assert [_read(each) for each in programs] == list(SIZES)
        assert [each.wait(PATIENCE) for each in programs] == [0] * len(SIZES)
