"""The host's devices, for a privileged container."""

from __future__ import annotations

import os
import stat

from supervisor.oci.spec import Device

__all__ = ["host_devices"]

_LEFT_OUT = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"})
"""What a container has of its own, or only links to such."""


def host_devices(directory: str = "/dev") -> list[Device]:
    """Every device node below the directory, sorted. Entries that vanish meanwhile are left out."""
    found: list[Device] = []
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name in _LEFT_OUT or entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif device := _device(entry):
                        found.append(device)
        except OSError:
            continue
    return sorted(found, key=lambda device: device.path)


def _device(entry: os.DirEntry[str]) -> Device | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    mode = status.st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        return None
    return Device(
        path=entry.path,
        type="c" if stat.S_ISCHR(mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )
