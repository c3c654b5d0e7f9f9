"""Whose engine this is, also from inside the user namespace, where its owner is shown as root.

The variables are those that other container programs set and understand. Standard library only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["marks", "owner"]

_INSIDE, _UID, _GID = "_CONTAINERS_USERNS_CONFIGURED", "_CONTAINERS_ROOTLESS_UID", "_CONTAINERS_ROOTLESS_GID"


def owner(environ: Mapping[str, str]) -> int:
    """The user's uid on the host; 0 for the engine of root."""
    uid = os.geteuid()
    told = environ.get(_UID, "")
    return int(told) if uid == 0 and environ.get(_INSIDE) and told.isdecimal() else uid


def marks(uid: int, gid: int) -> dict[str, str]:
    """The variables for processes inside the namespace of that user."""
    return {_INSIDE: "done", _UID: str(uid), _GID: str(gid)}
