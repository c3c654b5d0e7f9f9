"""From the JSON parameters of a call to the request Struct of its row.

Decoding is strict: a wrong type, a missing parameter and a name that the contract does not know are
each answered with `org.varlink.service.InvalidParameter`, which names the parameter by its path. A
parameter that may be left out may also be null (that is what `?` means in Varlink) and takes its default.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from pyman.errors import ProtocolError

__all__ = ["BadParameter", "Parameters"]

_decoder = msgspec.json.Decoder(dict[str, Any])
_PLACE = re.compile(r"(?P<reason>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`$")


class BadParameter(Exception):
    """`parameter` is the path of the parameter (`spec.labels`), `reason` a phrase for people."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


class _Shape:
    """Where names are found in a value: `fields` of an object, `items` of an array or map."""

    def __init__(self) -> None:
        self.fields: dict[str, _Shape | None] | None = None
        self.droppable: frozenset[str] = frozenset()
        self.items: _Shape | None = None


class Parameters:
    """The decoder of one request type."""

    def __init__(self, request: type[msgspec.Struct]) -> None:
        self._request = request
        self._shape = _shape_of(msgspec.inspect.type_info(request), {}) or _Shape()

    def decode(self, raw: msgspec.Raw) -> msgspec.Struct:
        """Raises BadParameter; ProtocolError where it is not JSON or not an object."""
        content = bytes(raw)
        try:
            values = {} if content in (b"{}", b"null") else _decoder.decode(content)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"cannot understand the parameters: {error}") from error
        if values:
            _check_names(values, self._shape, "")
        try:
            return msgspec.convert(values, self._request)
        except msgspec.ValidationError as error:
            raise _located(str(error)) from error


def _shape_of(kind: msgspec.inspect.Type, known: dict[type, _Shape]) -> _Shape | None:
    """The shape of a type; none where it can hold no names of ours."""
    match kind:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            if cls in known:
                return known[cls]
            shape = known[cls] = _Shape()
            shape.fields = {field.encode_name: _shape_of(field.type, known) for field in fields}
            shape.droppable = frozenset(
                field.encode_name for field in fields if not field.required and not _admits_null(field.type)
            )
            return shape
        case msgspec.inspect.ListType(item_type=inner) | msgspec.inspect.DictType(value_type=inner):
            items = _shape_of(inner, known)
            if items is None:
                return None
            shape = _Shape()
            shape.items = items
            return shape
        case msgspec.inspect.UnionType(types=types):
            shapes = [found for found in (_shape_of(each, known) for each in types) if found]
            return shapes[0] if shapes else None
        case _:
            return None


def _admits_null(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.NoneType() | msgspec.inspect.AnyType():
            return True
        case msgspec.inspect.UnionType(types=types):
            return any(_admits_null(each) for each in types)
        case _:
            return False


def _check_names(value: Any, shape: _Shape, path: str) -> None:
    """Refuse unknown names, and take out nulls that stand for a default."""
    if shape.fields is not None:
        if isinstance(value, dict):
            _check_object(value, shape.fields, shape.droppable, path)
    elif shape.items is not None:
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, each in inner:
            _check_names(each, shape.items, f"{path}[{key}]")


def _check_object(
    value: dict[str, Any], fields: dict[str, _Shape | None], droppable: frozenset[str], path: str
) -> None:
    nulls = []
    for name, each in value.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            raise BadParameter(
                _join(path, name), "unknown name" + (f", did you mean {near[0]}?" if near else "")
            )
        if each is None:
            if name in droppable:
                nulls.append(name)
        elif (inner := fields[name]) is not None:
            _check_names(each, inner, _join(path, name))
    for name in nulls:
        del value[name]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _located(message: str) -> BadParameter:
    """msgspec says the place at the end of its message."""
    found = _PLACE.match(message)
    reason, path = (found["reason"], found["path"] or "") if found else (message, "")
    if missing := _MISSING.match(reason):
        return BadParameter(_join(path, missing["name"]), "required")
    return BadParameter(path or "parameters", reason[:1].lower() + reason[1:])
