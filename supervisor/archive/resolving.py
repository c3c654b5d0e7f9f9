"""Paths in a container, as its own processes would find them: links lead where they lead in its root, and never out of
it, whatever the container's processes change meanwhile.

Each step is taken from a descriptor of the directory that the last one led to, and follows nothing; what a link says is
read, and walked the same way. So neither a link that is put in a directory's place nor one of those in /proc, which lead
anywhere, is of any use. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["Resolved", "Resolver"]

_LINKS = 40
"""As many as the kernel follows."""
_PATIENCE = 100
"""How often a name may turn into something else while it is looked at."""
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHANGED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EINVAL, errno.ENOENT})


class Resolved:
    """Where a path leads. Descriptors are open as long as the process lives."""

    __slots__ = ("directory", "names", "parent", "status")

    def __init__(
        self, names: list[bytes], parent: int, status: os.stat_result | None, directory: int = -1
    ) -> None:
        self.names = names
        """From the root on, without links and dots."""
        self.parent = parent
        """The directory in which it is, or would be; the root itself is in none: -1."""
        self.status = status
        """None: there is nothing of that name."""
        self.directory = directory
        """If it is one."""

    @property
    def name(self) -> bytes:
        """Empty: it is the root."""
        return self.names[-1] if self.names else b""

    @property
    def path(self) -> bytes:
        return b"/" + b"/".join(self.names)

    def is_within(self, path: bytes) -> bool:
        """It is at a path, or below it. That one has no links, no dots."""
        above = [part for part in path.split(b"/") if part]
        return self.names[: len(above)] == above


class Resolver:
    """Of one root."""

    def __init__(self, root: int) -> None:
        self._root = root

    def resolve(self, path: bytes) -> Resolved:
        """FileNotFoundError: also what it would be in is not there. NotADirectoryError, OSError (ELOOP)."""
        return _Walk(self._root, path).end()


class _Walk:
    """Along one path."""

    def __init__(self, root: int, path: bytes) -> None:
        self._root = root
        self._way: list[tuple[bytes, int]] = []
        self._waiting = path.split(b"/")[::-1]
        self._links = self._changes = 0

    def end(self) -> Resolved:
        while self._waiting:
            part = self._waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if self._way:
                    os.close(self._way.pop()[1])
                continue
            found = self._step(part)
            if found is not None:
                return found
        if not self._way:
            return Resolved([], -1, os.fstat(self._root), self._root)
        directory = self._way[-1][1]
        parent = self._way[-2][1] if len(self._way) > 1 else self._root
        return Resolved(self._names(), parent, os.fstat(directory), directory)

    def _names(self, *more: bytes) -> list[bytes]:
        return [*(name for name, _ in self._way), *more]

    def _step(self, part: bytes) -> Resolved | None:
        """None: the path goes on."""
        here = self._way[-1][1] if self._way else self._root
        try:
            status = os.stat(part, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            if any(each not in (b"", b".") for each in self._waiting):
                raise
            return Resolved(self._names(part), here, None)
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFLNK):
            if self._waiting:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return Resolved(self._names(part), here, status)
        try:
            if kind == stat.S_IFDIR:
                self._way.append((part, os.open(part, _PLACE, dir_fd=here)))
            else:
                self._link(os.readlink(part, dir_fd=here))
        except OSError as error:
            self._changes += 1
            if error.errno not in _CHANGED or self._changes > _PATIENCE or self._links > _LINKS:
                raise
            self._waiting.append(part)  # it is something else by now
        return None

    def _link(self, target: bytes) -> None:
        self._links += 1
        if self._links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith(b"/"):
            while self._way:
                os.close(self._way.pop()[1])
        self._waiting.extend(target.split(b"/")[::-1])
