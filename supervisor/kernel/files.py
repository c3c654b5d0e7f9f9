"""Files and trees: written as a whole or not at all, opened without leaving a root, removed without following.

Rules: what may take long (a tree) runs in a thread or in a child process that can be killed; a tree with
a mount in it is never removed, so that a failed unmount cannot cost anybody's data.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import secrets
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import DiskFull, StorageFailed
from supervisor.kernel import children, mounts

if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = [
    "disk_usage",
    "open_beneath",
    "open_in_directory",
    "open_in_root",
    "read_small",
    "remove_tree",
    "rename_new",
    "storage_error",
    "sync_directory",
    "sync_file_system",
    "write_atomic",
]

_OPENAT2 = 437
"""The same number on every architecture."""
_AT_FDCWD, _NOREPLACE = -100, 1
_RACES = 1000
"""How often a path with `..` in it is tried: the kernel gives up whenever anything is renamed or mounted meanwhile,
anywhere on the host."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH, _RESOLVE_IN_ROOT = 0x02, 0x08, 0x10
_OPEN_HOW = struct.Struct("=QQQ")

_FEW = 100
"""Entries that are removed in a thread; what is larger is worth a process."""
_DENIALS = tuple(os.strerror(number) for number in (errno.EACCES, errno.EPERM))
_NOT_OURS = "it holds files of ids that this user does not have, or not any more: root can remove it"
_limiter = trio.CapacityLimiter(4)
_libc = ctypes.CDLL(None, use_errno=True)


def storage_error(error: OSError, doing: str, path: str) -> PymanError:
    """The typed error for a failed file operation: "cannot <doing> '<path>': <reason>"."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageFailed
    return kind(f"cannot {doing} '{path}': {error.strerror}", subject=path)


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = False) -> None:
    """Replace a file by one with this content; readers see the old or the new one, never a part.

    `durable`: it has reached the disk on return. Raises DiskFull or StorageFailed, the old file unharmed.
    """
    temporary = f"{path}.{secrets.token_hex(8)}.new"
    try:
        # Never what somebody else has put there.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(fd, mode)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if durable:
            sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        _discard(temporary)
        raise storage_error(error, "write", path) from error


def _discard(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def sync_directory(path: str) -> None:
    """Have the names in a directory reach the disk. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: str) -> None:
    """Have all that was written to the file system of a directory reach the disk. StorageFailed, DiskFull."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(fd):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error(error, "write", path) from error


def read_small(path: str, most: int, *, follow: bool = True) -> bytes:
    """The content of a regular file of at most so many bytes. OSError: EINVAL: it is none; EFBIG: it is larger; ELOOP: it
    is a link, which is not to be followed.

    A FIFO or a device in its place holds nobody up.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        parts, size = [], 0
        while size <= most and (part := os.read(fd, most + 1 - size)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(fd)
    if size > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", path)
    return b"".join(parts)


def open_in_root(root: str, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as a process whose root directory is `root` would: no link leads out of it. OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open(directory, path, flags, mode, _RESOLVE_IN_ROOT)
    finally:
        os.close(directory)


def open_in_directory(directory: int, path: str, flags: int) -> int:
    """As `open_in_root`, for a root directory that is open. OSError."""
    return _open(directory, path, flags, 0, _RESOLVE_IN_ROOT)


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` below an open directory; what leads out of it, by `..` or a link, is refused. OSError: EXDEV."""
    return _open(directory, path, flags, mode, _RESOLVE_BENEATH)


def _open(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve | _RESOLVE_NO_MAGICLINKS)
    number = 0
    for _ in range(_RACES):
        fd = _libc.syscall(_OPENAT2, directory, os.fsencode(path), how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), path)


def rename_new(source: str, target: str) -> None:
    """Rename, unless there is something at the target. OSError: EEXIST."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


async def remove_tree(path: str, *, deadline: float = math.inf) -> None:
    """Remove a file or a directory with all that is in it. Links are removed, not followed.

    What is not there is removed already. Cancellation leaves the rest for a later call. Raises StorageFailed,
    also if something is mounted in it, and DeadlineExceeded after `deadline` seconds.
    """
    path = path.rstrip("/")
    if await trio.to_thread.run_sync(_remove_few, path, limiter=_limiter):
        return
    argv = ["rm", "-r", "-f", "--one-file-system", "--", path]
    try:
        completed = await children.run(argv, deadline=deadline)
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    if completed.returncode:
        reason = completed.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise StorageFailed(
            f"cannot remove '{path}': {reason.removeprefix('rm: ')}",
            subject=path,
            hint=_NOT_OURS if reason.endswith(_DENIALS) else "",
        )


def _remove_few(path: str) -> bool:
    """Remove a small tree; False: it is larger, or resists, and part of it is still there."""
    try:
        below = mounts.mounts_below(os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path))
        if below:
            raise StorageFailed(f"cannot remove '{path}': '{below[0]}' is still mounted", subject=path)
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _remove_entry(directory, os.path.basename(path), _FEW) >= 0
        finally:
            os.close(directory)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False  # rm removes all the others, and names what resists
    except OSError as error:
        raise storage_error(error, "remove", path) from error


def _remove_entry(directory: int, name: str, budget: int) -> int:
    """What is left of the number of entries that may be removed; -1: it did not suffice."""
    if budget <= 0:
        return -1
    try:
        os.unlink(name, dir_fd=directory)
        return budget - 1
    except IsADirectoryError:
        pass
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        for entry in os.listdir(inside):
            budget = _remove_entry(inside, entry, budget)
            if budget < 0:
                return -1
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=directory)
    return budget - 1


def disk_usage(path: str) -> int:
    """Bytes in the files below a directory, each counted once, on its own file system only.

    Walks the tree: to be called in a thread. What vanishes meanwhile is not counted.
    """
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return 0
    total = 0
    linked: set[int] = set()
    waiting = [path]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    if status.st_dev == device:
                        waiting.append(entry.path)
                elif status.st_nlink == 1 or status.st_ino not in linked:
                    total += status.st_size
                    if status.st_nlink > 1:
                        linked.add(status.st_ino)
    return total
