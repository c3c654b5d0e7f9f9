"""A small root file system: static busybox and the directories that a container expects."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SHARED", "make_rootfs", "tidy"]

SHARED: list[Path] = []
"""Those that several tests have, one after the other."""

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
worker:x:1000:1000:a user:/home/worker:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
staff:x:50:worker
worker:x:1000:
nogroup:x:65534:
"""
_DIRECTORIES = ("bin", "dev", "etc", "home/worker", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp")


def make_rootfs(directory: Path, busybox: str = "/bin/busybox") -> Path:
    """Fills a new directory. Applets are symbolic links to /bin/busybox, which is a copy of the host's."""
    for name in _DIRECTORIES:
        (directory / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (directory / name).chmod(0o1777)
    if os.geteuid() == 0:
        os.chown(directory / "home/worker", 1000, 1000)
    shutil.copy2(shutil.which("busybox") or busybox, directory / "bin/busybox")
    listing = subprocess.run(
        [directory / "bin/busybox", "--list"], check=True, capture_output=True, text=True
    )
    for applet in listing.stdout.split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("/bin/busybox")
    (directory / "etc/passwd").write_text(_PASSWD)
    (directory / "etc/group").write_text(_GROUP)
    (directory / "etc/hostname").write_text("busybox\n")
    return directory


def tidy() -> None:
    """Those that are shared are as they were: a container on the directory itself leaves empty files, upon which its own
    files of /etc were mounted."""
    for directory in SHARED:
        for entry in os.scandir(directory / "etc"):
            if entry.is_file(follow_symlinks=False) and not entry.stat().st_size:
                os.unlink(entry)
