"""The program that tells what is where in an archive, so that parts of it can be read in place.

`python -m supervisor.archive.index`, started by `jobs.index`. A compressed archive, or one that comes through a pipe, is
first written to a file as it is uncompressed. It sees no file at all but by the descriptors that it was given.
"""

from __future__ import annotations

import os
import stat
import sys

from pyman.errors import DiskFull
from supervisor.archive import confinement, decompression, members, program
from supervisor.archive.failures import Broken, quoted
from supervisor.archive.members import cleaned
from supervisor.archive.reading import Stream, TarReader
from supervisor.archive.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MEMBERS = 50_000
"""An image with ten thousand layers has three for each."""
_NAME_LIMIT = 1024
_HEAD = 1 << 13
"""Bytes that are read at once where a header is expected."""
_RESERVE = 64 << 20
"""Bytes of the disk that are left to others."""
_KINDS = {
    members.REGULAR: "file",
    members.DIRECTORY: "directory",
    members.SYMLINK: "symlink",
    members.HARD_LINK: "link",
}


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Index, or only spool, as the job says; the answer in the words of `Contents` or `Spooled`."""
    fd, spool = job["fd"], job["spool"]
    source = Source(fd, 0, -1, -1, report=program.report if job["report"] else None)
    compression = decompression.compression_of(source.start(decompression.MAGIC_LENGTH))
    decompression.prepare(compression)
    plain = compression == "none" or job["only_spool"]
    confinement.views([], ())
    if job["only_spool"]:
        return {"size": _spool(source.chunks(), spool), "digest": source.digest, "compression": compression}
    in_place = plain and stat.S_ISREG(os.fstat(fd).st_mode)
    if not in_place:
        _spool(decompression.decompressed(compression, source.chunks()), spool)
    return {"spooled": not in_place, "members": list(_members(fd if in_place else spool))}


def _spool(chunks: Iterator[bytes], fd: int) -> int:
    """Into the file, and not the last of the disk. How many bytes it was."""
    size = 0
    looked = -_RESERVE
    for chunk in chunks:
        if size - looked >= _RESERVE // 2:
            looked = size
            room = os.fstatvfs(fd)
            if room.f_blocks and room.f_bavail * room.f_frsize < _RESERVE:
                raise DiskFull(
                    "cannot unpack the archive: the disk is all but full", hint="make room, and try again"
                )
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(fd, rest) :]
        size += len(chunk)
    return size


def _members(fd: int) -> Iterator[tuple[str, str, int, int, str]]:
    """Name, kind, offset, size and target of each; data are stepped over."""
    size = os.fstat(fd).st_size
    at = 0
    for _ in range(_MEMBERS):
        reader = TarReader(Stream(_pieces(fd, at)))
        member = reader.next()
        if member is None:
            return
        at += sum(len(block) for block in reader.raw)
        if member.size > size - at:
            raise Broken("it ends in the middle of a member")
        if len(member.name) > _NAME_LIMIT or len(member.link) > _NAME_LIMIT:
            raise Broken(f"the name {quoted(member.name)} is too long")
        if member.kind in _KINDS and member.sparse is None:
            yield (_name(member.name), _KINDS[member.kind], at, member.size, _name(member.link, link=True))
        at += member.size + members.padding(member.size)
    raise Broken(f"it has more than {_MEMBERS} members")


def _pieces(fd: int, at: int) -> Iterator[bytes]:
    while piece := os.pread(fd, _HEAD, at):
        at += len(piece)
        yield piece


def _name(name: bytes, *, link: bool = False) -> str:
    return (name if link else cleaned(name).lstrip(b"/")).decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(program.main(work, "read the archive"))
