"""The program that compresses a layer otherwise than it comes, without unpacking it.

`python -m supervisor.archive.recompress`, started by `jobs.recompress`. It sees no file at all but by the two descriptors
that it was given.
"""

from __future__ import annotations

import sys

from supervisor.archive import confinement, decompression, program
from supervisor.archive.source import Source
from supervisor.archive.writing import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What was written, in the words of `Packed`."""
    source = Source(
        *job["feed"],
        digest=job["digest"],
        size=job["size"],
        report=program.report if job["report"] else None,
    )
    compression = decompression.compression_of(source.start(decompression.MAGIC_LENGTH))
    decompression.prepare(compression)
    output = Output(job["out"], job["compression"], job["level"])
    confinement.views([], ())
    for piece in decompression.decompressed(compression, source.chunks()):
        output.write(piece)
    return output.finish()


if __name__ == "__main__":
    sys.exit(program.main(work, "compress the layer"))
