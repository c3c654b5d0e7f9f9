"""The functions of templates, and how Go prints values. Every problem is an `Unfit` with a sentence.

What comes from JSON stands for Go's types: a dict is a struct unless its name says that it is a map (Go
prints the two differently, and asking a map for a key that it lacks is no mistake).
"""

from __future__ import annotations

from pyman.cli.jsontext import compact, fields, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FUNCTIONS", "MAPS", "NO_VALUE", "Map", "Moment", "Struct", "Unfit", "show", "true"]

MAPS = frozenset(("Annotations", "Attributes", "GraphOptions", "Labels", "Networks", "Ports"))
"""Fields that are maps: any key may be asked for."""


class Unfit(Exception):
    """A function was given what it cannot use."""


class Map(dict[str, "Any"]):
    """A dict that Go would call a map."""

    __slots__ = ()


class Struct(dict[str, "Any"]):
    """A struct whose fields have other names in JSON, or are not there if they say nothing: its `document`."""

    __slots__ = ("document",)

    def __init__(self, found: dict[str, Any], document: dict[str, Any]) -> None:
        super().__init__(found)
        self.document = document


class Moment(str):
    """A point in time as JSON has it (RFC 3339). Shown, it has the form in which Go prints one."""

    __slots__ = ()


class _NoValue:
    __slots__ = ()

    def __bool__(self) -> bool:
        return False


NO_VALUE = _NoValue()
"""What a map has for a key that it lacks."""


def show(value: Any, *, name: str = "") -> str:
    """As Go's `%v` prints it; `name` is the field it was found under."""
    if isinstance(value, str):
        return _moment(value) if isinstance(value, Moment) else value
    if value is None:
        return "<nil>"
    if value is NO_VALUE:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value == int(value) and abs(value) < 1e21 else repr(value)
    if isinstance(value, dict):
        if isinstance(value, Map) or name in MAPS:
            return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
        shown = fields(value)
        return "{" + " ".join("" if item is None else show(item, name=key) for key, item in shown) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def _moment(text: str) -> str:
    from pyman.cli import times
    from pyman.stamps import parse_stamp

    if text == "0001-01-01T00:00:00Z":
        return "0001-01-01 00:00:00 +0000 UTC"  # Go's zero time, which has no zone
    stamp = parse_stamp(text)
    return "".join(text) if stamp is None else times.show(stamp)


def true(value: Any) -> bool:
    """Go's idea of truth: not false, zero, nil or empty."""
    return bool(value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "other"


def _text(value: Any, function: str) -> str:
    if not isinstance(value, str):
        raise Unfit(f"{function} needs a string, not {show(value)}")
    return value


def _number(value: Any, function: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"{function} needs a whole number, not {show(value)}")
    return value


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise Unfit("eq needs two values")
    for other in others:
        kinds = {_kind(first), _kind(other)}
        if "other" in kinds and None not in (first, other):
            raise Unfit("eq compares strings, numbers and booleans only")
        if len(kinds) > 1 and None not in (first, other):
            raise Unfit(f"eq cannot compare {show(first)} with {show(other)}: they are of different kinds")
        if first == other:
            return True
    return False


def _less(first: Any, second: Any) -> bool:
    kinds = {_kind(first), _kind(second)}
    if len(kinds) > 1 or not kinds <= {"number", "string"}:
        raise Unfit(f"cannot compare {show(first)} with {show(second)}")
    return bool(first < second)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if not isinstance(value, (list, dict)):
        raise Unfit(f"{show(value)} has no length")
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(_text(key, "index"), "" if isinstance(value, Map) else NO_VALUE)
        elif isinstance(value, (list, str)):
            number = _number(key, "index")
            if not 0 <= number < len(value):
                raise Unfit(f"index {number} is out of range: there are {len(value)}")
            value = value[number] if isinstance(value, list) else ord(value[number])
        else:
            raise Unfit(f"index cannot look into {show(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (list, str)):
        raise Unfit(f"slice cannot cut {show(value)}")
    numbers = [_number(bound, "slice") for bound in bounds[:2]]
    start = numbers[0] if numbers else 0
    end = numbers[1] if len(numbers) > 1 else len(value)
    if not 0 <= start <= end <= len(value):
        raise Unfit(f"slice {start}:{end} is out of range: there are {len(value)}")
    return value[start:end]


def _join(items: Any, separator: str) -> str:
    if not isinstance(items, list):
        raise Unfit(f"join needs a list, not {show(items)}")
    return _text(separator, "join").join(show(item) for item in items)


def _split(text: Any, separator: Any) -> list[str]:
    text, separator = _text(text, "split"), _text(separator, "split")
    return text.split(separator) if separator else list(text)


def _title(text: Any) -> str:
    words, start = "", True
    for letter in _text(text, "title"):
        words += letter.upper() if start else letter
        start = not (letter.isalnum() or letter in "_'")
    return words


def _pad(text: Any, before: Any, after: Any) -> str:
    return _text(text, "pad") and " " * _number(before, "pad") + text + " " * _number(after, "pad")


def _truncate(text: Any, length: Any) -> str:
    return _text(text, "truncate")[: max(0, _number(length, "truncate"))]


def _print(*values: Any) -> str:
    """Go's Sprint: a blank between two values unless one of them is a string."""
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += show(value)
    return text


def _printf(form: Any, *values: Any) -> str:
    form, result, index, used = _text(form, "printf"), "", 0, 0
    while index < len(form):
        letter = form[index]
        index += 1
        if letter != "%":
            result += letter
            continue
        flags, index, wrong = _flags(form, index)
        result += wrong
        if index >= len(form):
            return result + "%!(NOVERB)"
        verb = form[index]
        index += 1
        if verb == "%":
            result += "%"
        elif used >= len(values):
            result += f"%!{verb}(MISSING)"
        else:
            result += _verb(flags, verb, values[used])
            used += 1
    extra = ", ".join(f"{_go_type(value)}={show(value)}" for value in values[used:])
    return result + (f"%!(EXTRA {extra})" if extra else "")


_MOST = 1_000_000
"""Of a width or a precision, as Go has it."""


def _flags(form: str, index: int) -> tuple[str, int, str]:
    """What stands before a verb: signs, a width, a precision; where it ends, and what Go says of one that is too large."""
    found, wrong = "", ""
    while index < len(form) and form[index] in "+-# 0":
        found += form[index]
        index += 1
    for dot, bad in (("", "%!(BADWIDTH)"), (".", "%!(BADPREC)")):
        if not form.startswith(dot, index):
            break
        start = index + len(dot)
        index = start
        while index < len(form) and form[index] in "0123456789":
            index += 1
        digits = form[start:index].lstrip("0")
        if len(digits) > len(str(_MOST)) or int(digits or 0) > _MOST:
            wrong += bad
        else:
            found += dot + form[start:index]
    return found, index, wrong


def _letter(number: int) -> str:
    """Go has another one for what is none."""
    is_one = 0 <= number < 0xD800 or 0xDFFF < number <= 0x10FFFF
    return chr(number) if is_one else "\N{REPLACEMENT CHARACTER}"


def _verb(flags: str, verb: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb == "v":
        return f"%{flags}s".replace("#", "") % show(value)
    if verb == "s" and not number and not isinstance(value, bool):
        return f"%{flags}s" % show(value)
    if verb == "q" and isinstance(value, str):
        return f"%{flags}s" % quote(value)
    if verb == "q" and isinstance(value, list):
        return f"%{flags}s" % ("[" + " ".join(quote(show(item)) for item in value) + "]")
    if verb == "t" and isinstance(value, bool):
        return f"%{flags}s" % show(value)
    if verb == "c" and isinstance(value, int) and number:
        return f"%{flags}s" % _letter(value)
    if verb in "dxXo" and isinstance(value, int) and number:
        return f"%{flags}{verb}" % value
    if verb in "xX" and isinstance(value, str):
        return f"%{flags}s" % (value.encode().hex() if verb == "x" else value.encode().hex().upper())
    if verb in "feEgG" and isinstance(value, float):
        return f"%{flags}{verb}" % value
    return f"%!{verb}({_go_type(value)}={show(value)})"


def _go_type(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]string"}
    return names.get(type(value), "map[string]interface {}")


def _json(value: Any) -> str:
    return compact(_documents(value))


def _documents(value: Any) -> Any:
    if isinstance(value, Struct):
        return value.document
    if isinstance(value, Map):
        return {key: _documents(item) for key, item in value.items()}
    return [_documents(item) for item in value] if isinstance(value, list) else value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal,
    "ge": lambda first, second: not _less(first, second),
    "gt": lambda first, second: not _less(first, second) and first != second,
    "index": _index,
    "join": _join,
    "json": _json,
    "le": lambda first, second: _less(first, second) or first == second,
    "len": _length,
    "lower": lambda text: _text(text, "lower").lower(),
    "lt": _less,
    "ne": lambda first, second: not _equal(first, second),
    "not": lambda value: not true(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": lambda text: _text(text, "upper").upper(),
}
"""`and` and `or` are missing: they do not look at values they do not need, so `template.py` has them."""
