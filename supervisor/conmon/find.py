"""Which conmon to use: the configured paths in order, then the search path; too old is not the same as absent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from pyman.errors import ConmonNotFound, ConmonOutdated, DeadlineExceeded
from supervisor.conmon.candidates import ask, candidates
from supervisor.kernel import children

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.kernel.begun import Begun

__all__ = ["OLDEST", "Conmon", "find_conmon"]

OLDEST = (2, 0, 24)
_PROBE_DEADLINE = 10.0
_VERSION = re.compile(rb"^conmon version (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)


class Conmon(msgspec.Struct, frozen=True):
    path: str
    version: str


async def find_conmon(paths: Sequence[str], path_env: str, asked: Begun | None = None) -> Conmon:
    """The first usable conmon of `paths`, then of the directories of `path_env` (as in $PATH).

    `asked`: the first candidate, if it was asked before (`candidates.ask_first`).

    Raises ConmonOutdated if there are only older ones than `OLDEST`, else ConmonNotFound. One that does
    not state a version that can be read is not usable.
    """
    outdated = unreadable = ""
    for path in candidates(paths, path_env):
        known = asked is not None and not asked.taken and asked.argv[0] == path
        version = await _version(asked if asked is not None and known else ask(path))
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


async def _version(program: Begun) -> tuple[int, int, int] | None:
    try:
        completed = await children.collect(program, deadline=_PROBE_DEADLINE)
    except (OSError, DeadlineExceeded):
        return None
    match = _VERSION.search(completed.stdout)
    if completed.returncode != 0 or match is None:
        return None
    major, minor, patch = (int(number or 0) for number in match.groups())
    return major, minor, patch


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
