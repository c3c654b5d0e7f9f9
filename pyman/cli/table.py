"""Tables and `--format`: columns as Go's tabwriter sets them, and the three forms that a format has.

`json` prints JSON; `table TEMPLATE` a table with headers; any other template is carried out for each object
(or once for all of a listing, where it begins with `{{range`).
"""

from __future__ import annotations

from pyman.cli.context import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["columns", "is_json", "render"]

_NARROWEST = 12
_GAP = 2


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, each column as wide as its widest cell and a gap, 12 at least; the last cell is free.

    As with Go's tabwriter, a column ends where a line has no cell in it. What a terminal would not print is
    shown escaped.
    """
    lines = [[one_line(cell) for cell in cells] for cells in lines]
    if len({len(cells) for cells in lines}) == 1 and lines[0]:
        return _regular(lines)
    widths = [[0] * len(cells) for cells in lines]
    _measure(lines, widths, 0, len(lines), 0)
    text = []
    for cells, own in zip(lines, widths, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(cells[:-1], own, strict=False)]
        text.append("".join((*padded, cells[-1] if cells else "")))
    return "\n".join(text)


def _regular(lines: Sequence[Sequence[str]]) -> str:
    """The same where every line has all cells, as nearly always; there may be thousands."""
    padded = []
    *columns, last = zip(*lines, strict=True)
    for cells in columns:
        width = max(_NARROWEST, max(map(len, cells)) + _GAP)
        padded.append([cell.ljust(width) for cell in cells])
    return "\n".join(map("".join, zip(*padded, last, strict=True)))


def _measure(
    lines: Sequence[Sequence[str]], widths: list[list[int]], start: int, end: int, column: int
) -> None:
    index = start
    while index < end:
        if len(lines[index]) - 1 <= column:
            index += 1
            continue
        stop = index
        while stop < end and len(lines[stop]) - 1 > column:
            stop += 1
        width = max(_NARROWEST, max(len(lines[row][column]) for row in range(index, stop)) + _GAP)
        for row in range(index, stop):
            widths[row][column] = width
        _measure(lines, widths, index, stop, column + 1)
        index = stop


def is_json(text: str) -> bool:
    """Whether the format asks for plain JSON: `json`, or a template that says nothing else."""
    return text.replace(" ", "") in ("json", "{{json.}}", "{{json}}")


def render(
    text: str, rows: Iterable[Any], headers: Mapping[str, str] | None = None, *, listing: bool = False
) -> str:
    """What the template makes of the rows, each on lines of its own. Raises InvalidArgument."""
    from pyman.cli.template import Template

    rows = list(rows)
    if text.startswith("table ") or text == "table":
        template = Template(text[len("table") :].strip(), table=True)
        made = [template.render(headers)] if headers else []
        made += [template.render(row) for row in rows]
        lines = "\n".join(line.removesuffix("\n") for line in made).split("\n")
        return columns([line.split("\t") for line in lines]) + "\n" if made else ""
    template = Template(text)
    if listing and text.lstrip().startswith(("{{range", "{{ range", "{{- range")):
        return _line(template.render(rows))
    return "".join(_line(template.render(row)) for row in rows)


def _line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
