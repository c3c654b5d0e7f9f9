"""A file at a path that the client has named, complete or not there: written beside its place, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument
from supervisor.images.traces import Placed
from supervisor.images.transports.folder import limiter
from supervisor.images.transports.spooling import let_go
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.images.deeds import Deed

__all__ = ["written"]

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@asynccontextmanager
async def written(path: str, deed: Deed, *, replace: bool) -> AsyncIterator[int]:
    """A descriptor for the new file, which gets its name, as the last step of the deed, when the block ends without an
    error.

    InvalidArgument: there is no directory for it, or unless it is to `replace` that, a file already. StorageFailed.
    """
    directory, name = os.path.split(path)
    try:
        above = await trio.to_thread.run_sync(_open_directory, directory, limiter=limiter)
    except OSError as error:
        raise InvalidArgument(f"cannot write '{path}': {error.strerror}", subject=path) from error
    temporary = f".{name[:200]}.{secrets.token_hex(8)}"
    try:
        fd = await trio.to_thread.run_sync(_new, above, temporary, path, replace, limiter=limiter)
        place = partial(_place, above, temporary, name, path, replace)
        try:
            inode = os.fstat(fd).st_ino
            trace = Placed(path, path, inode, f"{directory.rstrip('/')}/{temporary}", inode)
            await deed.intend(trace)
            yield fd
            await deed.carry_out(trace, partial(trio.to_thread.run_sync, place, limiter=limiter))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=above)
            await let_go(fd)
    finally:
        os.close(above)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _new(above: int, temporary: str, path: str, replace: bool) -> int:
    if not replace and os.access(path, os.F_OK):
        raise _exists(path)
    try:
        return os.open(temporary, _FLAGS, 0o644, dir_fd=above)
    except OSError as error:
        raise storage_error(error, "write", path) from error


def _place(above: int, temporary: str, name: str, path: str, replace: bool) -> None:
    try:
        if replace:
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        else:
            os.link(temporary, name, src_dir_fd=above, dst_dir_fd=above)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise _exists(path) from error
        raise storage_error(error, "write", path) from error


def _exists(path: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot write '{path}': it exists, and nothing can be added to it",
        subject=path,
        hint="remove it first",
    )
