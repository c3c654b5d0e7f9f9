"""The user's directories by the XDG rules, resolved once into one frozen value.

The environment is a parameter and is never written: what belongs to the caller stays the caller's.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Xdg"]


class Xdg(msgspec.Struct, frozen=True):
    """Absolute paths. None of them need exist, except that the variable named it or the fallback is safe."""

    home: str
    config_home: str
    data_home: str
    cache_home: str
    runtime_dir: str
    """$XDG_RUNTIME_DIR, else /run/user/UID if it is the user's own, else /tmp/pyman-run-UID."""
    bus_address: str
    """Of the session bus: $DBUS_SESSION_BUS_ADDRESS, else the socket `bus` in the runtime directory."""

    @classmethod
    def of(cls, environ: Mapping[str, str], uid: int) -> Xdg:
        """What the variables say; a relative path counts as unset, as the XDG specification has it."""
        home = _absolute(environ, "HOME") or _home_of(uid)
        runtime = _absolute(environ, "XDG_RUNTIME_DIR") or _runtime_dir(uid)
        return cls(
            home=home,
            config_home=_absolute(environ, "XDG_CONFIG_HOME") or f"{home}/.config",
            data_home=_absolute(environ, "XDG_DATA_HOME") or f"{home}/.local/share",
            cache_home=_absolute(environ, "XDG_CACHE_HOME") or f"{home}/.cache",
            runtime_dir=runtime,
            bus_address=environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus",
        )


def _absolute(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    return os.path.normpath(value) if value.startswith("/") else ""


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir or "/"
    except KeyError:
        return "/"


def _runtime_dir(uid: int) -> str:
    """The fallback below /tmp is a name that anyone can take: whoever makes it checks the owner."""
    login = f"/run/user/{uid}"
    try:
        status = os.lstat(login)
    except OSError:
        status = None
    if status is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == uid:
        return login
    return f"/tmp/pyman-run-{uid}"  # noqa: S108 - ownership is checked by make_directories
