"""A container's root filesystem: a directory as it is, or a copy-on-write view of one.

The view is an overlay whose upper directory lies in the container's static directory and whose mount
point lies in the run directory. Writes end with the run, as Podman's manual says of `--rootfs DIR:O`.
Everything here blocks: it is called in a thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.kernel import files

if TYPE_CHECKING:
    from pyman.api.spec import ContainerSpec
    from supervisor.settings.layout import Layout
    from supervisor.storage.overlay import Overlays

__all__ = ["ended_with_run", "lower_is_usable", "mount_rootfs", "unmount_rootfs"]


def lower_is_usable(path: str) -> str:
    """Why a directory cannot be a root filesystem, or an empty string."""
    if not os.path.isabs(path):
        return "it is not an absolute path"
    try:
        with os.scandir(path):
            return ""
    except FileNotFoundError:
        return "it does not exist"
    except NotADirectoryError:
        return "it is not a directory"
    except OSError as error:
        return error.strerror or str(error)


def mount_rootfs(layout: Layout, id: str, spec: ContainerSpec, overlays: Overlays) -> str:
    """Make the root filesystem ready and say where it is. Mounted already: nothing is done."""
    if not spec.rootfs_overlay:
        return spec.rootfs
    target = layout.container_rootfs(id)
    upper, work = layout.container_upper(id), layout.container_work(id)
    try:
        if overlays.ready(target):
            return target
        for path in (target, upper, work):
            os.makedirs(path, mode=0o700, exist_ok=True)
        # The upper directory's mode is what the container sees of its own root directory.
        os.chmod(upper, os.stat(spec.rootfs).st_mode & 0o7777)
        overlays.mount(target, [spec.rootfs], upper, work)
    except OSError as error:
        raise files.storage_error(error, "mount the root filesystem", spec.rootfs) from error
    return target


def unmount_rootfs(layout: Layout, id: str, spec: ContainerSpec, overlays: Overlays) -> None:
    """Undo `mount_rootfs`. What was written stays until `ended_with_run` is removed."""
    if not spec.rootfs_overlay:
        return
    target = layout.container_rootfs(id)
    try:
        overlays.unmount(target)
    except OSError as error:
        raise files.storage_error(error, "unmount", target) from error


def ended_with_run(layout: Layout, id: str) -> list[str]:
    """The directories whose content ends with a run, once nothing is mounted any more."""
    return [path for path in (layout.container_upper(id), layout.container_work(id)) if os.path.isdir(path)]
