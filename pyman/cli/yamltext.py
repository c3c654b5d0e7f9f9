"""YAML for people: what `info` prints. Writing only, of what JSON can hold."""

from __future__ import annotations

from pyman.cli.jsontext import compact, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["yaml"]

_WORDS = frozenset(("", "true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", "=", "<<"))


def yaml(value: Any, margin: str = "") -> str:
    """The lines of a value, each moved by the margin."""
    if isinstance(value, dict) and value:
        return "".join(f"{margin}{_plain(str(key))}:{_after(value[key], margin)}" for key in value)
    if isinstance(value, list) and value:
        return "".join(f"{margin}-{_item(item, margin)}" for item in value)
    return margin + _scalar(value) + "\n"


def _after(value: Any, margin: str) -> str:
    if isinstance(value, dict) and value:
        return "\n" + yaml(value, margin + "  ")
    if isinstance(value, list) and value:
        return "\n" + yaml(value, margin)
    return f" {_scalar(value)}\n"


def _item(value: Any, margin: str) -> str:
    if isinstance(value, (dict, list)) and value:
        return " " + yaml(value, margin + "  ").lstrip(" ")
    return f" {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    return _plain(value) if isinstance(value, str) else compact(value)


def _plain(text: str) -> str:
    """The text as it stands where YAML reads it as this text, else in quotes."""
    if not text.isprintable():
        return quote(text)
    if text.lower() in _WORDS or _like_number(text):
        return f'"{text}"' if '"' not in text and "\\" not in text else quote(text)
    if text[0] in "-?:,[]{}#&*!|>'\"%@` " or text[-1] in " :" or ": " in text or " #" in text:
        return "'" + text.replace("'", "''") + "'"
    return text


def _like_number(text: str) -> bool:
    """Numbers and dates: what begins as one is quoted if it consists of their characters only."""
    return text[0] in "+-.0123456789" and all(
        letter in "+-._:0123456789abcdefABCDEFoOxXeETZ" for letter in text
    )
