"""Where a conmon may be: the configured paths in order, then the search path. `find` chooses among them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supervisor.kernel.begun import begin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor.kernel.begun import Begun

__all__ = ["ask", "ask_first", "candidates"]


def ask(path: str) -> Begun:
    """For its version."""
    return begin([path, "--version"])


def ask_first(paths: Sequence[str], path_env: str) -> Begun | None:
    """The first candidate, which nearly always is the one."""
    first = next(candidates(paths, path_env), "")
    return ask(first) if first else None


def candidates(paths: Sequence[str], path_env: str) -> Iterator[str]:
    seen: set[str] = set()
    for path in [*paths, *(os.path.join(entry, "conmon") for entry in path_env.split(":") if entry)]:
        if path not in seen and os.path.isfile(path) and os.access(path, os.X_OK):
            seen.add(path)
            yield path
