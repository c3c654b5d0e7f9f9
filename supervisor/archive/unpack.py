"""The program that unpacks one layer: decompresses, verifies, writes files and the tar-split file.

`python -m supervisor.archive.unpack`, started by `jobs.unpack`. Before it reads a byte of the archive it has nothing
left but the layer's directory and the descriptors of its input and of the tar-split file.
"""

from __future__ import annotations

import os
import sys

from pyman.errors import DigestMismatch
from supervisor.archive import confinement, decompression, marking, program
from supervisor.archive.extraction import Extraction
from supervisor.archive.reading import Stream, TarReader
from supervisor.archive.source import Source, hasher
from supervisor.archive.tarsplit import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class _Counted:
    """The archive as it passes: its digest and its size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hasher("")
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        update = self._hash.update
        for chunk in self._chunks:
            update(chunk)
            self.size += len(chunk)
            yield chunk


def _new_file(path: str) -> int:
    """Empty: what would be written is thrown away."""
    if not path:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Unpack as the job says. What it was, in the words of `Unpacked`."""
    split = _new_file(job["tar_split"])
    nested = confinement.in_user_namespace()
    source = Source(
        *job["feed"],
        digest=job["digest"],
        size=job["size"],
        report=program.report if job["report"] else None,
    )
    compression = decompression.compression_of(source.start(decompression.MAGIC_LENGTH))
    decompression.prepare(compression)
    whiteouts = job["whiteouts"] == "overlay"
    marker = marking.Marker() if whiteouts and not job["user_xattrs"] else None
    confinement.into(job["target"], confinement.WRITING)
    archive = _Counted(decompression.decompressed(compression, source.chunks()))
    extraction = Extraction(
        whiteouts=whiteouts,
        mark_opaque=marker or marking.own(user=True),
        devices=not nested,
        ignore_chown_errors=job["ignore_chown_errors"],
    )
    entries = _extract(extraction, iter(archive), Writer(split))
    if marker is not None:
        marker.close()
    if job["diff_id"] and archive.digest != job["diff_id"]:
        raise DigestMismatch(
            f"cannot accept the layer: its diff id is {archive.digest}, not {job['diff_id']}",
            subject=job["diff_id"],
        )
    return {
        "diff_id": archive.digest,
        "diff_size": archive.size,
        "digest": source.digest,
        "size": source.size,
        "compression": compression,
        "uids": sorted(extraction.uids),
        "gids": sorted(extraction.gids),
        "entries": entries,
    }


def _extract(extraction: Extraction, chunks: Iterator[bytes], split: Writer) -> int:
    """Every member into its file, and what is left of the archive into the tar-split file. How many there were."""
    stream = Stream(chunks)
    reader = TarReader(stream)
    entries = 0
    while (member := reader.next()) is not None:
        entries += 1
        split.raw(reader.raw)
        reader.raw.clear()
        crc = extraction.add(member, stream, split.keep)
        split.file(member.name, 0 if crc is None else member.size, crc or 0)
    split.raw(reader.raw)
    extraction.finish()
    # What follows the end of the archive belongs to its digest, and so to what can be restored.
    while piece := stream.some(1 << 20):
        split.raw((piece,))
    split.finish()
    return entries


if __name__ == "__main__":
    sys.exit(program.main(work, "unpack the layer"))
