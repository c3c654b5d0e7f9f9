"""`pyman inspect` and `pyman container inspect`: everything known of containers, as JSON or by a template."""

from __future__ import annotations

from pyman.cli.options import FLAG, TEXT
from pyman.cli.table import is_json
from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["CONTAINER_INSPECT_OPTIONS", "INSPECT_OPTIONS", "container_inspect", "inspect"]

CONTAINER_INSPECT_OPTIONS: tuple[Option, ...] = (
    ("format", "f", TEXT, "TEMPLATE", "json, or a template (default json)"),
    ("latest", "l", FLAG, "", "The container created last"),
    ("size", "s", FLAG, "", "Measure the sizes on disk, too"),
)
INSPECT_OPTIONS: tuple[Option, ...] = (
    *CONTAINER_INSPECT_OPTIONS,
    ("type", "t", TEXT, "TYPE", "The kind of object: container or all (default all)"),
)


_MOMENTS = frozenset(("Created", "StartedAt", "FinishedAt", "CheckpointedAt", "RestoredAt"))


def _with_moments(fields: dict[str, Any]) -> dict[str, Any]:
    """For templates: times are printed as Go prints them."""
    from pyman.cli.template_functions import Moment

    made = {key: Moment(item) if key in _MOMENTS else item for key, item in fields.items()}
    state = fields.get("State")
    return {**made, "State": _with_moments(state)} if state else made


def inspect(ctx: Context, args: Parsed) -> int:
    if args.type not in ("", "all", "container"):
        if args.type in ("image", "network", "pod", "volume"):
            raise NotSupported(
                f"cannot inspect objects of the type '{args.type}'", hint="this version has none"
            )
        raise InvalidArgument(f"option --type cannot be '{args.type}'", hint="it must be container or all")
    return container_inspect(ctx, args)


def container_inspect(ctx: Context, args: Parsed) -> int:
    if args.latest and args.arguments:
        raise InvalidArgument("cannot use --latest together with names")
    if not args.latest and not args.arguments:
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container", hint="give names or ids, or --latest"
        )
    request = {"names": args.arguments, "latest": args.latest, "size": args.size}
    reply = ctx.call("Container.Inspect", request)
    found = reply["containers"]
    if not args.size:
        found = [{key: item for key, item in one.items() if not key.startswith("Size")} for one in found]
    if not args.format or is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented(found, "     "))
    else:
        from pyman.cli.table import render

        ctx.write(render(args.format, [_with_moments(one) for one in found]))
    for error in reply.get("errors") or ():
        ctx.fail(f"{error['message']}: {error['hint']}" if error.get("hint") else error["message"])
    return 125 if reply.get("errors") else 0
