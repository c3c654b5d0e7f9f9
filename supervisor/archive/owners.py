"""Whose files are that are copied: a user of the container's, or the same as before, as the container sees it.

Standard library only.
"""

from __future__ import annotations

from pyman.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

__all__ = ["of_copies", "outside"]


def of_copies(job: dict[str, Any]) -> Callable[[os.stat_result], tuple[int, int]]:
    """Whose a copy is."""
    if job["owner"]:
        owner: tuple[int, int] = job["owner"]
        return lambda _: owner
    seen, given = job["seen_ids"], job["given_ids"]

    def mapped(status: os.stat_result) -> tuple[int, int]:
        uid = outside(_inside(status.st_uid, seen[0]), given[0])
        return uid, outside(_inside(status.st_gid, seen[1]), given[1])

    return mapped


def _inside(number: int, ranges: list[list[int]]) -> int:
    for first, own, size in ranges:
        if own <= number < own + size:
            return int(first + number - own)
    if ranges:
        raise NotSupported(f"cannot keep the owner {number}: it does not exist in the container")
    return number


def outside(number: int, ranges: list[list[int]]) -> int:
    """An id of the container's in the engine's; without maps they are the same. NotSupported."""
    for first, own, size in ranges:
        if first <= number < first + size:
            return int(own + number - first)
    if ranges:
        raise NotSupported(
            f"cannot keep the owner {number}: it does not exist in the container",
            hint="without --archive=false the container's user owns the copy",
        )
    return number
