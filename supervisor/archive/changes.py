"""The program that tells what the uppermost layer of an overlay changes: `diff`.

`python -m supervisor.archive.changes`, started by `jobs.changes`. It sees nothing but the layers, read-only.
"""

from __future__ import annotations

import os
import stat
import sys

from supervisor.archive import confinement, program
from supervisor.archive.layering import Below, walk
from supervisor.archive.telling import Telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.archive.layering import Found


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What is changed, added and deleted, in the words of `Changes`."""
    confinement.views([job["upper"], *job["lowers"]], confinement.READING_MARKS)
    told = Telling()
    below = Below([b"/%d" % number for number in range(1, len(job["lowers"]) + 1)])
    unseen = {os.fsencode(path).strip(b"/") for path in job["exclude"]}
    for file in walk(b"/0", below, layer=True):
        kind = _change(file) if file.path not in unseen else ""
        if kind:
            told.tell(kind, file.path, directory=stat.S_ISDIR(file.status.st_mode))
    return told.found()


def _change(file: Found) -> str:
    """What has happened to it; an empty word: nothing."""
    if file.removed:
        return "deleted"
    if file.shown is None:
        return "added"
    if file.opaque:
        return "deleted"
    if stat.S_ISDIR(file.status.st_mode) and _alike(file.status, file.shown):
        return ""
    return "changed"


def _alike(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_size, one.st_mtime_ns) == (other.st_mode, other.st_size, other.st_mtime_ns)


if __name__ == "__main__":
    sys.exit(program.main(work, "tell the changes"))
