"""The file that an archive is written to: it appears under its name when it is whole, and not before.

Until then it has no name at all, where the file system can do that, so that not even `kill -9` leaves a piece of it;
elsewhere it stands beside its place. What is no regular file (a pipe, /dev/stdout) is written to directly.
"""

from __future__ import annotations

import errno
import os
import stat

from pyman.errors import InvalidArgument, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["OutputFile"]

_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)

_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class OutputFile:
    """Open while it is entered; `keep` puts it in its place."""

    def __init__(self, path: str) -> None:
        self.given = path
        self._descriptor = -1
        self._beside = ""
        self._target = ""
        self._directory = ""

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as problem:
            raise InvalidArgument(
                f"cannot write '{self.given}': {problem.strerror or problem}", subject=self.given
            ) from problem
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._beside:
            try:
                os.unlink(self._beside)
            except OSError:
                pass  # its directory has gone

    def fileno(self) -> int:
        return self._descriptor

    def keep(self) -> None:
        """Put it in its place, instead of what is there. Raises StorageFailed."""
        if not self._target:
            return
        try:
            if not self._beside:
                self._name()
            os.replace(self._beside, self._target)
            self._beside = ""
        except OSError as problem:
            raise StorageFailed(
                f"cannot write '{self.given}': {problem.strerror or problem}", subject=self.given
            ) from problem

    def _open(self) -> None:
        if self.given in _STREAMS:
            self._descriptor = os.dup(_STREAMS[self.given])
            return
        path = os.path.realpath(self.given)
        mode = 0o666
        try:
            found = os.stat(path)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(found.st_mode):
                self._descriptor = os.open(self.given, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
                return
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))  # refused where the caller may not write it
            mode = stat.S_IMODE(found.st_mode)
        self._target, self._directory = path, os.path.dirname(path)
        try:
            self._descriptor = os.open(self._directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode)
        except OSError as problem:
            if problem.errno not in _NO_UNNAMED:
                raise
            name = self._free()
            self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            self._beside = name
        if mode != 0o666:
            os.fchmod(self._descriptor, mode)

    def _name(self) -> None:
        name = self._free()
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{self._descriptor}", name, src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        self._beside = name

    def _free(self) -> str:
        return f"{self._target}.{os.urandom(4).hex()}.part"
