"""`pyman history` and `pyman image tree`: of what an image was made, and who shares it."""

from __future__ import annotations

import time

from pyman.cli.human import ago
from pyman.cli.images import spaced_size
from pyman.cli.options import FLAG, TEXT, TRUE
from pyman.cli.table import columns, is_json, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HISTORY_OPTIONS", "TREE_OPTIONS", "drawn", "history", "tree"]

HISTORY_OPTIONS: tuple[Option, ...] = (
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("human", "H", TRUE, "", "Times in words"),
    ("no-trunc|notruncate", "", FLAG, "", "Show ids and commands in full"),
    ("quiet", "q", FLAG, "", "Show ids only"),
)
TREE_OPTIONS: tuple[Option, ...] = (("whatrequires", "", FLAG, "", "Show the images that are built on it"),)

_HEADERS = {
    "ID": "ID",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED SINCE",
    "Size": "SIZE",
    "Comment": "COMMENT",
    "Tags": "TAGS",
}
_COLUMNS = ("ID", "Created", "CreatedBy", "Size", "Comment")
_LONGEST = 45
"""Characters of a command in the table."""
MISSING = "<missing>"
Branch = tuple[str, "list[Branch]"]


def history(ctx: Context, args: Parsed) -> int:
    layers = ctx.call("Image.History", {"name": args.arguments[0]})["layers"]
    if is_json(args.format):
        from pyman.cli.jsontext import compact

        ctx.out(compact([_json(layer) for layer in layers]))
        return 0
    made = [_fields(layer, whole=args.no_trunc, human=args.human) for layer in layers]
    if args.quiet:
        for fields in made:
            ctx.out(fields["ID"])
    elif args.format:
        ctx.write(render(args.format, made, _HEADERS, listing=True))
    else:
        rows = [[_HEADERS[name] for name in _COLUMNS]]
        rows += [[fields[name] for name in _COLUMNS] for fields in made]
        ctx.out(columns(rows))
    return 0


def _fields(layer: dict[str, Any], *, whole: bool, human: bool) -> dict[str, Any]:
    identity, command = layer["id"] or MISSING, layer["created_by"]
    stamp = _whole_seconds(layer["created"])
    created = _since(layer["created"]) if human else stamp
    return {
        "ID": identity if whole else identity[:12],
        "Created": created,
        "CreatedAt": stamp,
        "CreatedBy": command if whole or len(command) <= _LONGEST else command[: _LONGEST - 3] + "...",
        "CreatedSince": created,
        "Size": spaced_size(layer["size"]),
        "Comment": layer["comment"],
        "Tags": layer["tags"],
    }


def _since(stamp: str) -> str:
    from pyman.stamps import NANO, parse_stamp

    point = parse_stamp(stamp)
    return "" if point is None else ago(time.time() - point / NANO)


def _whole_seconds(stamp: str) -> str:
    head, dot, tail = stamp.partition(".")
    return head + tail.lstrip("0123456789") if dot else stamp


def _json(layer: dict[str, Any]) -> dict[str, Any]:
    """Podman's keys: the time twice, in two forms; what is empty is left out."""
    made = {
        "id": layer["id"] or MISSING,
        "created": layer["created"],
        "CreatedBy": layer["created_by"],
        "size": layer["size"],
        "comment": layer["comment"],
        "tags": layer["tags"],
        "Created": _whole_seconds(layer["created"]),
    }
    return {key: item for key, item in made.items() if item not in ("", [])}


def tree(ctx: Context, args: Parsed) -> int:
    reply = ctx.call("Image.Tree", {"name": args.arguments[0], "whatrequires": args.whatrequires})
    layers = reply["layers"]
    ctx.out(f"Image ID: {reply['id'][:12]}")
    ctx.out(f"Tags:     [{' '.join(reply['names'])}]")
    ctx.out(f"Size:     {_size(reply['size'])}")
    ctx.out("Image Layers" if layers else "No Image Layers")
    for line in drawn(layers):
        ctx.out(line)
    return 0


def drawn(layers: list[dict[str, Any]]) -> list[str]:
    """The layers as a tree, the base first: a chain goes straight down, each branch of a fork moves in."""
    known = {layer["id"] for layer in layers}
    children: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        children.setdefault(layer["parent"] if layer["parent"] in known else "", []).append(layer)
    top: list[Branch] = []
    waiting = [("", top)]
    while waiting:
        parent, level = waiting.pop()
        below = children.get(parent, [])
        for layer in below:
            inner = level if len(below) == 1 else []
            level.append((_layer(layer), inner if inner is not level else []))
            waiting.append((layer["id"], inner))
    lines: list[str] = []
    _draw(top, "", lines)
    return lines


def _draw(level: list[Branch], margin: str, lines: list[str]) -> None:
    for index, (text, inner) in enumerate(level):
        last = index == len(level) - 1
        lines.append(f"{margin}{'└── ' if last else '├── '}{text}")
        _draw(inner, margin + ("    " if last else "│   "), lines)


def _layer(layer: dict[str, Any]) -> str:
    names = f" Top Layer of: [{' '.join(layer['top_of'])}]" if layer["top_of"] else ""
    return f"ID: {layer['id'][:12]} Size: {_size(layer['size']):>7}{names}"


def _size(count: float) -> str:
    """Four digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}PB"
