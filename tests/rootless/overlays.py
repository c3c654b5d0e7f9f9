"""Engines of an ordinary user whose views are made by the kernel, or by fuse-overlayfs for one of two reasons."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.configured import FUSE, Configured, servers
from tests.support.user import UserEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FUSE", "ConfiguredEngine", "fuse_usable", "overlaid", "servers", "stored_on"]


class ConfiguredEngine(Configured, UserEngine):
    pass


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


@contextlib.contextmanager
def stored_on(engine: UserEngine, kind: str, options: str) -> Iterator[Path]:
    """The engine's storage on a file system of its own, whose mount point this gives. Around its life."""
    place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    place.chmod(0o755)
    subprocess.run(["mount", "-t", kind, "-o", options, kind, place], check=True)
    try:
        place.chmod(0o755)
        engine.root = place / "root"
        engine.root.mkdir(mode=0o755)
        engine.user.owns(engine.root)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()
