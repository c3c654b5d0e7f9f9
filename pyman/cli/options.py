"""The command line's parser: an option is a row of a table, a command line becomes a `Parsed`.

A row is `(names, short, kind, metavar, help)`. `names` are long names without dashes, separated by `|`:
the first is the option's own, the rest are aliases. `short` is one letter or empty. A row without help is
not shown. Kinds:

    FLAG     a boolean, false unless given; `--flag` and `--flag=false`
    TRUE     a boolean, true unless given as `--flag=false`
    TEXT     a string; not given: ""
    LIST     may be repeated; each value as it stands
    CSV      may be repeated; each value may name several, separated by commas (quotes protect them)
    INT      a whole number; not given: None
    COUNT    a whole number from 0 on; not given: None
    SECONDS  a duration: `1.5`, `500ms`, `1h30m`; not given: None
    REFUSED  what Podman has and this version does not; the help says why, and so does the NotSupported that it raises

Options may stand anywhere among the arguments unless `stop` is set (what follows the first argument then
belongs to it); `--` ends them. Nothing here prints or exits: a mistake is an InvalidArgument.
Tables are plain tuples, so that importing one costs nothing.
"""

from __future__ import annotations

from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = [
    "CHANGE",
    "COUNT",
    "CSV",
    "FLAG",
    "INSTRUCTIONS",
    "INT",
    "LIST",
    "REFUSED",
    "SECONDS",
    "TEXT",
    "TRUE",
    "Option",
    "Parsed",
    "parse",
    "split_csv",
]

FLAG, TRUE, TEXT, LIST, CSV = "flag", "true", "text", "list", "csv"
INT, COUNT, SECONDS, REFUSED = "int", "count", "seconds", "refused"

Option = tuple[str, str, str, str, str]

INSTRUCTIONS = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
"""What a change of an image's configuration may begin with."""
CHANGE: Option = (
    "change",
    "c",
    LIST,
    "INSTRUCTION",
    f"A line as in a Containerfile: {', '.join(INSTRUCTIONS)}",
)

_TRUE_WORDS = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE_WORDS = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_DEFAULTS: dict[str, Any] = {FLAG: False, TRUE: True, TEXT: "", INT: None, COUNT: None, SECONDS: None}


class Parsed:
    """The values by option name (dashes as underscores) as attributes, and the arguments in `arguments`."""

    __slots__ = ("arguments", "command", "named", "values")

    def __init__(self, command: str, values: dict[str, Any], named: set[str], arguments: list[str]) -> None:
        self.command = command
        """The verb as it is called in messages: `container rm`."""
        self.arguments = arguments
        self.values = values
        self.named = named

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"the command has no option {name!r}") from None

    def given(self, name: str) -> bool:
        """Whether the option stood on the command line, whatever its value."""
        return name.replace("-", "_") in self.named

    def has(self, name: str) -> bool:
        """Whether the command knows the option at all."""
        return name.replace("-", "_") in self.values


def parse(words: Sequence[str], table: Iterable[Option], *, command: str = "", stop: bool = False) -> Parsed:
    """Take options and arguments apart. Raises InvalidArgument."""
    long: dict[str, Option] = {}
    short: dict[str, Option] = {}
    values: dict[str, Any] = {}
    for row in table:
        names, letter, kind = row[0].split("|"), row[1], row[2]
        for name in names:
            long[name] = row
        if letter:
            short[letter] = row
        if kind == REFUSED:
            continue
        values[names[0].replace("-", "_")] = _DEFAULTS.get(kind, [])
    if "help" not in long:
        long["help"] = _HELP
        if "h" not in short:
            short["h"] = _HELP
        values["help"] = False
    parsed = Parsed(command, values, set(), [])
    index, end = 0, len(words)
    while index < end:
        word = words[index]
        index += 1
        if word == "--":
            parsed.arguments.extend(words[index:])
            break
        if word[:2] == "--":
            index = _long(parsed, long, word, words, index)
        elif word[:1] == "-" and len(word) > 1:
            index = _cluster(parsed, short, word, words, index)
        elif stop:
            parsed.arguments.extend(words[index - 1 :])
            break
        else:
            parsed.arguments.append(word)
    return parsed


_HELP: Option = ("help", "h", FLAG, "", "Show this help")


def _long(parsed: Parsed, table: dict[str, Option], word: str, words: Sequence[str], index: int) -> int:
    name, equals, value = word[2:].partition("=")
    row = table.get(name)
    if row is not None and row[2] == REFUSED:
        raise _refusal(f"--{name}", row)
    if row is None:
        raise InvalidArgument(
            f"unknown option --{name}", subject=f"--{name}", hint=_advice(parsed, name, table)
        )
    if equals:
        _store(parsed, row, f"--{name}", value)
    elif row[2] in (FLAG, TRUE):
        _store(parsed, row, f"--{name}", "true")
    elif index < len(words):
        _store(parsed, row, f"--{name}", words[index])
        index += 1
    else:
        raise _lacks_value(parsed, f"--{name}", row)
    return index


def _cluster(parsed: Parsed, table: dict[str, Option], word: str, words: Sequence[str], index: int) -> int:
    """`-it`, `-n5`, `-n=5`, `-n 5`: booleans may be followed by further letters, the rest is a value."""
    position = 1
    while position < len(word):
        letter = word[position]
        position += 1
        row = table.get(letter)
        if row is None:
            inside = f" in {word}" if len(word) > 2 else ""
            raise InvalidArgument(
                f"unknown option -{letter}{inside}", subject=f"-{letter}", hint=_see(parsed)
            )
        if row[2] == REFUSED:
            raise _refusal(f"-{letter}", row)
        if row[2] in (FLAG, TRUE):
            if word[position : position + 1] == "=":
                _store(parsed, row, f"-{letter}", word[position + 1 :])
                break
            _store(parsed, row, f"-{letter}", "true")
            continue
        if position < len(word):
            value = word[position:]
            _store(parsed, row, f"-{letter}", value[1:] if value[0] == "=" else value)
        elif index < len(words):
            _store(parsed, row, f"-{letter}", words[index])
            index += 1
        else:
            raise _lacks_value(parsed, f"-{letter}", row)
        break
    return index


def _refusal(option: str, row: Option) -> NotSupported:
    return NotSupported(f"cannot use {option}", subject=option, hint=row[4])


def _store(parsed: Parsed, row: Option, option: str, value: str) -> None:
    name, kind = row[0].split("|", 1)[0].replace("-", "_"), row[2]
    values = parsed.values
    parsed.named.add(name)
    if kind in (FLAG, TRUE):
        if value not in _TRUE_WORDS and value not in _FALSE_WORDS:
            raise _bad_value(option, value, "true or false")
        values[name] = value in _TRUE_WORDS
    elif kind == TEXT:
        values[name] = value
    elif kind == LIST:
        values[name].append(value)
    elif kind == CSV:
        values[name].extend(split_csv(value))
    elif kind == SECONDS:
        values[name] = _seconds(option, value)
    else:
        try:
            number = int(value, 10)
        except ValueError:
            raise _bad_value(option, value, "a whole number") from None
        if kind == COUNT and number < 0:
            raise _bad_value(option, value, "a whole number from 0 on")
        values[name] = number


def _seconds(option: str, value: str) -> float:
    from pyman.cli.values import duration

    number = duration(value)
    if number is None:
        raise _bad_value(option, value, "a number of seconds, or a duration such as 1m30s")
    return number


def split_csv(value: str) -> list[str]:
    """Values of one CSV option: `a,b` and `"a,b",c` (quotes doubled inside quotes)."""
    if '"' not in value:
        return value.split(",")
    items: list[str] = []
    item, quoted, index = "", False, 0
    while index < len(value):
        letter = value[index]
        index += 1
        if letter == '"':
            if quoted and value[index : index + 1] == '"':
                item += '"'
                index += 1
            else:
                quoted = not quoted
        elif letter == "," and not quoted:
            items.append(item)
            item = ""
        else:
            item += letter
    items.append(item)
    return items


def _see(parsed: Parsed) -> str:
    return f"see 'pyman {parsed.command} --help'" if parsed.command else "see 'pyman --help'"


def _advice(parsed: Parsed, name: str, table: Iterable[str]) -> str:
    close = similar(name, table)
    return f"did you mean --{close}?" if close else _see(parsed)


def similar(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    from difflib import get_close_matches  # costs milliseconds: only when somebody has mistyped

    close = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return close[0] if close else ""


def _lacks_value(parsed: Parsed, option: str, row: Option) -> InvalidArgument:
    metavar = row[3] or "VALUE"
    return InvalidArgument(f"option {option} needs a value ({metavar})", subject=option, hint=_see(parsed))


def _bad_value(option: str, value: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"option {option} cannot be '{value}'", subject=option, hint=f"it must be {expected}"
    )
