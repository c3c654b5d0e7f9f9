"""How a process inside the user's namespace tells, and is told, whose it is.

Inside, the user is shown as root. The variables are those that other container programs set and understand;
`pyman.wire.owner` reads them. Standard library only: the keeper needs it too.
"""

from __future__ import annotations

__all__ = ["marks"]


def marks(uid: int, gid: int) -> dict[str, str]:
    """The variables for processes inside the namespaces of that user."""
    return {
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(uid),
        "_CONTAINERS_ROOTLESS_GID": str(gid),
    }
