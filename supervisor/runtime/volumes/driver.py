"""The driver `local`: what a volume mounts on its directory, by mount(8), in a child process that can be killed.

A server that does not answer (nfs) holds up nobody but whoever waits for this volume, and him not for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyman.errors import DeadlineExceeded, StorageFailed
from supervisor.kernel import children, files, mounts

if TYPE_CHECKING:
    from supervisor.runtime.volumes.records import Volume

__all__ = ["argv", "is_mounted", "mount", "unmount"]

DEADLINE = 60.0
"""Seconds for one mount: nfs tries again by itself."""
_BOUND = ("bind", "")


def argv(volume: Volume) -> list[str]:
    """The command that mounts it."""
    words = ["mount"]
    if volume.mount_options:
        words += ["-o", volume.mount_options]
    if volume.type not in _BOUND:
        words += ["-t", volume.type]
    return [*words, "--", volume.device or volume.type, volume.mountpoint]


def is_mounted(volume: Volume) -> bool:
    """Alive or dead. Asks no server. StorageFailed."""
    try:
        return mounts.mounted(volume.mountpoint)
    except OSError as error:
        raise files.storage_error(error, "look at volume", volume.name) from error


def unmount(volume: Volume) -> None:
    """At once, whoever still uses it. Not mounted: nothing is done. StorageFailed."""
    try:
        mounts.unmount(volume.mountpoint, lazy=True)
    except OSError as error:
        raise files.storage_error(error, "unmount volume", volume.name) from error


async def mount(volume: Volume, deadline: float = DEADLINE) -> None:
    """StorageFailed, with what mount(8) says; DeadlineExceeded. `deadline` in seconds."""
    try:
        done = await children.run(argv(volume), deadline=deadline)
    except DeadlineExceeded:
        raise DeadlineExceeded(
            f"cannot mount volume '{volume.name}': '{volume.device}' did not answer in {deadline:g} s",
            subject=volume.name,
        ) from None
    except OSError as error:
        raise StorageFailed(
            f"cannot mount volume '{volume.name}': mount(8): {error.strerror}", subject=volume.name
        ) from error
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("mount: ")
        raise StorageFailed(
            f"cannot mount volume '{volume.name}': {reason or f'mount(8) ended with {done.returncode}'}",
            subject=volume.name,
        )
