"""The program that restores a layer's archive from its files and its tar-split file, byte for byte.

`python -m supervisor.archive.pack`, started by `jobs.pack`. Its root is the layer's directory, read-only, and it has no
right but to read every file in it. A file that is not what was unpacked ends it.
"""

from __future__ import annotations

import os
import stat
import sys

from pyman.errors import DigestMismatch
from supervisor.archive import confinement, program, restoring
from supervisor.archive.failures import failed, quoted
from supervisor.archive.members import cleaned
from supervisor.archive.source import Source
from supervisor.archive.tarsplit import checksum
from supervisor.archive.writing import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 18
# Not waiting for what is no file; not following what is none either.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Pack as the job says. What was written, in the words of `Packed`."""
    split = os.open(job["tar_split"], os.O_RDONLY | os.O_CLOEXEC)
    output = Output(job["out"], job["compression"], job["level"], program.report if job["report"] else None)
    confinement.into(job["diff"], confinement.READING, readonly=True)
    for part in restoring.read(Source(split, 0, -1, -1).chunks()):
        if isinstance(part, bytes):
            output.write(part)
        else:
            _write_file(output, part)
    return output.finish()


def _write_file(output: Output, part: restoring.Data) -> None:
    name = cleaned(part.name).lstrip(b"/")
    try:
        fd = os.open(name, _OPEN)
    except OSError as error:
        raise failed(error, "pack", part.name) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != part.size:
            raise _changed(part)
        crc = 0
        while piece := os.read(fd, _CHUNK):
            crc = checksum(piece, crc)
            output.write(piece)
    except OSError as error:
        raise failed(error, "pack", part.name) from error
    finally:
        os.close(fd)
    if crc != part.crc:
        raise _changed(part)


def _changed(part: restoring.Data) -> DigestMismatch:
    return DigestMismatch(
        f"cannot pack {quoted(part.name)}: it is not the file that was unpacked",
        hint="the layer has been changed: remove the image, and pull it again",
    )


if __name__ == "__main__":
    sys.exit(program.main(work, "pack the layer"))
