"""The program that makes a new archive of a tree: of a root file system (`export`), or of what a container has changed
in an overlay (`commit`), which is a layer then.

`python -m supervisor.archive.tree`, started by `jobs.pack_tree`. It sees nothing but the tree and the layers below it,
read-only, and has no right but to read every file and attribute in them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from pyman.errors import StorageFailed
from supervisor.archive import building, confinement, program
from supervisor.archive.failures import failed, quoted
from supervisor.archive.layering import OPAQUE, WHITEOUT, Below, walk
from supervisor.archive.members import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Member,
    padding,
)
from supervisor.archive.tarsplit import Writer, checksum
from supervisor.archive.writing import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from supervisor.archive.layering import Found

    class Writable(Protocol):
        def write(self, data: bytes, /) -> None: ...


__all__ = ["Tree"]

_CHUNK = 1 << 18
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
}
"""Sockets are left out: they are nothing without who has made them."""
_DENIED = (errno.EACCES, errno.EPERM)
_OURS = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.")
"""Attributes that overlays and engines keep in files for themselves."""


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Pack as the job says. What was written, in the words of `PackedTree`."""
    split = Writer(os.open(job["tar_split"], _NEW, 0o600)) if job["tar_split"] else None
    output = Output(job["out"], job["compression"], job["level"], program.report if job["report"] else None)
    confinement.views([job["root"], *job["lowers"]], confinement.READING_MARKS)
    tree = Tree(output, split, layer=bool(job["layer"]), maps=(job["uids"], job["gids"]))
    below = Below([b"/%d" % number for number in range(1, len(job["lowers"]) + 1)])
    excluded = {os.fsencode(path).strip(b"/") for path in job["exclude"]}
    skipped = b""
    for found in walk(b"/0", below, layer=job["layer"]):
        if found.path in excluded:
            skipped = found.path + b"/"
        elif not skipped or not found.path.startswith(skipped):
            tree.add(found)
    tree.raw(building.END)
    if split is not None:
        split.finish()
    owners = {"uids": sorted(tree.uids), "gids": sorted(tree.gids), "entries": tree.entries}
    return {**output.finish(), **owners}


class Tree:
    """An archive that comes into being. `layer`, `maps`: see `jobs.pack_tree`."""

    def __init__(
        self,
        output: Writable,
        split: Writer | None,
        *,
        layer: bool = False,
        maps: tuple[list[list[int]], list[list[int]]] = ([], []),
        skip_denied: bool = False,
    ) -> None:
        """`skip_denied`: what may not be read is left out."""
        self.output = output
        self._split = split
        self._layer = layer
        self._maps = maps
        self._links: dict[tuple[int, int], bytes] = {}
        self.uids: set[int] = set()
        self.gids: set[int] = set()
        self.entries = 0
        self.left_out = 0
        self._skip_denied = skip_denied

    def raw(self, data: bytes) -> None:
        self.output.write(data)
        if self._split is not None:
            self._split.keep(data)

    def add(self, found: Found) -> None:
        """One file, whatever it is. DiskFull, StorageFailed."""
        status = found.status
        if found.removed:
            directory, _, name = found.path.rpartition(b"/")
            self._empty(found, (directory + b"/" if directory else b"") + WHITEOUT + name)
            return
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        try:
            member = self._member(found, kind)
            if kind == REGULAR and self._add_regular(found, member):
                return
        except FileNotFoundError:
            return  # it is gone meanwhile
        except OSError as error:
            if self._skip_denied and error.errno in _DENIED:
                self.left_out += 1
                return
            raise failed(error, "pack", found.path) from error
        self._header(member)
        self._name(member, 0)
        # Every directory that a container makes is marked; only where something lies below is there a need for it.
        if self._layer and found.opaque and found.shown is not None:
            self._empty(found, found.path + b"/" + OPAQUE)

    def _empty(self, found: Found, name: bytes) -> None:
        """A file that stands for a removal."""
        member = Member()
        member.name = name
        if stat.S_ISDIR(found.status.st_mode):
            member.mode = found.status.st_mode & 0o777
        else:
            member.mtime = found.status.st_mtime_ns
        self._own(member, found)
        self._header(member)
        self._name(member, 0)

    def _member(self, found: Found, kind: int) -> Member:
        status = found.status
        member = Member()
        member.name = found.path
        member.kind = kind
        member.mode = stat.S_IMODE(status.st_mode)
        member.mtime = status.st_mtime_ns
        self._own(member, found)
        if kind == SYMLINK:
            member.link = os.readlink(found.place)
        elif kind in (CHARACTER_DEVICE, BLOCK_DEVICE):
            member.major, member.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if kind != DIRECTORY and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), found.path)
            if first != found.path:
                member.kind = HARD_LINK
                member.link = first
        if kind in (REGULAR, DIRECTORY):
            # Of further links as well: who unpacks them sets the owner again, which removes capabilities.
            member.xattrs = _attributes(found.place)
        return member

    def owner(self, found: Found) -> tuple[int, int]:
        """As the archive has it."""
        uid = _inside(found.status.st_uid, self._maps[0], found)
        return uid, _inside(found.status.st_gid, self._maps[1], found)

    def _own(self, member: Member, found: Found) -> None:
        member.uid, member.gid = self.owner(found)
        self.uids.add(member.uid)
        self.gids.add(member.gid)

    def _header(self, member: Member) -> None:
        self.entries += 1
        self.raw(building.header(member))

    def _name(self, member: Member, crc: int) -> None:
        if self._split is not None:
            name = member.name + b"/" if member.kind == DIRECTORY else member.name
            self._split.file(name, member.size, crc)

    def _add_regular(self, found: Found, member: Member) -> bool:
        """False: it is a further link to a file that is there already."""
        if member.kind != REGULAR:
            return False
        fd = os.open(found.place, _OPEN)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError
            member.size = status.st_size
            self._header(member)
            crc = self.data(fd, member.size)
        finally:
            os.close(fd)
        self._name(member, crc)
        if rest := padding(member.size):
            self.raw(bytes(rest))
        return True

    def data(self, fd: int, size: int) -> int:
        """So much of the file; zeros, where it has become shorter meanwhile. Their CRC."""
        crc = 0
        while size:
            piece = os.read(fd, min(_CHUNK, size)) or bytes(min(_CHUNK, size))
            size -= len(piece)
            crc = checksum(piece, crc)
            self.output.write(piece)
        return crc


def _inside(number: int, ranges: list[list[int]], found: Found) -> int:
    """The id in the container; without maps they are the same."""
    for inside, outside, size in ranges:
        if outside <= number < outside + size:
            return int(inside + number - outside)
    if ranges:
        raise StorageFailed(
            f"cannot pack {quoted(found.path)}: its owner {number} does not exist in the container"
        )
    return number


def _attributes(place: bytes) -> list[tuple[bytes, bytes]]:
    """Capabilities, and what users keep."""
    kept = []
    for key in sorted(os.listxattr(place, follow_symlinks=False)):
        if key == "security.capability" or (
            key.startswith("user.") and not key.startswith(_OURS) and "=" not in key
        ):
            try:
                kept.append((os.fsencode(key), os.getxattr(place, key, follow_symlinks=False)))
            except OSError:
                continue  # gone meanwhile, or not for us to read
    return kept


if __name__ == "__main__":
    sys.exit(program.main(work, "pack the tree"))
