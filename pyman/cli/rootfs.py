"""Verbs about a container's files: mount, unmount, export, commit."""

from __future__ import annotations

from pyman.cli.image import failures, refuse_outside
from pyman.cli.options import CHANGE, FLAG, TEXT
from pyman.cli.table import is_json
from pyman.errors import InvalidArgument, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["commit", "export", "mount", "unmount"]

_LATEST: Option = ("latest", "l", FLAG, "", "The container that was created last")
MOUNT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers"),
    ("format", "", TEXT, "FORMAT", "json"),
    _LATEST,
    ("no-trunc|notruncate", "", FLAG, "", "Show ids in full"),
)
UNMOUNT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All containers that are mounted"),
    ("force", "f", FLAG, "", "However often they are mounted"),
    _LATEST,
)
EXPORT_OPTIONS: tuple[Option, ...] = (
    ("output", "o", TEXT, "FILE", "Write there (default: standard output)"),
)
COMMIT_OPTIONS: tuple[Option, ...] = (
    ("author", "a", TEXT, "TEXT", "The author of the image"),
    CHANGE,
    (
        "config",
        "",
        TEXT,
        "FILE",
        "A configuration in Docker's form (JSON) that goes over the container's, below --change",
    ),
    ("format", "f", TEXT, "FORMAT", "oci or docker (default oci)"),
    ("iidfile", "", TEXT, "FILE", "Write the image's id to a file"),
    ("include-volumes", "", FLAG, "", "The container's volumes are volumes of the image, too"),
    ("message", "m", TEXT, "TEXT", "A comment for the image's history"),
    ("pause", "p", FLAG, "", "Freeze the container meanwhile"),
    ("quiet", "q", FLAG, "", "Show nothing but the id"),
    ("squash", "s", FLAG, "", "Make one layer of all files"),
)

_CONFIGURATION_LIMIT = 1 << 20
"""Bytes."""


def mount(ctx: Context, args: Parsed) -> int:
    if args.format and not is_json(args.format):
        raise InvalidArgument(f"option --format cannot be '{args.format}'", hint="it must be json")
    selection = _selection(args)
    if selection:
        refuse_outside()
    reply = ctx.call("Container.Mount", {"selection": selection})
    mounted = [one for one in reply["containers"] if not one.get("error")]
    if selection:
        for one in mounted:
            ctx.out(one["path"])
    elif args.format:
        from pyman.cli.jsontext import indented

        ctx.out(
            indented(
                [{"id": one["id"], "Names": [one["name"]], "mountpoint": one["path"]} for one in mounted], " "
            )
        )
    elif mounted:
        from pyman.cli.table import columns

        rows = [[one["id"] if args.no_trunc else one["id"][:12], one["path"]] for one in mounted]
        ctx.out(columns(rows))
    return failures(ctx, reply["containers"])


def unmount(ctx: Context, args: Parsed) -> int:
    selection = _selection(args)
    if not selection:
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container", hint="give names or ids, or --all or --latest"
        )
    reply = ctx.call("Container.Unmount", {"selection": selection, "force": args.force})
    for result in reply["results"]:
        if not result.get("error") and result.get("id"):
            ctx.out(result["name"] if "names" in selection else result["id"])
    return failures(ctx, reply["results"])


def _selection(args: Parsed) -> dict[str, Any]:
    """Empty: nothing was said."""
    ways = [f"--{name}" for name in ("all", "latest") if getattr(args, name)]
    if len(ways) + bool(args.arguments) > 1:
        raise InvalidArgument(f"cannot use {ways[0]} together with {[*ways, 'names'][1]}")
    if args.arguments:
        return {"names": args.arguments}
    return {way[2:]: True for way in ways}


def export(ctx: Context, args: Parsed) -> int:
    request = {"name": args.arguments[0]}
    if not args.output:
        from pyman.cli.save import refuse_terminal

        refuse_terminal("export", "the files")
        ctx.call("Container.Export", request, (1,))
        return 0
    from pyman.cli.output_file import OutputFile

    with OutputFile(args.output) as file:
        ctx.call("Container.Export", request, (file.fileno(),))
        file.keep()
    return 0


def commit(ctx: Context, args: Parsed) -> int:
    if args.format not in ("", "oci", "docker"):
        raise InvalidArgument(f"option --format cannot be '{args.format}'", hint="it must be oci or docker")
    request = {
        "name": args.arguments[0],
        "image": args.arguments[1] if len(args.arguments) > 1 else "",
        "author": args.author,
        "message": args.message,
        "changes": args.change,
        "config": _configuration(args.config) if args.config else {},
        "pause": args.pause,
        "squash": args.squash,
        "include_volumes": args.include_volumes,
        "format": args.format,
    }
    identity = ctx.call("Container.Commit", request)["id"]
    if args.iidfile:
        try:
            with open(args.iidfile, "w", encoding="ascii") as file:
                file.write(identity)
        except OSError as problem:
            raise StorageFailed(
                f"cannot write the id '{identity}' to '{args.iidfile}': {problem.strerror or problem}",
                subject=args.iidfile,
            ) from problem
    ctx.out(identity)
    return 0


def _configuration(path: str) -> dict[str, Any]:
    """Raises InvalidArgument."""
    import json

    try:
        with open(path, "rb") as file:
            data = file.read(_CONFIGURATION_LIMIT + 1)
    except OSError as problem:
        raise InvalidArgument(
            f"cannot read '{path}': {problem.strerror or problem}", subject=path
        ) from problem
    if len(data) > _CONFIGURATION_LIMIT:
        raise InvalidArgument(
            f"cannot use '{path}': it has more than {_CONFIGURATION_LIMIT} bytes", subject=path
        )
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise InvalidArgument(f"cannot use '{path}': it is no JSON", subject=path) from problem
    if not isinstance(found, dict):
        raise InvalidArgument(f"cannot use '{path}': it is no JSON object", subject=path)
    return found
