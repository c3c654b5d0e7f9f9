"""How a registry asks for a login: the header WWW-Authenticate, read as RFC 9110 has it. Pure functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Challenge", "chosen", "read"]

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}|[^\s,"]+))\s*(?:,|$)\s*')
_SCHEME = re.compile(rf"({_WORD})(?:\s+|$|(?=,))")
_LONGEST = 8192


class Challenge(msgspec.Struct, frozen=True):
    scheme: str
    """In lower case: basic, bearer."""
    parameters: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """Empty: it has no such parameter."""
        return self.parameters.get(name, "")


def read(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all headers of this name; what cannot be read ends its header."""
    found: list[Challenge] = []
    for header in headers:
        rest = header[:_LONGEST].strip()
        while rest and (match := _SCHEME.match(rest)):
            rest = rest[match.end() :].lstrip(", ")
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(rest):
                quoted, plain = parameter[2], parameter[3]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
                parameters[parameter[1].lower()] = value
                rest = rest[parameter.end() :]
            found.append(Challenge(match[1].lower(), parameters))
    return found


def chosen(challenges: Iterable[Challenge]) -> Challenge | None:
    """The first one that can be answered."""
    return next((one for one in challenges if one.scheme in ("basic", "bearer")), None)
