"""`pyman system df` and `pyman system prune`: how much room things take, and the removal of those that nothing uses."""

from __future__ import annotations

import time

from pyman.cli.context import sentence
from pyman.cli.human import byte_size, span
from pyman.cli.options import FLAG, LIST, REFUSED, TEXT
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["HEADERS", "df", "prune"]

DF_OPTIONS: tuple[Option, ...] = (
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("verbose", "v", FLAG, "", "Show every image, container and volume"),
)
PRUNE_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All images that no container uses, not only those without a name"),
    ("build", "", REFUSED, "", "containers of builds are Buildah's: buildah rm --all"),
    (
        "external",
        "",
        REFUSED,
        "",
        "what is left over in the store is cleared at the start, and by system check --repair",
    ),
    ("filter", "", LIST, "KEY=VALUE", "Only what fits: label=, until="),
    ("force", "f", FLAG, "", "Do not ask"),
    ("volumes", "", FLAG, "", "Also volumes that no container uses"),
)
HEADERS: dict[str, str] = {
    "Active": "ACTIVE",
    "RawReclaimable": "RAW RECLAIMABLE",
    "RawSize": "RAW SIZE",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "Total": "TOTAL",
    "Type": "TYPE",
}
_TABLE = "table {{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
_JSON = ("Type", "Total", "Active", "RawSize", "RawReclaimable", "TotalCount", "Size", "Reclaimable")
_DIGITS = 4


def df(ctx: Context, args: Parsed) -> int:
    if args.format and args.verbose:
        raise InvalidArgument("cannot use --format together with --verbose")
    found = ctx.call("System.DiskUsage")
    for warning in found.get("warnings", ()):
        ctx.warn(warning)
    if args.verbose:
        ctx.out(_in_full(found))
        return 0
    rows = [_images(found), _containers(found["containers"]), _volumes(found["volumes"])]
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        made = [{**one, "TotalCount": one["Total"]} for one in rows]
        ctx.out(indented([{key: one[key] for key in _JSON} for one in made], "    "))
    else:
        ctx.write(render(args.format or _TABLE, rows, HEADERS, listing=True))
    return 0


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    percent = round(reclaimable / size * 100) if size else 0
    return {
        "Type": kind,
        "Total": total,
        "Active": active,
        "RawSize": size,
        "RawReclaimable": reclaimable,
        "Size": byte_size(size, _DIGITS),
        "Reclaimable": f"{byte_size(reclaimable, _DIGITS)} ({percent}%)",
    }


def _images(found: dict[str, Any]) -> dict[str, Any]:
    from pyman.cli.images import lines_of

    images = found["images"]
    active = sum(1 for image in images if image["containers"])
    return _row("Images", len(lines_of(images)), active, found["images_size"], found["images_reclaimable"])


def _containers(found: list[dict[str, Any]]) -> dict[str, Any]:
    running = [one for one in found if one["state"] == "running"]
    size = sum(one["rw_size"] for one in found)
    used = sum(one["rw_size"] for one in running)
    return _row("Containers", len(found), len(running), size, size - used)


def _volumes(found: list[dict[str, Any]]) -> dict[str, Any]:
    used = [one for one in found if one["links"]]
    size = sum(one["size"] for one in found)
    return _row("Local Volumes", len(found), len(used), size, size - sum(one["size"] for one in used))


def _in_full(found: dict[str, Any]) -> str:
    from pyman.cli.images import lines_of

    now = time.time()
    images = [
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"],
        *(
            [
                repository,
                tag,
                image["id"][:12],
                span(now - image["created"]),
                *(byte_size(image[key], _DIGITS) for key in ("size", "shared_size", "unique_size")),
                str(image["containers"]),
            ]
            for repository, tag, image in lines_of(found["images"])
        ),
    ]
    containers = [
        ["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"],
        *(
            [
                one["id"][:12],
                one["image"][:12],
                " ".join(one["command"]),
                str(one["volumes"]),
                byte_size(one["rw_size"], _DIGITS),
                span(now - one["created"]),
                one["state"],
                one["name"],
            ]
            for one in found["containers"]
        ),
    ]
    volumes = [
        ["VOLUME NAME", "LINKS", "SIZE"],
        *([one["name"], str(one["links"]), byte_size(one["size"], _DIGITS)] for one in found["volumes"]),
    ]
    parts = (("Images", images), ("Containers", containers), ("Local Volumes", volumes))
    return "\n\n".join(f"{title} space usage:\n\n{columns(rows)}" for title, rows in parts)


def prune(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    filters = filters_of(args.filter)
    if not args.force and not ctx.confirm(_warning(args)):
        return 0
    request = {"all": args.all, "volumes": args.volumes, "filters": filters}
    reply = ctx.call("System.Prune", request)
    status = 0
    for kind in ("containers", "volumes", "images", "networks"):
        gone = [one["id"] for one in reply[kind] if not one.get("error")]
        if gone:
            ctx.out("\n".join([f"Deleted {kind.capitalize()}", *gone]))
        for one in reply[kind]:
            if one.get("error"):
                ctx.fail(sentence(one["error"]))
                status = 125
    ctx.out(f"Total reclaimed space: {byte_size(reply['reclaimed'], _DIGITS)}")
    return status


def _warning(args: Parsed) -> str:
    lines = [
        "This command removes:",
        "\t- all stopped containers",
        "\t- all networks not used by at least one container",
    ]
    if args.volumes:
        lines.append("\t- all volumes not used by at least one container")
    if args.all:
        lines.append("\t- all images without at least one container associated with them")
    else:
        lines.append("\t- all dangling images")
    return "\n".join([*lines, ""])
