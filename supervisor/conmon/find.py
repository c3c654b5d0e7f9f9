"""Which conmon to use: the configured paths in order, then the search path; too old is not the same as absent."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import ConmonNotFound, ConmonOutdated, DeadlineExceeded
from supervisor.kernel import children

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["OLDEST", "Conmon", "find_conmon"]

OLDEST = (2, 0, 24)
_PROBE_DEADLINE = 10.0
_VERSION = re.compile(rb"^conmon version (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)


class Conmon(msgspec.Struct, frozen=True):
    path: str
    version: str


async def find_conmon(paths: Sequence[str], path_env: str) -> Conmon:
    """The first usable conmon of `paths`, then of the directories of `path_env` (as in $PATH).

    Raises ConmonOutdated if there are only older ones than `OLDEST`, else ConmonNotFound. One that does
    not state a version that can be read is not usable.
    """
    outdated = unreadable = ""
    for path in _candidates(paths, path_env):
        version = await _version(path)
        if version is None:
            unreadable = unreadable or path
        elif version < OLDEST:
            outdated = outdated or f"'{path}' is version {_text(version)}"
        else:
            return Conmon(path, _text(version))
    if outdated:
        raise ConmonOutdated(
            f"cannot use conmon: {outdated}", subject="conmon", hint=f"install {_text(OLDEST)} or a later one"
        )
    if unreadable:
        raise ConmonNotFound(
            f"cannot use conmon: '{unreadable}' does not state its version",
            subject="conmon",
            hint="reinstall conmon, or set conmon_path in containers.conf",
        )
    raise ConmonNotFound(
        "cannot find conmon in the configured paths or in the search path",
        subject="conmon",
        hint="install conmon, or set conmon_path in containers.conf",
    )


def _candidates(paths: Sequence[str], path_env: str) -> Iterator[str]:
    seen: set[str] = set()
    for path in [*paths, *(os.path.join(entry, "conmon") for entry in path_env.split(":") if entry)]:
        if path not in seen and os.path.isfile(path) and os.access(path, os.X_OK):
            seen.add(path)
            yield path


async def _version(path: str) -> tuple[int, int, int] | None:
    try:
        completed = await children.run([path, "--version"], deadline=_PROBE_DEADLINE)
    except (OSError, DeadlineExceeded):
        return None
    match = _VERSION.search(completed.stdout)
    if completed.returncode != 0 or match is None:
        return None
    major, minor, patch = (int(number or 0) for number in match.groups())
    return major, minor, patch


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
