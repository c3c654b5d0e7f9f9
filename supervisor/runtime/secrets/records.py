"""A secret as it is asked for and as it is known, without what is in it; and what a name and the data may be."""

from __future__ import annotations

import msgspec

from pyman.errors import InvalidArgument

__all__ = ["ID_LENGTH", "LIMIT", "Secret", "Wish", "check_data", "check_name"]

LIMIT = 512_000
"""Bytes; a secret has fewer."""
ID_LENGTH = 25
_NAME_MOST = 253
_NOT_IN_NAMES = ",/="


class Wish(msgspec.Struct, frozen=True):
    """A secret as it is asked for."""

    name: str
    driver: str = ""
    """Empty: the configured one."""
    options: dict[str, str] = {}
    """Empty: the configured ones, where the driver is the configured one."""
    labels: dict[str, str] = {}
    replace: bool = False
    ignore: bool = False


class Secret(msgspec.Struct, frozen=True):
    """What all but its driver know of it."""

    id: str
    name: str
    driver: str
    options: dict[str, str]
    labels: dict[str, str]
    created: str
    """RFC 3339, as the next one."""
    updated: str


def check_name(name: str) -> None:
    """As Podman has it, and nothing that a terminal would take for something else. InvalidArgument."""
    size = len(name.encode(errors="surrogateescape"))
    if not 0 < size <= _NAME_MOST:
        raise InvalidArgument(
            f"cannot use a secret's name of {size} bytes", subject=name, hint=f"it may have 1 to {_NAME_MOST}"
        )
    if not name.isprintable() or any(letter in name for letter in _NOT_IN_NAMES):
        raise InvalidArgument(
            f"cannot use the name '{name}' for a secret",
            subject=name,
            hint="it may have neither ',' nor '/' nor '=' nor what cannot be printed",
        )


def check_data(name: str, size: int) -> None:
    """InvalidArgument: nothing, or too much."""
    if not 0 < size < LIMIT:
        found = "it is empty" if not size else f"it has {LIMIT} bytes or more"
        raise InvalidArgument(
            f"cannot make secret '{name}': {found}",
            subject=name,
            hint=f"a secret has at least 1 byte and fewer than {LIMIT}",
        )
