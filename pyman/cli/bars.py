"""Bars on a terminal: one for each blob that is being copied, above them the lines of what is done.

They are drawn when a step is told, ten times a second at most; there is no thread and no timer. `rich` is imported
here alone, when the first bar is drawn: that takes longer than many a pull of what is here already.
"""

from __future__ import annotations

import sys
import time

from pyman.cli.context import one_line
from pyman.cli.human import byte_size
from pyman.cli.transfer import FINISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.progress import Progress, TaskID

__all__ = ["Bars"]

INTERVAL = 0.1
"""Seconds between two drawings."""
MOST = 32
"""Bars at once; what else is under way is shown when it is done."""

WIDE = 72
"""Columns of a terminal on which everything has room."""


class Bars:
    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._drawn = 0.0

    def text(self, line: str) -> None:
        sys.stdout.flush()
        if self._bars is None:
            sys.stderr.write(one_line(line) + "\n")
            sys.stderr.flush()
        else:
            self._bars.console.print(one_line(line), soft_wrap=True)

    def progress(self, step: Mapping[str, Any]) -> None:
        digest, action = str(step["digest"]), str(step["action"])
        name = digest.partition(":")[2][:12] or digest
        if action in FINISHED:
            self._remove(digest)
            if digest not in self._finished:
                self._finished.add(digest)
                count = step.get("total", -1)
                size = f" | {byte_size(count)}" if action == "done" and count > 0 else ""
                self.text(f"Copying blob {name} {FINISHED[action]}{size}")
        elif action == "retrying":
            why = f": {step['detail']}" if step.get("detail") else ""
            self.text(f"Copying blob {name} is tried again{why}")
        elif action != "waiting":
            self._update(digest, name, action, step)

    def _update(self, digest: str, name: str, action: str, step: Mapping[str, Any]) -> None:
        done, total = int(step.get("bytes", 0)), int(step.get("total", -1))
        if digest not in self._tasks and len(self._tasks) >= MOST:
            return
        bars = self._bars = self._bars or _started()
        length = total if total >= 0 else None
        task = self._tasks.get(digest)
        if task is None:
            self._tasks[digest] = bars.add_task(name, total=length, completed=done, action=action)
            return
        bars.update(task, completed=done, total=length, action=action)
        now = time.monotonic()
        if now - self._drawn >= INTERVAL:
            self._drawn = now
            bars.refresh()

    def _remove(self, digest: str) -> None:
        task = self._tasks.pop(digest, None)
        if task is not None and self._bars is not None:
            self._bars.remove_task(task)
            self._bars.refresh()

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(file=sys.stderr, highlight=False, markup=False)
    wide = console.width >= WIDE
    columns = [
        TextColumn(
            f"{'Copying blob ' if wide else ''}{{task.description}}", table_column=Column(no_wrap=True)
        ),
        BarColumn(bar_width=None),
        DownloadColumn(table_column=Column(no_wrap=True)),
        *[TextColumn("{task.fields[action]}", table_column=Column(no_wrap=True))] * wide,
    ]
    bars = Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
    )
    bars.start()
    return bars
