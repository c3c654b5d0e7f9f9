"""The drivers' options: which a driver has, what their values may be, and the form in which they are written down.

netavark reads `true` and `false` and no other words, so those that Podman takes are rewritten.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument
from supervisor.network.plans import UNMANAGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DRIVERS", "check_interface_name", "checked_options"]

DRIVERS = ("bridge", "macvlan", "ipvlan")
_INTERFACE_MOST = 15
"""Characters of an interface's name in the kernel."""

_INTERFACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_MODES = {
    "bridge": ("managed", UNMANAGED),
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}


class _Unusable(Exception):
    """What the value should have been."""


def checked_options(driver: str, options: Mapping[str, str]) -> dict[str, str]:
    """InvalidArgument: the driver has no such option, or the value cannot be."""
    checks = _CHECKS[driver]
    found = {}
    for key, value in options.items():
        if key not in checks:
            raise InvalidArgument(
                f"cannot use the option '{key}' for a network of the driver {driver}",
                subject=key,
                hint=f"it has {', '.join(sorted(checks))}",
            )
        try:
            found[key] = checks[key](value)
        except _Unusable as error:
            raise InvalidArgument(
                f"cannot use the option '{key}={value}' of a network: it is not {error}", subject=key
            ) from None
    return found


def check_interface_name(name: str, what: str) -> None:
    """`what`: for the message. InvalidArgument."""
    if not _INTERFACE.fullmatch(name) or len(name) > _INTERFACE_MOST:
        raise InvalidArgument(
            f"cannot use the {what} '{name}'",
            subject=name,
            hint=f"it may have {_INTERFACE_MOST} letters, digits, '_', '.' and '-', and begins with a letter or digit",
        )


# ---------------------------------------------------------------------- values


def _whole(low: int, high: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and low <= int(value) <= high):
            raise _Unusable(f"a whole number from {low} to {high}")
        return value

    return check


def _mtu(value: str) -> str:
    """Podman takes 0, and nothing, for the default."""
    if value in ("", "0"):
        return value
    return _whole(68, 65535)(value)


def _vlan(value: str) -> str:
    return _whole(0, 4094)(value) if value else value


def _truth(value: str) -> str:
    if value not in (*_TRUE, *_FALSE):
        raise _Unusable("true or false")
    return "true" if value in _TRUE else "false"


def _isolate(value: str) -> str:
    if value == "strict":
        return value
    if value and value not in (*_TRUE, *_FALSE):
        raise _Unusable("true, false or strict")
    return _truth(value or "false")


def _vrf(value: str) -> str:
    if not _INTERFACE.fullmatch(value) or len(value) > _INTERFACE_MOST:
        raise _Unusable("the name of an interface")
    return value


def _mode(driver: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in _MODES[driver]:
            raise _Unusable(f"one of {', '.join(_MODES[driver])}")
        return value

    return check


_COMMON: dict[str, Callable[[str], str]] = {
    "metric": _whole(0, (1 << 32) - 1),
    "mtu": _mtu,
    "no_default_route": _truth,
}
_CHECKS: dict[str, dict[str, Callable[[str], str]]] = {
    "bridge": {**_COMMON, "isolate": _isolate, "mode": _mode("bridge"), "vlan": _vlan, "vrf": _vrf},
    "macvlan": {**_COMMON, "bclim": _whole(-(1 << 31), (1 << 31) - 1), "mode": _mode("macvlan")},
    "ipvlan": {**_COMMON, "mode": _mode("ipvlan")},
}
