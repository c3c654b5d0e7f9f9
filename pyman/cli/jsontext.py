"""JSON for people and for other programs: indented like Go's, characters beyond ASCII as they are.

`json` costs as much to import as a whole short command; the C functions beneath it are enough here.
"""

from __future__ import annotations

try:
    from _json import encode_basestring as quote
except ImportError:  # pragma: no cover - another Python
    from json.encoder import py_encode_basestring as quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["compact", "fields", "indented", "quote"]


def compact(value: Any) -> str:
    """On one line, without blanks."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(str(key))}:{compact(item)}" for key, item in fields(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(compact(item) for item in value) + "]"
    return _scalar(value)


def fields(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a dict holds, the methods left out that templates may call."""
    return [(key, item) for key, item in value.items() if not callable(item)]


def indented(value: Any, step: str = "    ", margin: str = "\n") -> str:
    """On many lines, each level moved by `step`."""
    inner = margin + step
    if isinstance(value, dict) and value:
        pairs = (f"{inner}{quote(str(key))}: {indented(item, step, inner)}" for key, item in fields(value))
        return "{" + ",".join(pairs) + margin + "}"
    if isinstance(value, (list, tuple)) and value:
        return "[" + ",".join(inner + indented(item, step, inner) for item in value) + margin + "]"
    return compact(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not -1e400 < value < 1e400:
            return "null"  # JSON has neither infinity nor NaN
        return str(int(value)) if value == int(value) and abs(value) < 1e21 else repr(value)
    return quote(value if isinstance(value, str) else "")
