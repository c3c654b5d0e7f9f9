"""Fails a Trio test in which one step of a task holds the loop too long.

A supervisor that answers hundreds of clients must never be busy for long between two checkpoints. What
counts is what the step itself does, not how busy the machine is:

- the processor time of the thread (`COMPUTING`), and
- the time it was blocked in the kernel (`BLOCKED`): wall time less processor time less the time the thread
  was ready and waited for a processor, which the kernel counts in /proc/thread-self/schedstat. This limit is
  wider, since a thread that forks waits for its child to get a processor.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BLOCKED", "COMPUTING", "LoopWatch", "run_watched"]

COMPUTING = 0.05
"""Seconds of processor time that one step may take."""
BLOCKED = 0.25
"""Seconds that one step may be blocked in the kernel."""


class LoopWatch(trio.abc.Instrument):
    """Times every step; `held` tells of those that were too long. `factor` widens both limits."""

    def __init__(self, factor: float = 1.0) -> None:
        self.computing = COMPUTING * factor
        self.blocked = BLOCKED * factor
        self.held: list[str] = []
        self._schedstat = -1
        self._wall = self._cpu = self._ready = 0.0

    def before_run(self) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def after_run(self) -> None:
        os.close(self._schedstat)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        self._ready = self._time_ready()
        self._cpu = time.thread_time()
        self._wall = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        wall = time.perf_counter() - self._wall
        if wall < self.computing:
            return
        cpu = time.thread_time() - self._cpu
        blocked = wall - cpu - (self._time_ready() - self._ready)
        if cpu > self.computing or blocked > self.blocked:
            self.held.append(
                f"{task.name}: {cpu * 1e3:.0f} ms computing, {max(blocked, 0) * 1e3:.0f} ms blocked, "
                f"then at {_place(task)}"
            )

    def _time_ready(self) -> float:
        """Seconds this thread was ready to run and waited for a processor."""
        return int(os.pread(self._schedstat, 96, 0).split()[1]) / 1e9


def _place(task: trio.lowlevel.Task) -> str:
    """Where the task waits now: the innermost frame that is not Trio's."""
    place = "its end"
    for frame, line in task.iter_await_frames():
        if f"{os.sep}trio{os.sep}" not in frame.f_code.co_filename:
            place = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    return place


def run_watched(factor: float, function: Callable[[], Any], **options: Any) -> Any:
    """`trio.run` with a watch; a run that fails for another reason says only that. `factor` 0: no watch."""
    if factor == 0:
        return trio.run(function, **options)
    watch = LoopWatch(factor)
    options["instruments"] = [*options.pop("instruments", ()), watch]
    result = trio.run(function, **options)
    if watch.held:
        pytest.fail(
            f"{len(watch.held)} step(s) held the loop for more than {watch.computing * 1e3:.0f} ms:\n  "
            + "\n  ".join(watch.held[:10]),
            pytrace=False,
        )
    return result
