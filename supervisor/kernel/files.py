"""Files and trees: written as a whole or not at all, opened without leaving a root, removed without following.

Rules: what may take long (a tree) runs in a thread or in a child process that can be killed; a tree with
a mount in it is never removed, so that a failed unmount cannot cost anybody's data.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pyman.errors import DiskFull, StorageFailed

if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = ["storage_error", "write_atomic"]


def storage_error(error: OSError, doing: str, path: str) -> PymanError:
    """The typed error for a failed file operation: "cannot <doing> '<path>': <reason>"."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageFailed
    return kind(f"cannot {doing} '{path}': {error.strerror}", subject=path)


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = False) -> None:
    """Replace a file by one with this content; readers see the old or the new one, never a part.

    `durable`: it has reached the disk on return. Raises DiskFull or StorageFailed, the old file unharmed.
    """
    temporary = f"{path}.{os.getpid()}.new"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
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
            _sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        _discard(temporary)
        raise storage_error(error, "write", path) from error


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
