"""A small file system that can be filled to the last byte and given room again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Disk", "appears"]


class Disk:
    """A tmpfs at `path`, mounted from `with` to its end."""

    def __init__(self, path: Path, megabytes: int = 4) -> None:
        self.path = path
        self._megabytes = megabytes
        self._ballast = path / "ballast"

    def __enter__(self) -> Self:
        self.path.mkdir()
        size = f"size={self._megabytes}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.path], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def fill(self) -> None:
        """Nothing can be written any more."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        assert os.statvfs(self.path).f_bavail == 0

    def make_room(self) -> None:
        self._ballast.unlink()

    def becomes_full(self, seconds: float = 20.0) -> bool:
        """Whether somebody fills it in time; nothing tells when."""
        deadline = time.monotonic() + seconds
        while os.statvfs(self.path).f_bavail:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def appears(path: Path, seconds: float = 20.0) -> bool:
    """Whether somebody makes a file in time; nothing tells when."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
