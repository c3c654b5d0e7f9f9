"""A directory that is written as a whole or not at all, at a path that the client has named.

What is not there yet is written beside its place and renamed. What is there already (a layout that gets one more
image) gets its files from a directory inside it, at the end, in the order in which they were added: whoever reads
meanwhile finds only what is complete. Everything is reached from descriptors of directories, never through a link.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from pyman.errors import InvalidArgument, StorageFailed
from supervisor.images.traces import Placed
from supervisor.images.transports.folder import limiter
from supervisor.kernel.files import storage_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from supervisor.images.deeds import Deed

__all__ = ["Place", "begun"]

_CHUNK = 16 << 20
_STAGING = ".pyman-"
"""How directories are called in which somebody is still writing."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """Made by `at`; ended by `commit` or `abandon`. Members are relative names with at most one level of
    directories below another: `blobs/sha256/…`."""

    def __init__(self, path: str, base: int, staging: int, staging_name: str, *, inside: bool) -> None:
        self.path = path
        self.existed = inside
        self._base = base
        """The directory that holds the staging one: the place itself, or the one above it."""
        self._staging = staging
        self._staging_name = staging_name
        self._members: list[str] = []
        self._open = True

    @classmethod
    async def at(cls, path: str) -> Place:
        """InvalidArgument: it is something else than a directory, or there is none above it."""
        return await trio.to_thread.run_sync(cls._make, path.rstrip("/") or "/", limiter=limiter)

    @classmethod
    def _make(cls, path: str) -> Place:
        base = -1
        try:
            try:
                base, inside = os.open(path, _DIRECTORY), True
            except FileNotFoundError:
                above = os.path.dirname(path)
                base, inside = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), False
            name = f"{_STAGING}{secrets.token_hex(8)}"
            os.mkdir(name, 0o755, dir_fd=base)
            staging = os.open(name, _DIRECTORY, dir_fd=base)
            os.fchmod(staging, 0o755)
        except OSError as error:
            if base >= 0:
                os.close(base)
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise InvalidArgument(
                    f"cannot write '{path}': it is not a directory, or there is none above it", subject=path
                ) from error
            raise storage_error(error, "write", path) from error
        return cls(path, base, staging, name, inside=inside)

    def listed(self) -> list[str]:
        """What the place holds already."""
        if not self.existed:
            return []
        return [name for name in os.listdir(self._base) if not name.startswith(_STAGING)]

    def size(self, member: str) -> int:
        """Bytes of a regular file that is there already, or was added; -1: there is none."""
        for directory in (self._staging, self._base) if self.existed else (self._staging,):
            with suppress(OSError):
                return os.stat(member, dir_fd=directory, follow_symlinks=False).st_size
        return -1

    async def add_bytes(self, member: str, data: bytes) -> None:
        await trio.to_thread.run_sync(self._put, member, data, limiter=limiter)

    async def add_file(self, member: str, fd: int, size: int, report: Callable[[int], None]) -> None:
        """The first `size` bytes of a regular file."""
        await trio.to_thread.run_sync(self._copy, member, fd, size, report, limiter=limiter)

    def trace(self, last: str = "") -> Placed:
        """What shows that all is in its place. `last`: the member that was added last; none: not all are yet."""
        above = self.path if self.existed else os.path.dirname(self.path)
        staged = os.fstat(self._staging).st_ino
        path, inode = self.path, staged
        if self.existed:
            path = f"{self.path}/{last}"
            inode = os.stat(last, dir_fd=self._staging, follow_symlinks=False).st_ino if last else 0
        return Placed(self.path, path, inode, f"{above.rstrip('/')}/{self._staging_name}", staged)

    async def commit(self, obsolete: Iterable[str] = ()) -> None:
        """Everything to its place, then what is `obsolete` away. An error before it leaves all as it was."""
        await trio.to_thread.run_sync(self._commit, list(obsolete), limiter=limiter)

    async def abandon(self) -> None:
        """Remove what was written. After `commit` it does nothing."""
        if self._open:
            await trio.to_thread.run_sync(self._abandon, limiter=limiter)

    def _new(self, member: str) -> int:
        directory = os.path.dirname(member)
        at = ""
        for part in directory.split("/") if directory else ():
            at = f"{at}/{part}" if at else part
            with suppress(FileExistsError):
                os.mkdir(at, 0o755, dir_fd=self._staging)
        fd = os.open(member, _NEW, 0o644, dir_fd=self._staging)
        os.fchmod(fd, 0o644)
        return fd

    def _put(self, member: str, data: bytes) -> None:
        try:
            fd = self._new(member)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            finally:
                os.close(fd)
        except FileExistsError:
            return  # members are named by what they hold
        except OSError as error:
            raise storage_error(error, "write", f"{self.path}/{member}") from error
        self._members.append(member)

    def _copy(self, member: str, fd: int, size: int, report: Callable[[int], None]) -> None:
        try:
            out = self._new(member)
            try:
                at = 0
                while at < size:
                    trio.from_thread.check_cancelled()
                    copied = _copy_some(fd, out, at, min(_CHUNK, size - at))
                    if not copied:
                        raise StorageFailed(f"cannot write '{self.path}': '{member}' is shorter than it was")
                    at += copied
                    trio.from_thread.run_sync(report, at)
            finally:
                os.close(out)
        except FileExistsError:
            return
        except OSError as error:
            raise storage_error(error, "write", f"{self.path}/{member}") from error
        self._members.append(member)

    def _commit(self, obsolete: list[str]) -> None:
        try:
            if self.existed:
                self._move_in()
                for name in obsolete:
                    if name not in self._members:
                        with suppress(FileNotFoundError, IsADirectoryError):
                            os.unlink(name, dir_fd=self._base)
            else:
                name = os.path.basename(self.path)
                os.rename(self._staging_name, name, src_dir_fd=self._base, dst_dir_fd=self._base)
                self._close()
        except OSError as error:
            raise storage_error(error, "write", self.path) from error
        finally:
            if self._open:
                self._abandon()

    def _move_in(self) -> None:
        for member in self._members:
            directory = os.path.dirname(member)
            at = ""
            for part in directory.split("/") if directory else ():
                at = f"{at}/{part}" if at else part
                with suppress(FileExistsError):
                    os.mkdir(at, 0o755, dir_fd=self._base)
            os.rename(member, member, src_dir_fd=self._staging, dst_dir_fd=self._base)

    def _abandon(self) -> None:
        try:
            shutil.rmtree(self._staging_name, dir_fd=self._base)
        except OSError as error:
            raise storage_error(error, "remove", f"{self.path}/{self._staging_name}") from error
        finally:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._staging)
            os.close(self._base)


@asynccontextmanager
async def begun(path: str, deed: Deed) -> AsyncIterator[Place]:
    """A place of which the deed knows, so that nothing is left of it whatever happens; abandoned after an error in the
    block. Errors of `Place.at`."""
    place = await Place.at(path)
    try:
        await deed.intend(place.trace())
        yield place
    except BaseException:
        with trio.CancelScope(shield=True):
            await place.abandon()
        raise


def _copy_some(fd: int, out: int, at: int, size: int) -> int:
    """`out` is written where it stands."""
    try:
        return os.copy_file_range(fd, out, size, offset_src=at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.sendfile(out, fd, at, size)
