"""Processes that are found by a mark in their environment."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from supervisor.kernel import marked, process

if TYPE_CHECKING:
    from pathlib import Path

MARK = "PYMAN_TEST_MARK"


def started(script: str, value: str, ready: Path) -> subprocess.Popen[bytes]:
    """A shell that has done what the script says, when the file is there."""
    child = subprocess.Popen(
        ["sh", "-c", f"{script}\ntouch {ready}\nwait"], env={MARK: value, "PATH": os.environ["PATH"]}
    )
    deadline = time.monotonic() + 10
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return child


def sleepers(seconds: int) -> list[int]:
    wanted = ["sleep", str(seconds)]
    return [
        pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if process.words_of(pid) == wanted
    ]


def test_all_with_the_mark_are_killed_wherever_they_have_gone(tmp_path: Path) -> None:
    script = (
        "sleep 86101 &\nsetsid sleep 86102 &\n(setsid sleep 86103 &)\n(env -i sh -c 'exec sleep 86104') &"
    )
    other = started("sleep 86105 &", "other", tmp_path / "other")
    child = started(script, "mine", tmp_path / "mine")
    try:
        assert marked.kill_all([f"{MARK}=mine"])
        assert child.wait(10) == -9
        gone = [seconds for seconds in range(86101, 86105) if not sleepers(seconds)]
        assert gone == [86101, 86102, 86103, 86104], "what has cleared its environment is found by its parent"
        assert other.poll() is None
        assert len(sleepers(86105)) == 1
    finally:
        assert marked.kill_all([f"{MARK}=other", f"{MARK}=mine"])
        for one in (other, child):
            one.wait(10)


def test_descendants_are_found_and_those_that_are_known_are_killed(tmp_path: Path) -> None:
    child = started("sh -c 'sleep 86106 & wait' &", "x", tmp_path / "ready")
    try:
        deadline = time.monotonic() + 10
        while not sleepers(86106):
            assert time.monotonic() < deadline
        found = marked.below(child.pid)
        assert {ref.pid for ref in found} >= set(sleepers(86106))
        assert marked.kill_all([], found)
        assert not sleepers(86106)
    finally:
        child.kill()
        child.wait(10)


def test_without_anything_to_kill_it_ends_at_once() -> None:
    assert marked.kill_all([f"{MARK}=nobody"])
