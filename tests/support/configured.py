"""Engines whose storage is described by storage.conf, for what `--root` would hide."""

from __future__ import annotations

import contextlib
from hashlib import sha256
from pathlib import Path

from tests.support import processes
from tests.support.engine import Engine

__all__ = ["FUSE", "Configured", "servers"]

FUSE = "/usr/bin/fuse-overlayfs"


class Configured(Engine):
    """Its storage is where storage.conf says, and storage.conf has more to say: no option hides it."""

    @property
    def selection(self) -> list[str]:
        return [f"--tmpdir={self.tmpdir}"]

    @property
    def _stem(self) -> str:
        return sha256(f"config:{self.configuration}".encode()).hexdigest()[:16]

    def configure(self, options: str) -> None:
        """The table `[storage.options.overlay]`."""
        self.storage_configuration.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.root}"\nrunroot = "{self.runroot}"\n'
            f"[storage.options.overlay]\n{options}\n"
        )


def servers(engine: Engine) -> dict[str, int]:
    """The pids of what serves the engine's views, by mount point."""
    found = {}
    for pid in processes.mentions([f"{engine.tmpdir}/containers/"]):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
            if words[-3:-2] == ["-o"] and words[-2].startswith("lowerdir="):
                found[words[-1]] = pid
    return found
