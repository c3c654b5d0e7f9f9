"""The contract as Varlink interface descriptions.

Rules of the translation: a Struct becomes a type of its own name; a parameter that may be left out of a
request is nullable (`?`), in replies only what can be null is; `Any` and maps to `Any` are `object`, and so
are containers in containers where one pair of brackets is not enough (other parsers stop there).
Docstrings of Structs and fields become comments: they are read from the source, because they do not
exist at run time; without the source the comments are missing and nothing else.

`python -m supervisor.rpc.idl DOCS` writes a file for each interface below DOCS/interfaces, and the table of
errors in DOCS/protocol.md (see scripts/idl).
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pyman import errors
from pyman.api import INTERFACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyman.api import Interface, Method

__all__ = ["ERRORS_INTERFACE", "descriptions", "errors_interface", "errors_table", "interface_text", "write"]

ERRORS_INTERFACE = errors.INTERFACE
ERRORS_BEGIN = "<!-- errors: written by scripts/idl -->"
ERRORS_END = "<!-- end of errors -->"
_COMMENT_WIDTH = 100
_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
_SERVICE_ERRORS = {
    "InterfaceNotFound": "interface: string",
    "MethodNotFound": "method: string",
    "MethodNotImplemented": "method: string",
    "InvalidParameter": "parameter: string",
    "PermissionDenied": "",
    "ExpectedMore": "",
}


def descriptions(interfaces: Sequence[Interface]) -> dict[str, str]:
    """Interface name to its description, the errors' interface included. Reads source files."""
    texts = {ERRORS_INTERFACE: errors_interface()}
    for interface in interfaces:
        texts[interface.name] = interface_text(interface)
    return texts


def errors_interface() -> str:
    """`io.pyman`: the errors that every method may answer with."""
    lines = [*_comment("The errors of every interface: what failed, on what, and what to do about it.")]
    lines += [f"interface {ERRORS_INTERFACE}"]
    for code in sorted(errors.ERRORS):
        lines += ["", *_comment(_error_docs().get(code, ""))]
        lines += [f"error {code} (subject: string, message: string, hint: string)"]
    return _joined(lines)


def interface_text(interface: Interface) -> str:
    """The description of one interface of the contract."""
    types = _Types(interface)
    lines = [*_comment(_plain(interface.doc)), f"interface {interface.name}"]
    for kind in types.ordered:
        lines += ["", *_comment(_class_doc(kind))]
        lines += _with_body(f"type {types.name(kind)} ", types.body(kind))
    for method in interface.methods:
        lines += ["", *_comment(_method_doc(method))]
        request, reply = types.body(method.request), types.body(method.reply)
        opened = _with_body(f"method {method.name}", request)
        lines += [*opened[:-1], *_with_body(f"{opened[-1]} -> ", reply)]
    if interface.name == "org.varlink.service":
        for name, parameters in _SERVICE_ERRORS.items():
            lines += ["", f"error {name} ({parameters})"]
    return _joined(lines)


def write(directory: Path) -> None:
    """Write NAME.varlink for each interface, and remove those that are no more."""
    from supervisor.rpc.service import INTERFACE as SERVICE

    directory.mkdir(parents=True, exist_ok=True)
    texts = descriptions((SERVICE, *INTERFACES))
    for stale in directory.glob("*.varlink"):
        if stale.stem not in texts:
            stale.unlink()
    for name, text in texts.items():
        (directory / f"{name}.varlink").write_text(text)


def errors_table() -> str:
    """The errors as a table for docs/protocol.md."""
    lines = ["| error | fault | exit status | what it means |", "|---|---|---|---|"]
    for code, error in sorted(errors.ERRORS.items()):
        text = _error_docs().get(code, "")
        lines.append(f"| `{code}` | {error.fault} | {error.exit_status} | {text} |")
    return _joined(lines)


def write_errors(page: Path) -> None:
    """Put the present table between the marks in docs/protocol.md."""
    before, mark, rest = page.read_text().partition(ERRORS_BEGIN)
    _, end, after = rest.partition(ERRORS_END)
    page.write_text(f"{before}{mark}\n{errors_table()}{end}{after}")


class _Types:
    """The Structs below the methods of an interface, and how each is written."""

    def __init__(self, interface: Interface) -> None:
        self.ordered: list[type] = []
        self._names: dict[type, str] = {}
        self._taken = {method.name for method in interface.methods}
        self._of_requests: set[type] = set()
        for method in interface.methods:
            self._of_requests.update(_structs(msgspec.inspect.type_info(method.request)))
        for method in interface.methods:
            for top in (method.request, method.reply):
                for kind in _structs(msgspec.inspect.type_info(top)):
                    if kind is not top and kind not in self._names:
                        self._add(kind)

    def _add(self, kind: type) -> None:
        name = kind.__name__
        # Types and methods share their names' space.
        while name in self._taken:
            name += "Type"
        self._taken.add(name)
        self._names[kind] = name
        self.ordered.append(kind)

    def name(self, kind: type) -> str:
        return self._names[kind]

    def body(self, kind: type[msgspec.Struct]) -> list[str]:
        """The fields, each perhaps after its comment, without the parentheses."""
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - the contract holds Structs only
        docs = _field_docs(kind)
        lines: list[str] = []
        for number, field in enumerate(info.fields, 1):
            if not _NAME.fullmatch(field.encode_name):
                raise ValueError(f"{kind.__name__}.{field.encode_name} is no Varlink field name")
            text = self._type(field.type)
            may_be_absent = kind in self._of_requests or kind.__struct_config__.omit_defaults
            if not field.required and may_be_absent and not text.startswith("?"):
                text = f"?{text}"
            doc = "\n\n".join(part for part in (docs.get(field.name, ""), _shape(field.type)) if part)
            comma = "," if number < len(info.fields) else ""
            lines += [*_comment(doc), f"{field.encode_name}: {text}{comma}"]
        return lines

    def _item(self, kind: msgspec.inspect.Type) -> str:
        """What stands behind `[]` or `[string]`: systemd's parser takes no second pair of brackets there."""
        return "object" if isinstance(kind, msgspec.inspect.DictType) else self._type(kind)

    def _type(self, kind: msgspec.inspect.Type) -> str:
        match kind:
            case msgspec.inspect.StructType(cls=cls):
                return self._names[cls]
            case msgspec.inspect.DictType(value_type=msgspec.inspect.AnyType()) | msgspec.inspect.AnyType():
                return "object"
            case msgspec.inspect.DictType(value_type=msgspec.inspect.ListType()):
                return "object"
            case msgspec.inspect.DictType(value_type=inner):
                return f"[string]{self._item(inner)}"
            case msgspec.inspect.ListType(item_type=inner):
                return f"[]{self._item(inner)}"
            case msgspec.inspect.UnionType(types=types):
                some = [each for each in types if not isinstance(each, msgspec.inspect.NoneType)]
                if len(some) == 1 and len(types) == 2:
                    return f"?{self._type(some[0])}"
            case msgspec.inspect.BoolType():
                return "bool"
            case msgspec.inspect.IntType():
                return "int"
            case msgspec.inspect.FloatType():
                return "float"
            case msgspec.inspect.StrType():
                return "string"
            case _:
                pass
        raise ValueError(f"Varlink has no type for {kind!r}")


def _shape(kind: msgspec.inspect.Type) -> str:
    """Words for what the type of a field cannot say."""
    match kind:
        case msgspec.inspect.DictType(value_type=msgspec.inspect.ListType(item_type=inner)):
            items = "objects" if isinstance(inner, msgspec.inspect.DictType) else "strings"
            return f"Each member is an array of {items}."
        case _:
            return ""


def _structs(kind: msgspec.inspect.Type) -> Iterator[type]:
    """Every Struct in a type, those that others need first, itself last."""
    match kind:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            for field in fields:
                yield from _structs(field.type)
            yield cls
        case msgspec.inspect.ListType(item_type=inner) | msgspec.inspect.DictType(value_type=inner):
            yield from _structs(inner)
        case msgspec.inspect.UnionType(types=types):
            for each in types:
                yield from _structs(each)
        case _:
            pass


def _method_doc(method: Method) -> str:
    notes = [f"Access: {method.access.value}."]
    if method.streaming:
        notes.append("Answers with a stream: call it with `more`.")
    if method.descriptors_in:
        notes.append(f"Takes up to {method.descriptors_in} descriptors.")
    if method.descriptors_out:
        notes.append("Replies may bring descriptors.")
    parts = [method.doc, " ".join(notes), _class_doc(method.request), _class_doc(method.reply)]
    return "\n\n".join(part for part in parts if part)


def _plain(doc: str) -> str:
    """Paragraphs of a docstring, the lines of each joined."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(doc))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _comment(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n") if text else ():
        lines += [f"# {line}" for line in textwrap.wrap(paragraph, _COMMENT_WIDTH)]
    return lines


def _with_body(head: str, fields: list[str]) -> list[str]:
    if not fields:
        return [f"{head}()"]
    return [f"{head}(", *(f"  {line}" for line in fields), ")"]


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


@functools.cache
def _source(module: str) -> dict[str, ast.ClassDef]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError):
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _class_doc(kind: type[Any]) -> str:
    node = _source(kind.__module__).get(kind.__name__)
    if kind.__module__ == "pyman.api.method":
        return ""
    return _plain(ast.get_docstring(node) or "") if node else ""


def _field_docs(kind: type[Any]) -> dict[str, str]:
    node = _source(kind.__module__).get(kind.__name__)
    docs: dict[str, str] = {}
    field = ""
    for statement in node.body if node else ():
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                field = name
            case ast.Expr(value=ast.Constant(value=str(text))) if field:
                docs[field] = _plain(text)
            case _:
                field = ""
    return docs


@functools.cache
def _error_docs() -> dict[str, str]:
    """What the tree at the top of pyman/errors.py says of each."""
    found = re.findall(r"^ {6,}(\w+) {2,}(\S.*)$", errors.__doc__ or "", re.MULTILINE)
    return {code: text[:1].upper() + text[1:] + "." for code, text in found}


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "interfaces")
    write_errors(Path(sys.argv[1]) / "protocol.md")
