"""Where the helper programs of networks are, and what they can do."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from pyman.errors import DeadlineExceeded, NotSupported
from supervisor.kernel import children

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TUN", "find", "knows"]

TUN = "/dev/net/tun"
"""The device that makes the interface of a program's network."""

_known: dict[tuple[str, int, int, str], bool] = {}
"""By path, size and time of change: an installed program is another one after an upgrade."""


def find(name: str, directories: Iterable[str], *, package: str, instead: str = "") -> str:
    """Its path: in one of the directories, or where programs usually are. NotSupported: it is nowhere. `instead`: what can
    be done without it."""
    places = os.pathsep.join([*directories, children.CLEAN_ENVIRONMENT["PATH"]])
    found = shutil.which(name, path=places)
    if found is None:
        hint = f"install the package {package}" + (f", or use {instead}" if instead else "")
        raise NotSupported(f"cannot find the program '{name}'", subject=name, hint=hint)
    return found


async def knows(path: str, option: str, *, deadline: float) -> bool:
    """Whether its help names an option; asked once of each program. `deadline`: seconds. One that cannot be asked knows
    nothing."""
    try:
        status = os.stat(path)
        key = (path, status.st_size, status.st_mtime_ns, option)
        if key not in _known:
            said = await children.run([path, "--help"], deadline=deadline)
            _known[key] = option.encode() in said.stdout + said.stderr
        return _known[key]
    except (OSError, DeadlineExceeded):
        return False
