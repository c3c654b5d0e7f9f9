"""Where file systems are mounted in a root filesystem: made by the engine where the container may not.

The OCI runtime makes what is missing as the container's root. That fails in a directory whose owner is nobody in the
container's user namespace.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from supervisor.kernel import files
from supervisor.kernel.idmaps import has_outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor.kernel.idmaps import IdMaps
    from supervisor.oci.spec import Mount

__all__ = ["empty_files", "make_directory", "make_files", "make_mount_points", "missing_files"]

_LEFT_TO_RUNTIME = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP, errno.EOVERFLOW}
)


def make_directory(root: str, path: str, owner: tuple[int, int], above: tuple[int, int]) -> None:
    """Make a directory in the root filesystem, and what is missing above it, for these users and groups. There already:
    nothing is done. OSError: EEXIST, ENOTDIR and ELOOP where something else is in its place."""
    try:
        os.close(files.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
        return
    except FileNotFoundError:
        pass
    parent, _, name = path.rpartition("/")
    if parent:
        make_directory(root, parent, above, above)
    directory = files.open_in_root(root, parent or "/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)


def missing_files(root: str, paths: Iterable[str]) -> list[str]:
    """Those of the paths at which the root filesystem has nothing."""
    missing = []
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            try:
                os.close(files.open_in_directory(directory, path, os.O_PATH))
            except FileNotFoundError:
                missing.append(path)
            except OSError:
                continue
    finally:
        os.close(directory)
    return missing


def make_files(root: str, paths: Iterable[str], owner: tuple[int, int] | None) -> None:
    """Make these files, empty, in the root filesystem, which does not have them. `owner`: None: the engine itself.
    StorageFailed, DiskFull.

    A directory keeps its times: nobody is to take it for changed. What cannot be made here is left to the OCI runtime.
    """
    by_directory: dict[str, list[str]] = {}
    for path in paths:
        above, _, name = path.rpartition("/")
        by_directory.setdefault(above, []).append(name)
    for above, names in by_directory.items():
        try:
            _make_files(root, above, names, owner or (os.geteuid(), os.getegid()))
        except OSError as error:
            if error.errno not in _LEFT_TO_RUNTIME:
                raise files.storage_error(error, "make a file in", f"{root}{above}") from error


def empty_files(root: str, paths: Iterable[str]) -> list[str]:
    """Those of the paths that are as `make_files` makes them. Where a link leads out of the root, nothing is found."""
    found = []
    for path in paths:
        try:
            descriptor = files.open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            continue
        status = os.fstat(descriptor)
        os.close(descriptor)
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            found.append(path)
    return found


def _make_files(root: str, above: str, names: Iterable[str], owner: tuple[int, int]) -> None:
    make_directory(root, above, owner, owner)
    directory = files.open_in_root(root, above, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = os.fstat(directory)
        for name in names:
            _make_file(directory, name, owner)
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(directory)


def _make_file(directory: int, name: str, owner: tuple[int, int]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(name, flags, 0o644, dir_fd=directory)
    except FileExistsError:
        return  # of another container's start; or it is a link, which leads nowhere yet
    try:
        os.fchmod(file, 0o644)
        os.fchown(file, *owner)
    finally:
        os.close(file)


def make_mount_points(root: str, mounts: Iterable[Mount], maps: IdMaps) -> None:
    """In the order of the mounts; what will lie on another one of them is left to that. `maps`: the container's.
    StorageFailed, DiskFull.

    No link leads out of the root filesystem.
    """
    covered: list[str] = []
    for mount in mounts:
        if not any(f"{mount.destination}/".startswith(f"{other}/") for other in covered):
            is_file = mount.type == "bind" and not os.path.isdir(mount.source)
            try:
                _make(root, mount.destination, maps, is_file=is_file)
            except OSError as error:
                raise files.storage_error(error, "make", f"{root}{mount.destination}") from error
        covered.append(mount.destination)


def _make(root: str, path: str, maps: IdMaps, *, is_file: bool) -> None:
    try:
        os.close(files.open_in_root(root, path, os.O_PATH))
        return
    except FileNotFoundError:
        pass
    above, _, name = path.rpartition("/")
    if above:
        _make(root, above, maps, is_file=False)
    try:
        directory = files.open_in_root(root, above or "/", os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # the OCI runtime may make what is above
    try:
        status = os.fstat(directory)
        if has_outside(status.st_uid, maps.uids) and has_outside(status.st_gid, maps.gids):
            return
        if is_file:
            os.mknod(name, stat.S_IFREG | 0o644, dir_fd=directory)
        else:
            os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        # Another container with the same root filesystem was faster; or it is a link to nothing.
        try:
            os.close(files.open_in_root(root, path, os.O_PATH))
        except OSError:
            raise FileExistsError(errno.EEXIST, "a link that leads nowhere is in its place", path) from None
    finally:
        os.close(directory)
