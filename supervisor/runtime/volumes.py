"""What an image wants volumes for, as long as there are no volumes with names: a directory for each, of the container's
own, that begins with what the image has there and goes with the container.

Made when the container starts first, while its root filesystem is mounted and nobody runs in it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import DiskFull, StorageFailed
from supervisor.kernel import children, files
from supervisor.oci.mounts import volume_directory

if TYPE_CHECKING:
    from supervisor.oci.request import BuildRequest

__all__ = ["fill"]


def fill(request: BuildRequest, deadline: float) -> None:
    """Make those that are not there yet. In a thread of the event loop's. `deadline`: seconds for the copy of one.
    StorageFailed, DiskFull, DeadlineExceeded."""
    if request.image.volume_mode != "anonymous":
        return
    try:
        os.makedirs(request.volumes_directory, mode=0o711, exist_ok=True)
        for number, path in enumerate(request.image.volumes):
            _fill(request, path, volume_directory(request.volumes_directory, number), deadline)
    except OSError as error:
        raise files.storage_error(error, "make the volumes of", request.name) from error


def _fill(request: BuildRequest, path: str, target: str, deadline: float) -> None:
    if os.path.lexists(target):
        return
    made = f"{request.volumes_directory}/{uuid.uuid4().hex}"
    os.mkdir(made, 0o755)
    try:
        source = _source(request.rootfs, path)
        if source is not None:
            try:
                _copy(source, made, deadline)
            finally:
                os.close(source)
        os.rename(made, target)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(made)
        raise


def _source(root: str, path: str) -> int | None:
    """A descriptor of the directory in the root filesystem, out of which no link leads; none: there is none."""
    try:
        return files.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _copy(source: int, target: str, deadline: float) -> None:
    """With owners, modes, times, links and attributes."""
    argv = [
        "cp",
        "--archive",
        "--one-file-system",
        "--reflink=auto",
        "--",
        f"/proc/self/fd/{source}/.",
        target,
    ]
    done = trio.from_thread.run(partial(children.run, argv, deadline=deadline, pass_fds=[source]))
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("cp: ")
        kind = DiskFull if os.strerror(28) in reason else StorageFailed
        raise kind(f"cannot copy what the image has for a volume: {reason}", subject=target)
