"""Where a container that is nobody to its engine can reach its root filesystem.

In a user namespace to which the engine's own ids do not belong, a container's first process may pass through no
directory of the engine's: not $XDG_RUNTIME_DIR, not the home directory. So the root filesystem appears a second
time, in a place that everybody may pass through and where each container's directory is its own alone.

Whoever the container's root is on the host may be somebody who has processes outside, too. So nothing is done below a
directory that belongs to it as long as it can write there: each container's directory is a tmpfs of its own, which is
read-only before the root filesystem is mounted in it.

For root that place is below /run. An ordinary user may make nothing where everybody passes: in the mount
namespace of the user's engines a small tmpfs covers a directory that the user cannot enter anyway.
Everything here blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pyman.errors import NotSupported
from supervisor.kernel import files, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.settings.layout import Layout

__all__ = ["hide", "mounted_below", "show", "shown"]

_PASSABLE = 0o711
_OWN = 0o700
_TRIES = 16
_NAME = "pyman-roots"
_CANDIDATES = ("/root", "/lost+found", "/mnt", "/media", "/srv", "/opt")
"""Of an ordinary user's place: the first that cannot be entered, or is empty."""
_SIZE = 1 << 20
"""Bytes of a tmpfs: it holds empty directories."""
_OWN_NAME = "pyman-root"
"""Of a container's tmpfs; `mount_of` is not to find it."""


def show(layout: Layout, id: str, root: str, owner: tuple[int, int]) -> str:
    """Have the root filesystem appear where the container can reach it, and say where. `owner`: uid and gid of the
    container's root, in the engine's ids. Shown already: nothing is done. StorageFailed, NotSupported."""
    base = _base(layout)
    own = f"{base}/{layout.roots_name}/{id}"
    target = f"{own}/rootfs"
    try:
        _make(own)
        os.chmod(base, _PASSABLE)
        os.chmod(f"{base}/{layout.roots_name}", _PASSABLE)
        if not mounts.mounted(target):
            _clear(own)  # a killed supervisor may have come half as far
            mounts.tmpfs(own, size=_SIZE, mode=_OWN, source=_OWN_NAME)
            os.mkdir(target, mode=_OWN)
            os.chown(own, *owner)
            mounts.make_readonly(own)
            _check_directory(target)
            mounts.bind(root, target)
    except OSError as error:
        raise files.storage_error(error, "mount the root filesystem", root) from error
    return target


def _make(own: str) -> None:
    """Whoever hides the last one takes the directories above away, if they are empty just then."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            os.makedirs(own, mode=_OWN, exist_ok=True)
            return
    os.makedirs(own, mode=_OWN, exist_ok=True)


def _check_directory(path: str) -> None:
    """Its owner had an instant in which to put something else there. OSError."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _clear(own: str) -> None:
    """Unmount whatever is there: the root filesystem, then what it is mounted in."""
    for path in mounts.mounts_below(own):
        mounts.unmount(path, lazy=True)


def hide(layout: Layout, id: str) -> None:
    """Undo `show`. Not shown: nothing is done. StorageFailed."""
    base = _found(layout)
    if not base:
        return
    own = f"{base}/{layout.roots_name}/{id}"
    try:
        _clear(own)
        with suppress(FileNotFoundError):
            os.rmdir(own)
    except OSError as error:
        raise files.storage_error(error, "unmount", own) from error
    for path in (f"{base}/{layout.roots_name}", base):
        with suppress(OSError):  # others have theirs in it
            os.rmdir(path)


def shown(layout: Layout) -> dict[str, str]:
    """The containers that have a directory there: its path to the container's id."""
    base = _found(layout)
    below = f"{base}/{layout.roots_name}"
    try:
        return {f"{below}/{id}": id for id in os.listdir(below)} if base else {}
    except FileNotFoundError:
        return {}


def mounted_below(layout: Layout) -> dict[str, str]:
    """Where something is mounted there, and for which container."""
    base = _found(layout)
    if not base:
        return {}
    below = f"{base}/{layout.roots_name}"
    return {
        path: os.path.relpath(path, below).partition("/")[0]
        for path in mounts.mounts_below(below)
        if path != below
    }


def _base(layout: Layout) -> str:
    if layout.uid == 0:
        return f"/run/{_NAME}"
    found = _found(layout)
    if found:
        return found
    with _locked(f"{layout.sockets}/roots.lock"):
        return _found(layout) or _cover(layout)


def _found(layout: Layout) -> str:
    """The place, if there is one."""
    if layout.uid == 0:
        return f"/run/{_NAME}"
    return mounts.mount_of(_NAME)


def _cover(layout: Layout) -> str:
    path = next((path for path in _CANDIDATES if _is_of_no_use(path)), "")
    if not path:
        raise NotSupported(
            f"cannot show a container its root filesystem: none of {', '.join(_CANDIDATES)} is there and empty",
            subject=layout.tmp,
            hint="make one of them; an empty directory will do",
        )
    mounts.tmpfs(path, size=_SIZE, mode=_PASSABLE, source=_NAME)
    return path


def _is_of_no_use(path: str) -> bool:
    """The user cannot enter it, or there is nothing in it."""
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    if not os.access(path, os.X_OK):
        return True
    try:
        return not os.listdir(path)
    except PermissionError:
        return False


@contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
