"""A root file system that systemd can boot: an /etc of its own, and the host's /usr, read-only.

So it has the host's systemd, and of the host's units those alone that the distribution ships. The unit `told` writes the
state of the system into the FIFO /told/state, once nothing is left to do.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MOUNTS", "await_booted", "make_systemd_root", "make_told"]

MOUNTS = ("--volume", "/usr:/usr:ro")
"""What a container with this root file system needs, beside a directory with the FIFO."""

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nadm:x:4:\ntty:x:5:\nshadow:x:42:\nutmp:x:43:\nmessagebus:x:100:\nsystemd-journal:x:103:\n"
    "nogroup:x:65534:\n",
    "etc/machine-id": "",
    "etc/systemd/system/told.service": """\
[Unit]
After=multi-user.target

[Service]
Type=simple
ExecStart=-/bin/sh -c 'systemctl is-system-running --wait >/told/state'

[Install]
WantedBy=multi-user.target
""",
}
_DIRECTORIES = ("dev", "proc", "root", "run", "sys", "tmp", "told", "usr", "var/log")
BOOT = 30.0
"""Seconds that it may take; a half is usual."""


def make_systemd_root(directory: Path) -> Path:
    """Fills a new directory."""
    for name in _DIRECTORIES:
        (directory / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (directory / name).symlink_to(f"usr/{name}")
    for name, text in _FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    wanted = directory / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir()
    (wanted / "told.service").symlink_to("../told.service")
    return directory


def make_told(directory: Path) -> Path:
    """A directory with the FIFO, to be mounted as /told."""
    directory.mkdir(mode=0o755)
    os.mkfifo(directory / "state")
    (directory / "state").chmod(0o666)
    return directory


def await_booted(told: Path) -> str:
    """What `systemctl is-system-running --wait` has said; empty: nothing in time."""
    descriptor = os.open(told / "state", os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(BOOT * 1000)
        return os.read(descriptor, 100).decode().strip()
    finally:
        os.close(descriptor)
