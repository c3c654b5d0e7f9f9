"""mounts.conf: directories and files of the host of which every container gets a copy, as entitlements or certificates.

A line is `HOST:CONTAINER`, or a path that is the same in both; what does not begin with a slash is passed over. Of several
files the first that is there counts, and a user's own comes first. It is read with the other settings; what the paths
have is read when a container starts.
"""

from __future__ import annotations

import os
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["subscriptions"]

_MOST_BYTES = 64 * 1024
_MOST = 64
"""Lines of a file that count."""


def subscriptions(directories: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of a path on the host and one in the container, from the first of these directories that has the file. One
    that cannot be read is as if it were empty."""
    for directory in directories:
        path = f"{directory}/mounts.conf"
        if not os.path.isfile(path):
            continue
        lines: list[str] = []
        with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(_MOST_BYTES).splitlines()
        found = (_pair(line.strip()) for line in lines)
        return tuple(dict.fromkeys(pair for pair in found if pair is not None))[:_MOST]
    return ()


def _pair(line: str) -> tuple[str, str] | None:
    if not line.startswith("/"):
        return None
    host, _, container = line.partition(":")
    container = posixpath.normpath(container or host)
    return (host, container) if container.startswith("/") and container != "/" else None
