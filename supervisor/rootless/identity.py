"""How a process inside the user's namespace tells, and is told, whose it is.

Inside, the user is shown as root. The variables are those that other container programs set and understand;
`pyman.wire.owner` reads them. Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["groups", "marks"]

_GROUPS = "PYMAN_ROOTLESS_GROUPS"


def marks(uid: int, gid: int) -> dict[str, str]:
    """The variables for processes inside the namespaces of that user. To be made before they are entered."""
    return {
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(uid),
        "_CONTAINERS_ROOTLESS_GID": str(gid),
        _GROUPS: ",".join(map(str, os.getgroups())),
    }


def groups(environ: Mapping[str, str] = os.environ) -> set[int]:
    """The supplementary groups of this process as the host has them: inside, most of them look alike."""
    told = environ.get(_GROUPS)
    return set(os.getgroups()) if told is None else {int(id) for id in told.split(",") if id.isdecimal()}
