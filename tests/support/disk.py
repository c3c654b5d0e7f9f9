"""A block device of a test's own, which a container's speed can be limited at."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.turns import turn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Disk", "made_disk"]

SIZE = 8 << 20


class Disk(NamedTuple):
    path: str
    number: str
    """`MAJOR:MINOR`."""

    def schedule(self, scheduler: str) -> None:
        Path(f"/sys/dev/block/{self.number}/queue/scheduler").write_text(scheduler)


@contextmanager
def made_disk() -> Iterator[Disk]:
    """A file that is seen as a block device, whose scheduler is none."""
    with turn("disk"), tempfile.NamedTemporaryFile(prefix="pm-disk-", dir="/tmp") as file:
        file.truncate(SIZE)
        made = subprocess.run(
            ["losetup", "--find", "--show", file.name], check=True, capture_output=True, text=True, timeout=30
        )
        path = made.stdout.strip()
        try:
            number = Path(f"/sys/block/{Path(path).name}/dev").read_text().strip()
            disk = Disk(path, number)
            disk.schedule("none")
            try:
                yield disk
            finally:
                disk.schedule("none")
        finally:
            subprocess.run(["losetup", "--detach", path], check=True, timeout=30)
