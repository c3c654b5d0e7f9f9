"""Options of a container's user namespace, and what of the create request they are.

The maps themselves are the supervisor's to read: only it knows which ids there are.
"""

from __future__ import annotations

import os

from pyman.cli.options import CSV, TEXT
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.options import Option, Parsed

__all__ = ["USERNS_OPTIONS", "userns_settings"]

USERNS_OPTIONS: tuple[Option, ...] = (
    ("gidmap", "", CSV, "MAP", "Map groups: [+][u|g]CONTAINER_GID:[@]GID[:SIZE]"),
    ("subgidname", "", TEXT, "NAME", "Map the groups that /etc/subgid gives a name"),
    ("subuidname", "", TEXT, "NAME", "Map the users that /etc/subuid gives a name"),
    ("uidmap", "", CSV, "MAP", "Map users: [+][u|g]CONTAINER_UID:[@]UID[:SIZE]"),
    (
        "userns",
        "",
        TEXT,
        "MODE",
        "User namespace: host, auto, keep-id, nomap, container:NAME or ns:PATH, some with options",
    ),
)

_VARIABLE = "PODMAN_USERNS"
"""Holds a mode for containers that are given none."""
_MAPS = {
    "uidmap": "uid_map",
    "gidmap": "gid_map",
    "subuidname": "sub_uid_name",
    "subgidname": "sub_gid_name",
}


def userns_settings(args: Parsed) -> dict[str, Any]:
    """Raises InvalidArgument."""
    maps = {field: getattr(args, option) for option, field in _MAPS.items() if getattr(args, option)}
    mode = args.userns
    if maps and args.given("userns") and mode != "private":
        given = next(option for option, field in _MAPS.items() if field in maps)
        raise InvalidArgument(f"cannot use --userns together with --{given}")
    if not maps and not args.given("userns"):
        mode = os.environ.get(_VARIABLE, "")
    elif args.given("userns"):
        mode = mode or "host"
    settings: dict[str, Any] = {"idmappings": maps} if maps else {}
    if mode:
        word, _, value = mode.partition(":")
        settings["userns"] = {"nsmode": word, "value": value} if value else {"nsmode": word}
    return settings
