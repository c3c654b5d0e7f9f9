"""The program that tells what the uppermost layer of an overlay changes: `diff`.

`python -m supervisor.archive.changes`, started by `jobs.changes`. It sees nothing but the layers, read-only.
"""

from __future__ import annotations

import os
import stat
import sys

from pyman.errors import StorageFailed
from supervisor.archive import confinement, program
from supervisor.archive.layering import Below, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from supervisor.archive.layering import Found

_LIMIT = 32 << 20
"""Bytes of all the names that are told."""


def work(job: dict[str, Any]) -> dict[str, Any]:
    """What is changed, added and deleted, in the words of `Changes`."""
    confinement.views([job["upper"], *job["lowers"]], confinement.READING_MARKS)
    found: dict[str, list[str]] = {"changed": [], "added": [], "deleted": []}
    told: set[bytes] = set()
    size = 0
    below = Below([b"/%d" % number for number in range(1, len(job["lowers"]) + 1)])
    for file in walk(b"/0", below, layer=True):
        kind, path = _change(file), file.path
        if not kind:
            continue
        # A directory in which something comes or goes has changed as well, even if it looks the same.
        parent = os.path.dirname(path) if kind != "changed" else b""
        while parent:
            if parent not in told:
                told.add(parent)
                found["changed"].append(_shown(parent))
                size += len(parent)
            parent = os.path.dirname(parent)
        if stat.S_ISDIR(file.status.st_mode):
            told.add(path)
        found[kind].append(_shown(path))
        size += len(path)
        if size > _LIMIT:
            raise StorageFailed(f"cannot tell the changes: their names have more than {_LIMIT} bytes")
    return {key: sorted(names) for key, names in found.items()}


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


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(program.main(work, "tell the changes"))
