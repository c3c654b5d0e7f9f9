"""The user's directories by the XDG rules, resolved once into one frozen value.

The environment is a parameter and is never written: what belongs to the caller stays the caller's.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import msgspec

from pyman.wire import runtime_directory

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
    """As `pyman.wire.runtime_directory` has it for users; for root /run/user/0, where nothing says otherwise."""
    bus_address: str
    """Of the session bus: $DBUS_SESSION_BUS_ADDRESS, else the socket `bus` in the runtime directory."""

    @classmethod
    def of(cls, environ: Mapping[str, str], uid: int) -> Xdg:
        """What the variables say; a relative path counts as unset, as the XDG specification has it."""
        home = _absolute(environ, "HOME") or _home_of(uid)
        given = _absolute(environ, "XDG_RUNTIME_DIR")
        runtime = runtime_directory(environ, uid) if uid else given or "/run/user/0"
        return cls(
            home=home,
            config_home=_absolute(environ, "XDG_CONFIG_HOME") or f"{home}/.config",
            data_home=_absolute(environ, "XDG_DATA_HOME") or f"{home}/.local/share",
            cache_home=_absolute(environ, "XDG_CACHE_HOME") or f"{home}/.cache",
            runtime_dir=runtime,
            bus_address=environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={given or runtime}/bus",
        )


def _absolute(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    return os.path.normpath(value) if value.startswith("/") else ""


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir or "/"
    except KeyError:
        return "/"
