"""`pyman images`: images as a table, as ids, as JSON or by a template. An image has a line for each of its names."""

from __future__ import annotations

import time

from pyman.cli.human import ago, byte_size
from pyman.cli.options import FLAG, LIST, TEXT
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HEADERS", "IMAGES_OPTIONS", "images", "lines_of", "spaced_size", "split_name"]

IMAGES_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "Also the intermediate images of builds"),
    ("digests", "", FLAG, "", "Show the digests"),
    (
        "filter",
        "f",
        LIST,
        "KEY=VALUE",
        "Only images that fit: reference, label, dangling, before, since, until, containers, …",
    ),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("history", "", FLAG, "", "Show the names that they had before"),
    ("no-trunc|notruncate", "", FLAG, "", "Show ids in full"),
    ("noheading", "n", FLAG, "", "Leave the headers out"),
    ("quiet", "q", FLAG, "", "Show ids only"),
    ("sort", "", TEXT, "KEY", "created, id, repository, size or tag (default created)"),
)

HEADERS: dict[str, Any] = {
    "Arch": "ARCH",
    "Containers": "CONTAINERS",
    "Created": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedSince": "CREATED SINCE",
    "CreatedTime": "CREATED TIME",
    "Dangling": "DANGLING",
    "Digest": "DIGEST",
    "History": "HISTORY",
    "ID": "IMAGE ID",
    "IsManifestList": "IS MANIFEST LIST",
    "Labels": "LABELS",
    "Names": "NAMES",
    "Os": "OS",
    "ParentId": "PARENT ID",
    "ReadOnly": "R/O",
    "RepoDigests": "REPO DIGESTS",
    "RepoTags": "REPO TAGS",
    "Repository": "REPOSITORY",
    "SharedSize": "SHARED SIZE",
    "Size": "SIZE",
    "Tag": "TAG",
    "VirtualSize": "VIRTUAL SIZE",
}
NONE = "<none>"
Line = tuple[str, str, "dict[str, Any]"]
"""Repository, tag, and the image as the supervisor sends it."""

_SORTS: dict[str, Callable[[Line], Any]] = {
    "created": lambda line: -line[2]["created"],
    "id": lambda line: line[2]["id"],
    "repository": lambda line: line[:2],
    "size": lambda line: line[2]["size"],
    "tag": lambda line: line[1],
}


def images(ctx: Context, args: Parsed) -> int:
    if args.sort and args.sort not in _SORTS:
        raise InvalidArgument(
            f"option --sort cannot be '{args.sort}'", hint=f"it must be {', '.join(_SORTS)}"
        )
    if args.filter and args.arguments:
        raise InvalidArgument("cannot use --filter together with the name of an image")
    lines = _listed(ctx, args)
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([_json(*line) for line in lines]))
    elif args.quiet:
        for identity in dict.fromkeys(_id(image, whole=args.no_trunc) for _, _, image in lines):
            ctx.out(identity)
    elif args.format:
        made = [_fields(*line, whole=args.no_trunc) for line in lines]
        ctx.write(render(args.format, made, None if args.noheading else HEADERS, listing=True))
    else:
        _table(ctx, args, lines)
    return 0


def _listed(ctx: Context, args: Parsed) -> list[Line]:
    from pyman.cli.container import filters_of

    request = {"filters": filters_of(args.filter), "names": args.arguments, "all": args.all}
    lines = lines_of(ctx.call("Image.List", request)["images"])
    lines.sort(key=_SORTS[args.sort or "created"])
    return lines


def lines_of(found: list[dict[str, Any]]) -> list[Line]:
    """A line for each tag of an image, or one without."""
    lines: list[Line] = []
    for image in found:
        pairs = [split_name(name) for name in image["names"]]
        tagged = [pair for pair in pairs if pair[1] != NONE]
        for repository, tag in tagged or pairs[:1] or [(NONE, NONE)]:
            lines.append((repository, tag, image))
    return lines


def split_name(name: str) -> tuple[str, str]:
    """Repository and tag of `REPOSITORY[:TAG][@DIGEST]`."""
    name, _, _digest = name.partition("@")
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, NONE)


def _table(ctx: Context, args: Parsed, lines: list[Line]) -> None:
    names = ["Repository", "Tag", *["Digest"] * args.digests, "ID", "Created", "Size"]
    names += ["History"] * args.history
    names += ["ReadOnly"] * any(image["read_only"] for _, _, image in lines)
    rows = [] if args.noheading else [[HEADERS[name] for name in names]]
    now = time.time()
    for repository, tag, image in lines:
        cells = {
            "Repository": repository,
            "Tag": tag,
            "Digest": image["digest"],
            "ID": _id(image, whole=args.no_trunc),
            "Created": ago(now - image["created"]),
            "Size": spaced_size(image["size"]),
            "History": ", ".join(image["history"]) or NONE,
            "ReadOnly": "true" if image["read_only"] else "false",
        }
        rows.append([cells[name] for name in names])
    if rows:
        ctx.out(columns(rows))


def _id(image: dict[str, Any], *, whole: bool) -> str:
    return f"sha256:{image['id']}" if whole else str(image["id"][:12])


def spaced_size(count: int) -> str:
    """`1.98 MB`."""
    text = byte_size(count)
    number = text.rstrip("BkMGTPE")
    return f"{number} {text[len(number) :]}"


def _fields(repository: str, tag: str, image: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """What templates may use, by Podman's names."""
    since, stamp = ago(time.time() - image["created"]), _stamp(image["created"])
    return {
        "Repository": repository,
        "Tag": tag,
        "ID": _id(image, whole=whole),
        "ParentId": image["parent_id"],
        "RepoTags": image["names"],
        "RepoDigests": image["repo_digests"],
        "Created": since,
        "CreatedAt": stamp,
        "CreatedSince": since,
        "CreatedTime": stamp,
        "Size": spaced_size(image["size"]),
        "SharedSize": image["shared_size"],
        "VirtualSize": image["size"],
        "Labels": image["labels"],
        "Containers": image["containers"],
        "ReadOnly": image["read_only"],
        "Dangling": image["dangling"],
        "Arch": image["arch"],
        "Digest": image["digest"],
        "History": ", ".join(image["history"]),
        "IsManifestList": image["is_manifest_list"],
        "Names": image["names"],
        "Os": image["os"],
    }


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))


def _json(repository: str, tag: str, image: dict[str, Any]) -> dict[str, Any]:
    """Podman's keys in their order; those that it leaves out while they are empty are left out."""
    sometimes = {
        "ReadOnly": image["read_only"],
        "Dangling": image["dangling"],
        "Arch": image["arch"],
        "Digest": image["digest"],
        "History": image["history"],
        "IsManifestList": image["is_manifest_list"],
        "Names": image["names"],
        "Os": image["os"],
    }
    return {
        "Id": image["id"],
        "ParentId": image["parent_id"],
        "RepoTags": None,
        "RepoDigests": image["repo_digests"],
        "Size": image["size"],
        "SharedSize": image["shared_size"],
        "VirtualSize": image["size"],
        "Labels": image["labels"] or None,
        "Containers": image["containers"],
        **{key: value for key, value in sometimes.items() if value},
        "Created": image["created"],
        "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image["created"])),
        "Repository": repository,
        "Tag": tag,
    }
