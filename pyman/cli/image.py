"""The verbs that change images here, or mount them: tag, untag, rmi, prune, exists, mount, unmount."""

from __future__ import annotations

import os

from pyman.cli.context import sentence
from pyman.cli.options import FLAG, LIST, TEXT
from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "exists",
    "failures",
    "mount",
    "prune",
    "refuse_outside",
    "removed",
    "rmi",
    "tag",
    "unmount",
    "untag",
]

TAG_OPTIONS: tuple[Option, ...] = ()
UNTAG_OPTIONS: tuple[Option, ...] = ()
EXISTS_OPTIONS: tuple[Option, ...] = ()
RMI_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All images"),
    ("force", "f", FLAG, "", "Also an image with several names, and the containers that use it"),
    ("ignore", "i", FLAG, "", "An image that does not exist is no mistake"),
    ("no-prune", "", FLAG, "", "Keep the parents that have no name"),
)
PRUNE_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All images that no container uses, not only those without a name"),
    ("build-cache", "", FLAG, "", "Also what builds keep for --mount=type=cache"),
    ("external", "", FLAG, "", "Also images that containers of other programs use, such as Buildah's"),
    ("filter", "", LIST, "KEY=VALUE", "Only images that fit: label=, until="),
    ("force", "f", FLAG, "", "Do not ask"),
)
MOUNT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All images"),
    ("format", "", TEXT, "FORMAT", "json"),
)
UNMOUNT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All images that are mounted"),
    ("force", "f", FLAG, "", "However often they are mounted"),
)

_EVERY = "This command removes all images without at least one container associated with them."
_DANGLING = "This command removes all dangling images."


def tag(ctx: Context, args: Parsed) -> int:
    name, *targets = args.arguments
    ctx.call("Image.Tag", {"name": name, "targets": targets})
    return 0


def untag(ctx: Context, args: Parsed) -> int:
    name, *targets = args.arguments
    ctx.call("Image.Untag", {"name": name, "targets": targets})
    return 0


def exists(ctx: Context, args: Parsed) -> int:
    return 0 if ctx.call("Image.Exists", {"name": args.arguments[0]})["exists"] else 1


def rmi(ctx: Context, args: Parsed) -> int:
    """The exit status tells apart: 1 there is no such image, 2 it is in use."""
    _one_way(args)
    request = {
        "names": args.arguments,
        "all": args.all,
        "force": args.force,
        "ignore": args.ignore or args.force,
        "no_prune": args.no_prune,
    }
    return removed(ctx, ctx.call("Image.Remove", request))


def removed(ctx: Context, reply: Mapping[str, Any]) -> int:
    """Print what was untagged and deleted, and what could not be; the exit status."""
    for word, key in (("Untagged", "untagged"), ("Deleted", "deleted")):
        for image in reply["images"]:
            for name in image[key]:
                ctx.out(f"{word}: {name}")
    errors = reply.get("errors") or ()
    for error in errors:
        ctx.fail(sentence(error))
    codes = {error["code"] for error in errors}
    if "ImageInUse" in codes:
        return 2
    return 0 if not codes else 1 if codes == {"NoSuchImage"} else 125


def prune(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    filters = filters_of(args.filter)
    if wrong := [key for key in filters if key.rstrip("!") not in ("label", "until")]:
        raise InvalidArgument(f"cannot prune by '{wrong[0]}'", hint="only label and until can be asked for")
    if not args.force and not ctx.confirm(_EVERY if args.all else _DANGLING):
        return 0
    request = {
        "all": args.all,
        "filters": filters,
        "external": args.external,
        "build_cache": args.build_cache,
    }
    if args.build_cache and (tmpdir := os.environ.get("TMPDIR")):
        request["tmpdir"] = os.path.abspath(tmpdir)
    reply = ctx.call("Image.Prune", request)
    for image in reply["images"]:
        for identity in image["deleted"]:
            ctx.out(identity)
    errors = reply.get("errors") or ()
    for error in errors:
        ctx.fail(sentence(error))
    return 125 if errors else 0


def mount(ctx: Context, args: Parsed) -> int:
    if args.format not in ("", "json"):
        raise InvalidArgument(f"option --format cannot be '{args.format}'", hint="it must be json")
    if args.all and args.arguments:
        raise InvalidArgument("cannot use --all together with names")
    if args.all or args.arguments:
        refuse_outside()
    reply = ctx.call("Image.Mount", {"names": args.arguments, "all": args.all})
    mounted = [one for one in reply["images"] if not one.get("error")]
    if args.format:
        from pyman.cli.jsontext import indented

        ctx.out(indented([_mounted(one) for one in mounted], " "))
    elif len(args.arguments) == 1:
        for one in mounted:
            ctx.out(one["path"])
    elif mounted:
        from pyman.cli.table import columns

        ctx.out(columns([[(one["names"] or [one["id"]])[0], one["path"]] for one in mounted]))
    return failures(ctx, reply["images"])


def refuse_outside() -> None:
    """A path that its caller cannot follow helps nobody. Raises NotSupported."""
    if os.geteuid() != 0:
        raise NotSupported(
            "cannot mount for an ordinary user here: only the engine's namespaces would see it",
            hint="run the command in a 'pyman unshare'",
        )


def _mounted(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "Names": one["names"],
        "Repositories": one["names"],
        "mountpoint": one["path"],
    }


def unmount(ctx: Context, args: Parsed) -> int:
    _one_way(args)
    request = {"names": args.arguments, "all": args.all, "force": args.force}
    reply = ctx.call("Image.Unmount", request)
    for one in reply["images"]:
        if not one.get("error"):
            ctx.out(one["id"])
    return failures(ctx, reply["images"])


def failures(ctx: Context, results: Iterable[Mapping[str, Any]]) -> int:
    """Tell what could not be done; the exit status."""
    status = 0
    for one in results:
        if one.get("error"):
            ctx.fail(sentence(one["error"]))
            status = 125
    return status


def _one_way(args: Parsed) -> None:
    if args.all and args.arguments:
        raise InvalidArgument("cannot use --all together with names")
    if not args.all and not args.arguments:
        raise InvalidArgument(f"'pyman {args.command}' needs an image", hint="give names or ids, or --all")
