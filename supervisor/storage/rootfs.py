"""A container's root filesystem: a directory as it is, a copy-on-write view of one, or the layers of an image.

A view is an overlay whose upper directory lies in the container's static directory and whose mount
point lies in the run directory. Writes end with the run, as Podman's manual says of `--rootfs DIR:O`. What is written
above an image lies in a layer of the container's own in the store, and stays until the container is removed.
In a user namespace of its own a container sees files with the ids that they have there: a view is made of the
directory with its ids mapped, where the kernel can do that, and so is `--rootfs DIR:idmap`.
Everything here blocks: it is called in a thread.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from pyman.errors import NotSupported
from supervisor.kernel import files, idmaps, mounts
from supervisor.logging import log
from supervisor.storage import reach

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyman.api.spec import ContainerSpec
    from supervisor.kernel.idmaps import IdMaps
    from supervisor.settings.layout import Layout
    from supervisor.storage.overlay import Overlays

__all__ = [
    "Layers",
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


class Layers(NamedTuple):
    """The directories of an image's layers, the topmost first, and of the container's own layer above them."""

    lower: Sequence[str]
    upper: str
    work: str


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
    layout: Layout,
    id: str,
    spec: ContainerSpec,
    overlays: Overlays,
    shift: Shift | None = None,
    layers: Layers | None = None,
) -> str:
    """Make the root filesystem ready and say where the OCI runtime finds it. Mounted already: nothing is done.
    `layers`: of a container with an image."""
    root = spec.rootfs
    try:
        if layers is not None:
            root = _overlay(layout, id, layers, overlays, shift, lasting=True)
        elif spec.rootfs_overlay:
            own = Layers([spec.rootfs], layout.container_upper(id), layout.container_work(id))
            root = _overlay(layout, id, own, overlays, shift)
        elif spec.rootfs_idmap and shift is not None and shift.namespace >= 0:
            root = _idmapped(layout, id, spec, shift)
    except OSError as error:
        raise files.storage_error(error, "mount the root filesystem", spec.rootfs or spec.image) from error
    if shift is not None and is_hidden(shift.maps):
        return reach.show(layout, id, root, shift.root)
    return root


def _overlay(
    layout: Layout, id: str, layers: Layers, overlays: Overlays, shift: Shift | None, *, lasting: bool = False
) -> str:
    """`lasting`: the upper directory is older than this run, and so is what the container has made of it."""
    target = layout.container_rootfs(id)
    if overlays.ready(target):
        return target
    os.makedirs(target, mode=0o700, exist_ok=True)
    if not lasting:
        for path in (layers.upper, layers.work):
            os.makedirs(path, mode=0o700, exist_ok=True)
        # The upper directory is what the container sees of its own root directory.
        os.chmod(layers.upper, os.stat(layers.lower[0]).st_mode & 0o7777)
    if shift is not None and _by_program(overlays, shift, lasting=lasting):
        # The program maps ids itself: on the disk they are what the container sees.
        uids, gids = shift.maps
        overlays.mount(target, layers.lower, layers.upper, layers.work, uids=uids, gids=gids)
        return target
    with _lower(layout, id, layers.lower, shift) as lower:
        if shift is not None and not (lasting and _has_owner(layers.upper, shift)):
            os.chown(layers.upper, *_owner(lower[0], shift))
        overlays.mount(target, lower, layers.upper, layers.work)
    return target


def _by_program(overlays: Overlays, shift: Shift, *, lasting: bool) -> bool:
    """Where mounts cannot map ids, an image is still to have its own: a directory may keep those of the host."""
    if not overlays.way().native:
        return True
    return lasting and shift.namespace < 0 and is_mapped(shift.maps) and bool(overlays.mapper())


def _has_owner(path: str, shift: Shift) -> bool:
    """Its owner and group are among the container's."""
    status = os.stat(path)
    return all(map(idmaps.has_outside, (status.st_uid, status.st_gid), shift.maps))


def _owner(lower: str, shift: Shift) -> tuple[int, int]:
    """Of the lower directory, or the container's root where it has no such id."""
    status = os.stat(lower)
    uid, gid = (
        own if idmaps.has_outside(own, lines) else root
        for own, lines, root in zip((status.st_uid, status.st_gid), shift.maps, shift.root, strict=True)
    )
    return uid, gid


@contextmanager
def _lower(layout: Layout, id: str, paths: Sequence[str], shift: Shift | None) -> Iterator[Sequence[str]]:
    """The directories with their ids mapped, or as they are where that cannot be had. An overlay keeps what it was
    given."""
    if shift is None or shift.namespace < 0:
        yield paths
        return
    around = layout.container_lower(id)
    mapped: list[str] = []
    try:
        try:
            for number, path in enumerate(paths):
                place = f"{around}/{number}"
                os.makedirs(place, mode=0o700, exist_ok=True)
                mapped.append(place)
                mounts.bind_idmapped(path, place, shift.namespace)
        except OSError as error:
            if error.errno not in _CANNOT_MAP:
                raise
            log.warning("files keep the host's ids: mounts cannot map them", container=id, path=paths[0])
            yield paths
        else:
            yield mapped
    finally:
        for place in mapped:
            mounts.unmount(place, lazy=True)
            os.rmdir(place)
        with suppress(FileNotFoundError):
            os.rmdir(around)


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
        if spec.rootfs_overlay or spec.image:
            overlays.unmount(layout.container_rootfs(id))
    except OSError as error:
        raise files.storage_error(error, "unmount", layout.container_rootfs(id)) from error
    if shown:
        unmount_all(layout, id)


def unmount_all(layout: Layout, id: str) -> None:
    """Undo whatever is mounted in a container's run directory. StorageFailed."""
    around = layout.container_lower(id)
    mapped = [around]
    with suppress(FileNotFoundError, NotADirectoryError):
        mapped = [*(f"{around}/{name}" for name in os.listdir(around)), around]
    for target in (layout.container_rootfs(id), *mapped):
        try:
            mounts.unmount(target, lazy=True)
            if target != around and target in mapped:
                os.rmdir(target)
        except OSError as error:
            raise files.storage_error(error, "unmount", target) from error


def ended_with_run(layout: Layout, id: str) -> list[str]:
    """The directories whose content ends with a run, once nothing is mounted any more."""
    return [path for path in (layout.container_upper(id), layout.container_work(id)) if os.path.isdir(path)]
