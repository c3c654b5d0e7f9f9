"""Engines of an ordinary user whose views are made by the kernel, or by fuse-overlayfs for one of two reasons."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import processes
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ConfiguredEngine", "fuse_usable", "overlaid", "servers"]

FUSE = "/usr/bin/fuse-overlayfs"


class ConfiguredEngine(UserEngine):
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


def fuse_usable(engine: UserEngine) -> bool:
    """The user can open /dev/fuse, as udev lets everybody, and there is the program."""
    with engine.user.acts():
        return os.access("/dev/fuse", os.R_OK | os.W_OK, effective_ids=True) and os.path.exists(FUSE)


@contextlib.contextmanager
def overlaid(engine: UserEngine) -> Iterator[None]:
    """The engine's storage on an overlay: no kernel takes one for the upper layer of another. Around its life."""
    place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    storage = place / "storage"
    for name in ("lower", "upper", "work", "storage"):
        (place / name).mkdir()
    place.chmod(0o755)
    engine.user.owns(place)
    options = ",".join(f"{name}dir={place / name}" for name in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", storage], check=True)
    try:
        engine.root = storage / "root"
        yield
    finally:
        subprocess.run(["umount", "--lazy", storage], check=True)
        shutil.rmtree(place)


def servers(engine: UserEngine) -> dict[str, int]:
    """The pids of what serves the engine's views, by mount point."""
    found = {}
    for pid in processes.mentions([f"{engine.tmpdir}/containers/"]):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
            if words[1:3] and words[1] == "-o" and words[2].startswith("lowerdir="):
                found[words[3]] = pid
    return found
