"""`--env-merge`: a variable whose value is made of others, written as in a shell.

Known are quotes, backslashes, `$NAME`, `${NAME}`, and `${NAME:-WORD}`, `${NAME:+WORD}`, `${NAME:?WORD}`, whose words may
have variables again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["merged"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|")
_LONGEST = 128 * 1024
"""Characters of a variable: more the kernel does not pass on."""
_DEEPEST = 32


def merged(text: str, variables: Mapping[str, str]) -> tuple[str, str]:
    """Name and value. InvalidArgument."""
    reader = _Reader(text, variables)
    name, equals, value = reader.word("").partition("=")
    if not equals or not name:
        raise reader.refusal("it is not NAME=VALUE")
    return name, value


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0
        self._depth = 0

    def refusal(self, reason: str) -> InvalidArgument:
        return InvalidArgument(f"cannot use --env-merge '{self._text[:80]}': {reason}", subject="--env-merge")

    def word(self, end: str) -> str:
        """Up to `end`, which is passed over; empty: all of it."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.refusal("it has braces within braces within braces")
        parts: list[str] = []
        while (letter := self._next()) != end:
            if not letter:
                raise self.refusal(f"there is no '{end}' at its end")
            if letter == "\\":
                parts.append(self._next())
            elif letter == "'":
                parts.append(self._literal())
            elif letter == '"':
                parts.append(self._quoted())
            elif letter == "$":
                parts.append(self._variable())
            else:
                parts.append(letter)
        self._depth -= 1
        found = "".join(parts)
        if len(found) > _LONGEST:
            raise self.refusal("the value becomes too long")
        return found

    def _next(self) -> str:
        """The next character; empty: there is none."""
        letter = self._text[self._at : self._at + 1]
        self._at += len(letter)
        return letter

    def _literal(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise self.refusal("a single quote is not closed")
        start, self._at = self._at, end + 1
        return self._text[start:end]

    def _quoted(self) -> str:
        parts: list[str] = []
        while (letter := self._next()) != '"':
            if not letter:
                raise self.refusal("a double quote is not closed")
            if letter == "$":
                parts.append(self._variable())
            elif letter == "\\" and self._text[self._at : self._at + 1] in ('"', "$", "\\"):
                parts.append(self._next())
            else:
                parts.append(letter)
        return "".join(parts)

    def _variable(self) -> str:
        braced = self._text.startswith("{", self._at)
        self._at += braced
        match = _NAME.match(self._text, self._at)
        name = match[0] if match else ""
        self._at += len(name)
        value = self._variables.get(name, "")
        if not braced:
            return value if name else "$"
        mark = self._next()
        if not name or mark not in ("}", ":"):
            raise self.refusal(f"'{mark or '$'}' after '${{{name}' is not known")
        return value if mark == "}" else self._chosen(name, value)

    def _chosen(self, name: str, value: str) -> str:
        kind = self._next()
        if kind not in ("-", "+", "?"):
            raise self.refusal(f"':{kind}' is not known")
        word = self.word("}")
        if kind == "?" and not value:
            raise self.refusal(word or f"'{name}' is not set")
        return (word if value else "") if kind == "+" else value or word
