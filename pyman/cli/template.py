"""Go templates for `--format`: `Template(text).render(data)`.

Data is what JSON brings: dicts, lists, strings, numbers, booleans, None. A callable in a dict is a method:
it is called with the arguments that follow it, so that costly or parametrised fields cost nothing unused.
A field is found by its exact name, else regardless of case (Podman's Go names and its JSON names differ in
case only). The grammar is in `template_parse.py`, functions and printing in `template_functions.py`.
"""

from __future__ import annotations

from pyman.cli.template_functions import FUNCTIONS, MAPS, NO_VALUE, Map, Unfit, show, true
from pyman.cli.template_parse import complaint, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.template_parse import Command, Node, Operand, Pipeline

__all__ = ["Template"]

_LAZY = ("and", "or")
_FUNCTIONS = frozenset((*FUNCTIONS, *_LAZY))


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A template that was read. InvalidArgument says what is wrong with it, and where."""

    def __init__(self, text: str, *, table: bool = False) -> None:
        self.text = text
        self._tree = parse(text, _FUNCTIONS, table=table)
        self._out: list[str] = []
        self._scopes: list[dict[str, Any]] = []

    def render(self, data: Any) -> str:
        """The text for one value, which `.` and `$` stand for at the beginning."""
        self._out = []
        self._scopes = [{"$": data}]
        self._walk(self._tree, data)
        return "".join(self._out)

    # -- nodes ----------------------------------------------------------------------------------

    def _walk(self, nodes: list[Node], dot: Any) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                self._out.append(node[1])
            elif kind == "action":
                value = self._pipeline(node[1], dot)
                if not node[1].variables:
                    self._out.append(show(value))
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self._scopes.append({})
                if kind == "range":
                    self._range(node, dot)
                else:
                    value = self._pipeline(node[1], dot)
                    chosen, inner = (
                        (node[2], value if kind == "with" else dot) if true(value) else (node[3], dot)
                    )
                    self._scoped(chosen, inner)
                self._scopes.pop()

    def _scoped(self, nodes: list[Node], dot: Any) -> None:
        depth = len(self._scopes)
        self._scopes.append({})
        try:
            self._walk(nodes, dot)
        finally:
            del self._scopes[depth:]

    def _range(self, node: Node, dot: Any) -> None:
        pipeline: Pipeline = node[1]
        names = pipeline.variables
        pipeline.variables = []
        try:
            value = self._pipeline(pipeline, dot)
        finally:
            pipeline.variables = names
        pairs = self._pairs(value, node[-1])
        if not pairs:
            self._scoped(node[3], dot)
            return
        for key, item in pairs:
            for name, bound in zip(names, (key, item)[2 - len(names) :], strict=True):
                self._bind(name, bound, pipeline.declare)
            try:
                self._scoped(node[2], item)
            except _Break:
                break
            except _Continue:
                continue

    def _pairs(self, value: Any, position: int) -> list[tuple[Any, Any]]:
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value) if not callable(value[key])]
        if isinstance(value, list):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        if value is None or value is NO_VALUE:
            return []
        raise complaint(self.text, position, f"range cannot go through {show(value)}")

    # -- values ---------------------------------------------------------------------------------

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value: Any = None
        for index, command in enumerate(pipeline.commands):
            value = self._command(command, dot, [value] if index else [])
        for name in pipeline.variables:
            self._bind(name, value, pipeline.declare)
        return value

    def _bind(self, name: str, value: Any, declare: bool) -> None:
        if not declare:
            for scope in reversed(self._scopes):
                if name in scope:
                    scope[name] = value
                    return
        self._scopes[-1][name] = value

    def _command(self, command: Command, dot: Any, piped: list[Any]) -> Any:
        first, rest = command[0], command[1:]
        if first.kind == "function":
            return self._follow(self._call(first, rest, dot, piped), first, first.chain, [])
        if first.kind in ("dot", "variable") and first.chain:
            arguments = [self._operand(operand, dot) for operand in rest] + piped
            return self._follow(self._base(first, dot), first, first.chain, arguments)
        if rest or piped:
            raise complaint(
                self.text, (rest or command)[0].position, "only functions and methods take arguments"
            )
        return self._operand(first, dot)

    def _call(self, name: Operand, operands: list[Operand], dot: Any, piped: list[Any]) -> Any:
        if name.value in _LAZY:
            return self._and_or(name, operands, dot, piped)
        function = FUNCTIONS[name.value]
        arguments = [self._operand(operand, dot) for operand in operands] + piped
        try:
            return function(*arguments)
        except TypeError:
            raise complaint(
                self.text,
                name.position,
                f"{name.value} does not take {len(arguments)} arguments of this kind",
            ) from None
        except Unfit as problem:
            raise complaint(self.text, name.position, str(problem)) from None

    def _and_or(self, name: Operand, operands: list[Operand], dot: Any, piped: list[Any]) -> Any:
        if not operands and not piped:
            raise complaint(self.text, name.position, f"{name.value} needs a value")
        value: Any = None
        for operand in operands:
            value = self._operand(operand, dot)
            if true(value) == (name.value == "or"):
                return value
        return piped[0] if piped else value

    def _operand(self, operand: Operand, dot: Any) -> Any:
        return self._follow(self._base(operand, dot), operand, operand.chain, [])

    def _base(self, operand: Operand, dot: Any) -> Any:
        kind = operand.kind
        if kind == "dot":
            return dot
        if kind == "literal":
            return operand.value
        if kind == "pipeline":
            return self._pipeline(operand.value, dot)
        if kind == "variable":
            return next(scope[operand.value] for scope in reversed(self._scopes) if operand.value in scope)
        return self._call(operand, [], dot, [])

    def _follow(self, value: Any, operand: Operand, chain: list[str], arguments: list[Any]) -> Any:
        """The field at the end of the chain; the arguments are for the last of them."""
        for index, name in enumerate(chain):
            value = self._field(value, name, operand.position)
            last = index == len(chain) - 1
            if callable(value):
                try:
                    value = value(*(arguments if last else ()))
                except TypeError:
                    raise complaint(
                        self.text, operand.position, f"the method .{name} takes other arguments"
                    ) from None
            elif last and arguments:
                raise complaint(self.text, operand.position, f"the field .{name} takes no arguments")
        return value

    def _field(self, value: Any, name: str, position: int) -> Any:
        if isinstance(value, dict):
            found = name if name in value else _other_case(value, name)
            if found:
                item = value[found]
                return Map(item) if found in MAPS and isinstance(item, dict) else item
            if isinstance(value, Map):
                return NO_VALUE
            there = " ".join(f".{key}" for key in sorted(value)) or "none"
            raise complaint(self.text, position, f"there is no field .{name}; the fields are {there}")
        if value is NO_VALUE:
            return NO_VALUE
        kind = "a list" if isinstance(value, list) else "nothing" if value is None else "a plain value"
        raise complaint(self.text, position, f"there is no field .{name}: it is asked of {kind}")


def _other_case(fields: dict[str, Any], name: str) -> str:
    if isinstance(fields, Map):
        return ""
    lower = name.lower()
    return next((key for key in fields if key.lower() == lower), "")
