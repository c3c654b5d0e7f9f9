"""A tar archive that is unpacked into a directory of a container, for the program `copy`.

Links are followed as in the container, whose root is the process's own.
"""

from __future__ import annotations

import os

from pyman.errors import ArchiveRefused, InvalidArgument
from supervisor.archive import confinement, decompression, insides, marking
from supervisor.archive.extraction import Extraction
from supervisor.archive.failures import Broken, quoted
from supervisor.archive.owners import outside
from supervisor.archive.reading import Stream, TarReader
from supervisor.archive.source import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.archive.members import Member

__all__ = ["put"]

_PIECE = 1 << 20


def put(job: dict[str, Any]) -> dict[str, Any]:
    """Unpack an archive into a directory of a container."""
    source = Source(*job["feed"], hashed=False)
    compression = decompression.compression_of(source.start(decompression.MAGIC_LENGTH))
    decompression.prepare(compression)
    (seen,) = insides.enter(job["insides"], confinement.WRITING)
    path = str(job["target"]["path"])
    found = seen.look(path)
    if found is None or found.directory < 0:
        raise InvalidArgument(
            f"cannot unpack an archive to {quoted(os.fsencode(path))} in container '{seen.name}': it is no directory",
            subject=seen.name,
        )
    os.chdir(found.directory)
    owner = job["owner"]
    extraction = Extraction(
        whiteouts=False,
        mark_opaque=marking.own(user=True),
        devices=job["devices"],
        ignore_chown_errors=False,
        overwrite=job["overwrite"],
        strict=False,
        parents=owner or (0, 0),
    )
    stream = Stream(decompression.decompressed(compression, source.chunks()))
    reader = TarReader(stream)
    files = size = 0
    given = job["given_ids"]
    while (member := _next(reader)) is not None:
        reader.raw.clear()
        if owner:
            member.uid, member.gid = owner
        else:
            member.uid, member.gid = outside(member.uid, given[0]), outside(member.gid, given[1])
        files += 1
        size += member.size
        extraction.add(member, stream, lambda _: None)
    extraction.finish()
    if not source.size:
        raise ArchiveRefused("cannot unpack the archive: it is empty")
    while stream.some(_PIECE):
        pass  # whoever writes it is not to fail
    return {"files": files, "size": size, "left_out": 0}


def _next(reader: TarReader) -> Member | None:
    """ArchiveRefused: it is damaged, or none at all."""
    try:
        return reader.next()
    except Broken as error:
        why = "it is no tar archive" if reader.count == 1 else str(error)
        raise ArchiveRefused(f"cannot unpack the archive: {why}") from error
