"""`pyman diff` and `pyman image diff`: what was changed, added and deleted, by path."""

from __future__ import annotations

from pyman.cli.options import FLAG, TEXT
from pyman.cli.table import is_json
from pyman.errors import InvalidArgument, NoSuchContainer, NoSuchImage, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "CONTAINER_DIFF_OPTIONS",
    "DIFF_OPTIONS",
    "IMAGE_DIFF_OPTIONS",
    "container_diff",
    "diff",
    "image_diff",
]

IMAGE_DIFF_OPTIONS: tuple[Option, ...] = (("format", "", TEXT, "FORMAT", "json"),)
DIFF_OPTIONS: tuple[Option, ...] = (
    *IMAGE_DIFF_OPTIONS,
    ("latest", "l", FLAG, "", "The container that was created last"),
)
CONTAINER_DIFF_OPTIONS = DIFF_OPTIONS


def diff(ctx: Context, args: Parsed) -> int:
    """Of a container; else of an image."""
    _check_format(args)
    try:
        reply = _of_container(ctx, args)
    except NoSuchContainer:
        if args.latest:
            raise
        try:
            reply = ctx.call("Image.Diff", {"names": args.arguments})
        except NoSuchImage as error:
            if error.subject not in ("", args.arguments[0]):
                raise
            raise NotFound(
                f"cannot find '{args.arguments[0]}': neither a container nor an image has that name or id",
                subject=args.arguments[0],
            ) from error
    _show_changes(ctx, args, reply)
    return 0


def container_diff(ctx: Context, args: Parsed) -> int:
    _check_format(args)
    _show_changes(ctx, args, _of_container(ctx, args))
    return 0


def _of_container(ctx: Context, args: Parsed) -> dict[str, Any]:
    """Of two, either may be an image."""
    names = [*([_latest(ctx)] if args.latest else []), *args.arguments]
    if not names:
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container or an image", hint="give a name or an id, or --latest"
        )
    if len(names) > 2:
        raise InvalidArgument("cannot use --latest together with two names")
    return ctx.call("Container.Changes", {"name": names[0], "of": names[1] if len(names) > 1 else ""})


def image_diff(ctx: Context, args: Parsed) -> int:
    _check_format(args)
    _show_changes(ctx, args, ctx.call("Image.Diff", {"names": args.arguments}))
    return 0


def _latest(ctx: Context) -> str:
    from pyman.cli.attach import latest

    return latest(ctx)


def _check_format(args: Parsed) -> None:
    if args.format and not is_json(args.format):
        raise InvalidArgument(f"option --format cannot be '{args.format}'", hint="it must be json")


def _show_changes(ctx: Context, args: Parsed, reply: Mapping[str, Any]) -> None:
    """A letter and a path for each change; or JSON, without the kinds of which there is none."""
    kinds = {kind: reply.get(kind) or [] for kind in ("changed", "added", "deleted")}
    if args.format:
        from pyman.cli.jsontext import indented

        ctx.out(indented({kind: paths for kind, paths in kinds.items() if paths}, "     "))
        return
    from pyman.cli.context import one_line

    lines = [(path, kind[0].upper()) for kind, paths in kinds.items() for path in paths]
    for path, letter in sorted(lines):
        ctx.out(f"{letter} {one_line(path)}")
