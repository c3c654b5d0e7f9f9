"""A container's root filesystem: a directory as it is, or a copy-on-write view of one.

The view is an overlay whose upper directory lies in the container's static directory and whose mount
point lies in the run directory. Writes end with the run, as Podman's manual says of `--rootfs DIR:O`.
In a user namespace of its own a container sees files with the ids that they have there: a view is made of the
directory with its ids mapped, where the kernel can do that, and so is `--rootfs DIR:idmap`.
Everything here blocks: it is called in a thread.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import NotSupported
from supervisor.kernel import files, idmaps, mounts
from supervisor.logging import log
from supervisor.storage import reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.api.spec import ContainerSpec
    from supervisor.kernel.idmaps import IdMaps
    from supervisor.settings.layout import Layout
    from supervisor.storage.overlay import Overlays

__all__ = [
    "Shift",
    "ended_with_run",
    "is_hidden",
    "is_mapped",
    "lower_is_usable",
    "mount_rootfs",
    "root_of",
    "unmount_all",
    "unmount_rootfs",
]

_CANNOT_MAP = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
"""What the kernel says that, or whose file system, or in whose user namespace, mounts cannot map ids."""


class Shift(NamedTuple):
    """The user namespace that a container's files are seen from. `namespace`: a descriptor of one with these maps,
    or -1 where mounts are not to map ids."""

    maps: IdMaps
    namespace: int = -1

    @property
    def root(self) -> tuple[int, int]:
        """uid and gid of the container's root, or else of its first ids, in the engine's."""
        uid, gid = (_first(lines) for lines in self.maps)
        return uid, gid


def _first(lines: tuple[idmaps.IdRange, ...]) -> int:
    return min(lines).outside


def is_mapped(maps: IdMaps) -> bool:
    """Ids are others in the container than for the engine."""
    return any(line.inside != line.outside for lines in maps for line in lines)


def is_hidden(maps: IdMaps) -> bool:
    """The container's processes are nobody to the engine's own directories: its user is not among their ids."""
    return any(not idmaps.has_outside(0, lines) for lines in maps if lines)


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


def mount_rootfs(
    layout: Layout, id: str, spec: ContainerSpec, overlays: Overlays, shift: Shift | None = None
) -> str:
    """Make the root filesystem ready and say where the OCI runtime finds it. Mounted already: nothing is done."""
    root = spec.rootfs
    try:
        if spec.rootfs_overlay:
            root = _overlay(layout, id, spec, overlays, shift)
        elif spec.rootfs_idmap and shift is not None and shift.namespace >= 0:
            root = _idmapped(layout, id, spec, shift)
    except OSError as error:
        raise files.storage_error(error, "mount the root filesystem", spec.rootfs) from error
    if shift is not None and is_hidden(shift.maps):
        return reach.show(layout, id, root, shift.root)
    return root


def _overlay(layout: Layout, id: str, spec: ContainerSpec, overlays: Overlays, shift: Shift | None) -> str:
    target = layout.container_rootfs(id)
    upper, work = layout.container_upper(id), layout.container_work(id)
    if overlays.ready(target):
        return target
    for path in (target, upper, work):
        os.makedirs(path, mode=0o700, exist_ok=True)
    # The upper directory is what the container sees of its own root directory.
    mode = os.stat(spec.rootfs).st_mode & 0o7777
    if shift is not None and not overlays.way().native:
        # The program maps ids itself: on the disk they are what the container sees.
        os.chmod(upper, mode)
        overlays.mount(target, [spec.rootfs], upper, work, uids=shift.maps.uids, gids=shift.maps.gids)
        return target
    with _lower(layout, id, spec.rootfs, shift) as lower:
        if shift is not None:
            os.chown(upper, *_owner(lower, shift))
        os.chmod(upper, mode)
        overlays.mount(target, [lower], upper, work)
    return target


def _owner(lower: str, shift: Shift) -> tuple[int, int]:
    """Of the lower directory, or the container's root where it has no such id."""
    status = os.stat(lower)
    uid, gid = (
        own if idmaps.has_outside(own, lines) else root
        for own, lines, root in zip((status.st_uid, status.st_gid), shift.maps, shift.root, strict=True)
    )
    return uid, gid


@contextmanager
def _lower(layout: Layout, id: str, path: str, shift: Shift | None) -> Iterator[str]:
    """The directory with its ids mapped, or as it is where that cannot be had. An overlay keeps what it was given."""
    if shift is None or shift.namespace < 0:
        yield path
        return
    mapped = layout.container_lower(id)
    os.makedirs(mapped, mode=0o700, exist_ok=True)
    try:
        try:
            mounts.bind_idmapped(path, mapped, shift.namespace)
        except OSError as error:
            if error.errno not in _CANNOT_MAP:
                raise
            log.warning("files keep the host's ids: mounts cannot map them", container=id, path=path)
            yield path
        else:
            yield mapped
    finally:
        mounts.unmount(mapped, lazy=True)
        os.rmdir(mapped)


def _idmapped(layout: Layout, id: str, spec: ContainerSpec, shift: Shift) -> str:
    target = layout.container_rootfs(id)
    if mounts.mounted(target):
        return target
    os.makedirs(target, mode=0o700, exist_ok=True)
    try:
        mounts.bind_idmapped(spec.rootfs, target, shift.namespace)
    except OSError as error:
        if error.errno in _CANNOT_MAP:
            raise NotSupported(
                f"cannot map the ids of the root filesystem '{spec.rootfs}': neither this kernel nor its file system may",
                subject=spec.rootfs,
            ) from error
        raise
    return target


def root_of(layout: Layout, id: str, spec: ContainerSpec) -> str:
    """The root filesystem of a container that runs, where the engine can look into it."""
    target = layout.container_rootfs(id)
    return target if os.path.isdir(target) else spec.rootfs


def unmount_rootfs(
    layout: Layout, id: str, spec: ContainerSpec, overlays: Overlays, *, shown: bool = False
) -> None:
    """Undo `mount_rootfs`. What was written stays until `ended_with_run` is removed. `shown`: it may have been
    given a `shift`."""
    if shown:
        reach.hide(layout, id)
    try:
        if spec.rootfs_overlay:
            overlays.unmount(layout.container_rootfs(id))
    except OSError as error:
        raise files.storage_error(error, "unmount", layout.container_rootfs(id)) from error
    if shown:
        unmount_all(layout, id)


def unmount_all(layout: Layout, id: str) -> None:
    """Undo whatever is mounted in a container's run directory. StorageFailed."""
    for target in (layout.container_rootfs(id), layout.container_lower(id)):
        try:
            mounts.unmount(target, lazy=True)
        except OSError as error:
            raise files.storage_error(error, "unmount", target) from error


def ended_with_run(layout: Layout, id: str) -> list[str]:
    """The directories whose content ends with a run, once nothing is mounted any more."""
    return [path for path in (layout.container_upper(id), layout.container_work(id)) if os.path.isdir(path)]
