"""A tar archive of what is in a container, for the program `copy`.

Paths lead nowhere but into the container, whose root is the process's own.
"""

from __future__ import annotations

import errno
import os
import stat

from supervisor.archive import building, confinement, insides
from supervisor.archive.failures import failed
from supervisor.archive.layering import Below, Found
from supervisor.archive.tree import Tree
from supervisor.archive.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["take"]

_PIECE = 1 << 20


class _Pipe:
    """Where an archive goes, in large pieces."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pieces: list[bytes] = []
        self._gathered = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= _PIECE:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._gathered = 0
        write_all(self._fd, data)


class _Archive(Tree):
    """`owner`: of all that is in it; none: everything keeps its own."""

    def __init__(
        self,
        pipe: _Pipe,
        owner: tuple[int, int] | None,
        maps: tuple[list[list[int]], list[list[int]]],
        *,
        skip_denied: bool,
    ) -> None:
        super().__init__(pipe, None, maps=maps, skip_denied=skip_denied)
        self._fixed = owner
        self.size = 0

    def owner(self, found: Found) -> tuple[int, int]:
        return super().owner(found) if self._fixed is None else self._fixed

    def data(self, fd: int, size: int) -> int:
        left = size
        while left:
            piece = os.read(fd, min(_PIECE, left)) or bytes(min(_PIECE, left))
            left -= len(piece)
            self.output.write(piece)
        self.size += size
        return 0


def take(job: dict[str, Any]) -> dict[str, Any]:
    """Write an archive of a file or a directory of a container."""
    (seen,) = insides.enter(job["insides"], confinement.READING)
    source = job["source"]
    found, status = seen.find(str(source["path"]))
    pipe = _Pipe(job["out"])
    ids = job["seen_ids"][0], job["seen_ids"][1]
    archive = _Archive(pipe, job["owner"], ids, skip_denied=job["skip_denied"])
    name = b"" if (source["contents"] and found.directory >= 0) else found.name
    waiting = [_Path(name, found.path, status, top=True)]
    while waiting:
        each = waiting.pop()
        try:
            if each.name:
                archive.add(Found(each.name, each.place, each.status, None, Below([]), removed=False))
            if stat.S_ISDIR(each.status.st_mode):
                waiting.extend(each.below(root=not found.names))
        except FileNotFoundError:
            continue  # it is gone meanwhile
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM) or not job["skip_denied"]:
                raise failed(error, "copy", each.place) from error
            archive.left_out += 1
    archive.raw(building.END)
    pipe.flush()
    return {"files": archive.entries, "size": archive.size, "left_out": archive.left_out}


class _Path:
    """One file on its way into an archive, by a path that leads nowhere but into the container."""

    def __init__(self, name: bytes, place: bytes, status: os.stat_result, *, top: bool = False) -> None:
        self.name = name
        self.place = place
        self.status = status
        self._top = top

    def below(self, *, root: bool) -> Iterator[_Path]:
        """Last name first."""
        for entry in sorted(os.listdir(self.place), reverse=True):
            if root and self._top and os.fsdecode(entry) in insides.OF_THE_KERNEL:
                continue
            place = self.place.rstrip(b"/") + b"/" + entry
            try:
                status = os.lstat(place)
            except FileNotFoundError:
                continue
            yield _Path(self.name + b"/" + entry if self.name else entry, place, status)
