"""Reading Go templates: text to a tree. `template.py` carries the tree out.

A tree is a list of nodes, a node a tuple that begins with its kind and ends with its position in the text:

    ("text", str)                          ("action", Pipeline)
    ("if" | "with" | "range", Pipeline, body, otherwise)
    ("break",) ("continue",)

Left out of Go's language: `define`, `template`, `block` and complex numbers. Every mistake is an
InvalidArgument that says where it is: line and column, counted from 1.
"""

from __future__ import annotations

from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["Command", "Operand", "Pipeline", "complaint", "parse"]

Node = tuple["Any", ...]

_SPACE = " \t\r\n"
_KEYWORDS = frozenset(("if", "else", "end", "range", "with", "break", "continue"))
_REFUSED = frozenset(("define", "template", "block"))
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}


class Operand:
    """One word of a command: kind is dot, variable, literal, function or pipeline; `chain` the fields after it."""

    __slots__ = ("chain", "kind", "position", "value")

    def __init__(self, kind: str, value: Any, chain: list[str], position: int) -> None:
        self.kind, self.value, self.chain, self.position = kind, value, chain, position


Command = list[Operand]


class Pipeline:
    """Commands joined by `|`, and the variables that take the result; `declare` is False for `=`."""

    __slots__ = ("commands", "declare", "position", "variables")

    def __init__(self, variables: list[str], declare: bool, commands: list[Command], position: int) -> None:
        self.variables, self.declare, self.commands, self.position = variables, declare, commands, position


def complaint(text: str, position: int, problem: str) -> InvalidArgument:
    """The one form of a template's error."""
    before = text[:position]
    line = before.count("\n") + 1
    column = position - (before.rfind("\n") + 1) + 1
    return InvalidArgument(f"cannot use the template: {line}:{column}: {problem}")


def parse(text: str, functions: Collection[str], *, table: bool = False) -> list[Node]:
    """The tree of a template. Outside actions a written newline or tab escape is one; in a `table`
    template, blanks separate columns."""
    return _Parser(text, _segments(text, table), functions).document()


# -- text and actions ---------------------------------------------------------------------------


def _segments(text: str, table: bool) -> list[tuple[str, Any, int]]:
    """("text", str, position) and ("action", tokens, position), white space trimmed as `{{-` and `-}}` say."""
    found: list[tuple[str, Any, int]] = []
    index, trim = 0, False
    while True:
        start = text.find("{{", index)
        piece = text[index : start if start >= 0 else len(text)]
        if trim:
            piece = piece.lstrip(_SPACE)
        trim_left = (
            start >= 0 and text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4] in tuple(_SPACE)
        )
        if trim_left:
            piece = piece.rstrip(_SPACE)
        if piece:
            found.append(("text", _unescape(piece, table), index))
        if start < 0:
            return found
        inside = start + (3 if trim_left else 2)
        if text[inside:].lstrip(_SPACE).startswith("/*"):
            index, trim = _comment(text, start, inside)
            continue
        tokens, index, trim = _tokens(text, start, inside)
        found.append(("action", tokens, start))


def _unescape(piece: str, table: bool) -> str:
    piece = piece.replace("\\n", "\n").replace("\\t", "\t")
    if table and " " in piece:
        words = piece.split(" ")
        piece = words[0] + "".join("\t" + word if word or last else "" for word, last in _last(words[1:]))
    return piece


def _last(words: list[str]) -> list[tuple[str, bool]]:
    return [(word, index == len(words) - 1) for index, word in enumerate(words)]


def _comment(text: str, start: int, inside: int) -> tuple[int, bool]:
    end = text.find("*/", inside)
    rest = text[end + 2 :]
    if end >= 0 and rest.startswith("}}"):
        return end + 4, False
    trimmed = rest.lstrip(_SPACE)
    if end >= 0 and len(trimmed) < len(rest) and trimmed.startswith("-}}"):
        return end + 2 + (len(rest) - len(trimmed)) + 3, True
    raise complaint(text, start, "the comment does not end")


# -- tokens -------------------------------------------------------------------------------------

# A token is (kind, value, position, touches): touches says that nothing stands between it and the one before.
Token = tuple[str, "Any", int, bool]


def _tokens(text: str, start: int, index: int) -> tuple[list[Token], int, bool]:
    """The tokens up to `}}`, the index after it, and whether it trims what follows."""
    tokens: list[Token] = []
    touches = False
    while index < len(text):
        letter = text[index]
        if letter in _SPACE:
            index += 1
            touches = False
            if text.startswith("-}}", index):
                return tokens, index + 3, True
            continue
        if text.startswith("}}", index):
            return tokens, index + 2, False
        kind, value, end = _token(text, index)
        tokens.append((kind, value, index, touches))
        index, touches = end, True
    raise complaint(text, start, "the action does not end with }}")


def _token(text: str, index: int) -> tuple[str, Any, int]:
    letter = text[index]
    if text.startswith(":=", index):
        return ":=", "", index + 2
    if letter in "|(),=":
        return letter, "", index + 1
    if letter in "\"`'":
        return _quoted(text, index)
    if letter == ".":
        end = _word_end(text, index + 1)
        if end > index + 1 and not text[index + 1].isdecimal():
            return "field", text[index + 1 : end], end
        if end == index + 1:
            return "dot", "", end
    if letter == "$":
        end = _word_end(text, index + 1)
        return "variable", text[index:end], end
    if letter.isdecimal() or letter in "+-.":
        return _number(text, index)
    end = _word_end(text, index)
    if end > index:
        return "word", text[index:end], end
    raise complaint(text, index, f"the character {letter!r} means nothing here")


def _word_end(text: str, index: int) -> int:
    while index < len(text) and (text[index].isalnum() or text[index] == "_"):
        index += 1
    return index


def _number(text: str, index: int) -> tuple[str, Any, int]:
    end = index + 1
    while end < len(text) and (
        text[end].isalnum() or text[end] in "._" or (text[end] in "+-" and text[end - 1] in "eE")
    ):
        end += 1
    word = text[index:end]
    try:
        return "literal", int(word, 0), end
    except ValueError:
        pass
    try:
        return "literal", float(word), end
    except ValueError:
        raise complaint(text, index, f"{word} is not a number") from None


def _quoted(text: str, index: int) -> tuple[str, Any, int]:
    quote = text[index]
    if quote == "`":
        end = text.find("`", index + 1)
        if end < 0:
            raise complaint(text, index, "the string does not end")
        return "literal", text[index + 1 : end], end + 1
    value, end = "", index + 1
    while end < len(text) and text[end] not in (quote, "\n"):
        letter = text[end]
        end += 1
        if letter != "\\":
            value += letter
            continue
        letter = text[end : end + 1]
        digits = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        try:
            value += chr(int(text[end + 1 : end + 1 + digits], 16)) if digits else _ESCAPES[letter]
        except (KeyError, ValueError, OverflowError):
            raise complaint(text, end - 1, f"the escape \\{letter} is not known") from None
        end += 1 + digits
    if end >= len(text) or text[end] != quote:
        raise complaint(text, index, "the string does not end")
    if quote == "'":
        if len(value) != 1:
            raise complaint(text, index, "a character constant has one character")
        return "literal", ord(value), end + 1
    return "literal", value, end + 1


# -- the tree -----------------------------------------------------------------------------------


class _Parser:
    def __init__(self, text: str, segments: list[tuple[str, Any, int]], functions: Collection[str]) -> None:
        self.text = text
        self.segments = segments
        self.functions = functions
        self.next = 0
        self.loops = 0
        self.scopes: list[set[str]] = [{"$"}]

    def document(self) -> list[Node]:
        body, end = self._body()
        if end is not None:
            raise complaint(self.text, end[1], f"{{{{{end[0]}}}}} without a beginning")
        return body

    def _body(self) -> tuple[list[Node], tuple[str, int, list[Token]] | None]:
        """Nodes up to `else`, `end` or the end of the text; and which of them it was."""
        nodes: list[Node] = []
        while self.next < len(self.segments):
            kind, value, position = self.segments[self.next]
            self.next += 1
            if kind == "text":
                nodes.append(("text", value, position))
                continue
            word = value[0][1] if value and value[0][0] == "word" else ""
            if word in ("else", "end"):
                return nodes, (word, position, value[1:])
            nodes.append(self._node(word, value, position))
        return nodes, None

    def _node(self, word: str, tokens: list[Token], position: int) -> Node:
        if word in _REFUSED:
            raise complaint(self.text, position, f"{word} is not supported")
        if word in ("break", "continue"):
            if not self.loops or len(tokens) > 1:
                raise complaint(self.text, position, f"{word} stands alone inside a range")
            return (word, position)
        if word in ("if", "with", "range"):
            return self._control(word, tokens[1:], position)
        return ("action", _Line(self, tokens, position).pipeline("action"), position)

    def _control(self, word: str, tokens: list[Token], position: int) -> Node:
        self.scopes.append(set())
        pipeline = _Line(self, tokens, position).pipeline(word)
        self.loops += word == "range"
        body, end = self._inner()
        self.loops -= word == "range"
        otherwise: list[Node] = []
        if end is not None and end[0] == "else":
            rest = end[2]
            if rest and rest[0][0] == "word" and rest[0][1] == word != "range":
                otherwise = [self._control(word, rest[1:], end[1])]
                self.scopes.pop()
                return (word, pipeline, body, otherwise, position)
            if rest:
                raise complaint(self.text, rest[0][2], "nothing may follow else here")
            otherwise, end = self._inner()
        self.scopes.pop()
        if end is None or end[0] != "end":
            raise complaint(self.text, position, f"{word} has no end")
        if end[2]:
            raise complaint(self.text, end[2][0][2], "nothing may follow end")
        return (word, pipeline, body, otherwise, position)

    def _inner(self) -> tuple[list[Node], tuple[str, int, list[Token]] | None]:
        self.scopes.append(set())
        result = self._body()
        self.scopes.pop()
        return result


class _Line:
    """The tokens of one action."""

    def __init__(self, parser: _Parser, tokens: list[Token], position: int) -> None:
        self.parser, self.tokens, self.position = parser, tokens, position
        self.index = 0

    def pipeline(self, word: str) -> Pipeline:
        variables, declare = self._variables(word)
        result = self._pipeline()
        if self.index < len(self.tokens):
            kind, value, position, _ = self.tokens[self.index]
            raise complaint(self.parser.text, position, f"{value or kind} is not expected here")
        result.variables, result.declare = variables, declare
        if declare:
            self.parser.scopes[-1].update(variables)
        return result

    def _variables(self, word: str) -> tuple[list[str], bool]:
        kinds = [token[0] for token in self.tokens[:4]]
        if kinds[:1] == ["variable"] and kinds[1:2] in ([":="], ["="]):
            count = 1
        elif word == "range" and kinds[:3] == ["variable", ",", "variable"] and kinds[3:4] in ([":="], ["="]):
            count = 2
        else:
            return [], False
        self.index = 2 * count
        names = [self.tokens[number][1] for number in range(0, 2 * count, 2)]
        declare = self.tokens[self.index - 1][0] == ":="
        if not declare:
            for number, name in enumerate(names):
                self._known(name, self.tokens[2 * number][2])
        return names, declare

    def _known(self, name: str, position: int) -> None:
        if not any(name in scope for scope in self.parser.scopes):
            raise complaint(self.parser.text, position, f"there is no variable {name}")

    def _pipeline(self) -> Pipeline:
        commands: list[Command] = []
        while True:
            command: Command = []
            while (operand := self._operand()) is not None:
                command.append(operand)
            if not command:
                position = self.tokens[self.index][2] if self.index < len(self.tokens) else self.position
                raise complaint(self.parser.text, position, "a value is missing")
            commands.append(command)
            if self.index >= len(self.tokens) or self.tokens[self.index][0] != "|":
                return Pipeline([], False, commands, self.position)
            self.index += 1

    def _operand(self) -> Operand | None:
        if self.index >= len(self.tokens):
            return None
        kind, value, position, touches = self.tokens[self.index]
        if kind in ("|", ")", ",", "=", ":="):
            return None
        if touches and self.index and self.tokens[self.index - 1][0] not in ("|", "(", ",", "=", ":="):
            raise complaint(self.parser.text, position, "a blank is missing before this")
        self.index += 1
        chain: list[str] = []
        if kind == "(":
            value, kind = self._pipeline(), "pipeline"
            if self.index >= len(self.tokens) or self.tokens[self.index][0] != ")":
                raise complaint(self.parser.text, position, "the parenthesis is not closed")
            self.index += 1
        elif kind == "field":
            kind, chain = "dot", [value]
        elif kind == "variable":
            self._known(value, position)
        elif kind == "word":
            kind, value = self._word(value, position)
        while self.index < len(self.tokens):
            next_kind, name, _, close = self.tokens[self.index]
            if next_kind != "field" or not close:
                break
            chain.append(name)
            self.index += 1
        return Operand(kind, value, chain, position)

    def _word(self, word: str, position: int) -> tuple[str, Any]:
        constants = {"true": True, "false": False, "nil": None}
        if word in constants:
            return "literal", constants[word]
        if word in _KEYWORDS:
            raise complaint(self.parser.text, position, f"{word} must stand first in its action")
        if word not in self.parser.functions:
            known = " ".join(sorted(self.parser.functions))
            raise complaint(self.parser.text, position, f"there is no function {word}; there are {known}")
        return "function", word
