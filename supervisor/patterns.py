"""Clients' patterns, which nobody can make hang the supervisor.

They are Go's regular expressions, as with Podman: RE2's, whose time grows with the text, and not with what the pattern
makes of it. RE2 is loaded when a pattern needs it; most filters are a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pattern", "expression", "wildcard"]

_WORD = re.compile(r"\^?[\w.-]*\$?", re.ASCII)
"""What repeats nothing, and means the same everywhere."""
_SPECIAL = frozenset("*?[\\")
_TOKENS = re.compile(r"(\*+)|(\?)|(\[\^?[^\]]+\])|(\\.)|(.)", re.DOTALL)


class Pattern(Protocol):
    """What `re` and RE2 have in common."""

    def search(self, text: str, /) -> object | None:
        """None: nothing in the text fits."""

    def fullmatch(self, text: str, /) -> object | None:
        """None: the text as a whole does not fit."""


def expression(text: str) -> Pattern:
    """A filter's. InvalidArgument: it is none."""
    if _WORD.fullmatch(text):
        return re.compile(text)
    return _compiled(text)


def wildcard(text: str) -> Callable[[str], bool]:
    """Go's path.Match: `*` and `?` do not stand for a slash; `[a-c]`, `[^a]`; what is none fits nothing."""
    if not set(text) & _SPECIAL:
        return text.__eq__
    parts: list[str] = []
    for star, mark, group, escaped, plain in _TOKENS.findall(text):
        if star or mark:
            parts.append("[^/]*" if star else "[^/]")
        elif group:
            parts.append(f"[{group[1:-1]}]".replace("[[", r"[\["))
        else:
            parts.append(re.escape(escaped[1:] if escaped else plain))
    try:
        found = _compiled("".join(parts))
    except InvalidArgument:
        return lambda _candidate: False
    return lambda candidate: found.fullmatch(candidate) is not None


def _compiled(text: str) -> Pattern:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        found: Pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise InvalidArgument(f"cannot use the filter value '{text}': {reason}") from None
    return found
