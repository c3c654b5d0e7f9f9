"""`pyman volume …`: volumes made, listed, shown, removed, filled from archives and written into them."""

from __future__ import annotations

import os

from pyman.cli.context import sentence
from pyman.cli.options import FLAG, INT, LIST, SECONDS, TEXT
from pyman.cli.table import columns, is_json, render
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "create",
    "exists",
    "export",
    "import_volume",
    "inspect",
    "list_volumes",
    "mount",
    "prune",
    "reload",
    "rm",
    "shown",
    "unmount",
]

CREATE_OPTIONS: tuple[Option, ...] = (
    ("driver", "d", TEXT, "NAME", "local, the only one"),
    ("gid", "", INT, "GID", "The group of its directory"),
    ("ignore", "", FLAG, "", "One that is there is no mistake"),
    ("label", "l", LIST, "KEY=VALUE", "A label; may be repeated"),
    ("opt", "o", LIST, "KEY=VALUE", "Of the driver: type, device, o, copy, nocopy; may be repeated"),
    ("uid", "", INT, "UID", "The owner of its directory"),
)
LS_OPTIONS: tuple[Option, ...] = (
    (
        "filter",
        "f",
        LIST,
        "KEY=VALUE",
        "Only volumes that fit: anonymous, dangling, driver, label, name, opt, scope, since, until",
    ),
    ("format", "", TEXT, "TEMPLATE", "json, table TEMPLATE or TEMPLATE"),
    ("noheading", "n", FLAG, "", "Leave the headers out"),
    ("quiet", "q", FLAG, "", "Show names only"),
)
INSPECT_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All volumes"),
    ("format", "f", TEXT, "TEMPLATE", "json, or a template (default json)"),
)
RM_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All volumes"),
    ("force", "f", FLAG, "", "Also the containers that use it"),
    ("time", "t", SECONDS, "SECONDS", "With --force: time until SIGKILL"),
)
PRUNE_OPTIONS: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "Named volumes as well as the anonymous"),
    ("dry-run", "", FLAG, "", "Only show what would be removed"),
    ("filter", "", LIST, "KEY=VALUE", "Only volumes that fit: all, anonymous, label, since, until"),
    ("force", "f", FLAG, "", "Do not ask"),
)
EXPORT_OPTIONS: tuple[Option, ...] = (
    ("output", "o", TEXT, "FILE", "Write there (default: standard output)"),
)
EXISTS_OPTIONS: tuple[Option, ...] = ()
IMPORT_OPTIONS: tuple[Option, ...] = ()
RELOAD_OPTIONS: tuple[Option, ...] = ()
MOUNT_OPTIONS: tuple[Option, ...] = ()
UNMOUNT_OPTIONS: tuple[Option, ...] = (("force", "f", FLAG, "", "However often people have mounted it"),)

HEADERS: dict[str, Any] = {
    "Anonymous": "ANONYMOUS",
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "GID": "GID",
    "Labels": "LABELS",
    "LockNumber": "LOCK NUMBER",
    "MountCount": "MOUNT COUNT",
    "Mountpoint": "MOUNTPOINT",
    "Name": "VOLUME NAME",
    "NeedsChown": "NEEDS CHOWN",
    "NeedsCopyUp": "NEEDS COPY UP",
    "Options": "OPTIONS",
    "Scope": "SCOPE",
    "UID": "UID",
}
_SOMETIMES = ("UID", "GID", "Anonymous", "NeedsCopyUp", "NeedsChown")
"""Podman leaves them out while they say nothing."""
_ORDER = (
    *("Name", "Driver", "Mountpoint", "CreatedAt", "Labels", "Scope", "Options", "UID", "GID"),
    *("Anonymous", "MountCount", "NeedsCopyUp", "NeedsChown", "LockNumber"),
)
_ALL = (
    "This will remove all volumes not used by at least one container. The following volumes will be removed:"
)
_ANONYMOUS = (
    "This will remove anonymous local volumes not used by at least one container."
    " The following volumes will be removed:"
)


def create(ctx: Context, args: Parsed) -> int:
    from pyman.cli.values import labels

    request = {
        "name": args.arguments[0] if args.arguments else "",
        "driver": args.driver,
        "labels": labels(args.label, "--label"),
        "options": _options(args.opt),
        "uid": args.uid,
        "gid": args.gid,
        "ignore": args.ignore,
    }
    if args.arguments and not args.arguments[0]:
        raise InvalidArgument("cannot use the name '': it is empty")
    ctx.out(ctx.call("Volume.Create", request)["name"])
    return 0


def _options(pairs: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE`, or `KEY`. InvalidArgument."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not key:
            raise InvalidArgument(f"option --opt cannot be '{pair}'", hint="it must be KEY=VALUE or KEY")
        if key in found:
            raise InvalidArgument(f"option --opt has '{key}' twice", hint="several for a mount are one o=A,B")
        found[key] = value
    return found


def list_volumes(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    if args.quiet and args.format:
        raise InvalidArgument("cannot use --quiet together with --format")
    found = ctx.call("Volume.List", {"filters": filters_of(args.filter)})["volumes"]
    if is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([shown(one) for one in found], "  "))
    elif args.quiet:
        for one in found:
            ctx.out(one["Name"])
    elif args.format:
        rows = [_fields(one) for one in found]
        ctx.write(render(args.format, rows, None if args.noheading else HEADERS, listing=True))
    else:
        lines = [] if args.noheading else [[HEADERS["Driver"], HEADERS["Name"]]]
        lines += [[one["Driver"], one["Name"]] for one in found]
        if lines:
            ctx.out(columns(lines))
    return 0


def shown(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Podman's document, its keys in their order."""
    return {key: volume[key] for key in _ORDER if volume[key] or key not in _SOMETIMES}


def _fields(volume: Mapping[str, Any]) -> dict[str, Any]:
    """What templates of a listing may use."""
    from pyman.cli.template_functions import Moment

    pairs = sorted(volume["Labels"].items())
    return {
        **volume,
        "CreatedAt": Moment(volume["CreatedAt"]),
        "Labels": ",".join(f"{key}={value}" for key, value in pairs),
    }


def inspect(ctx: Context, args: Parsed) -> int:
    if args.all == bool(args.arguments):
        raise InvalidArgument("cannot tell which volumes are meant", hint="give either names or --all")
    reply = ctx.call("Volume.Inspect", {"names": args.arguments, "all": args.all})
    if not args.format or is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([shown(one) for one in reply["volumes"]], "     "))
    else:
        from pyman.cli.template_functions import Moment

        rows = [{**one, "CreatedAt": Moment(one["CreatedAt"])} for one in reply["volumes"]]
        ctx.write(render(args.format, rows))
    errors = reply.get("errors") or ()
    for error in errors:
        ctx.fail(sentence(error))
    return 125 if errors else 0


def rm(ctx: Context, args: Parsed) -> int:
    """The exit status tells apart: 1 there is no such volume, 2 it is in use."""
    if args.all == bool(args.arguments):
        raise InvalidArgument("cannot tell which volumes are meant", hint="give either names or --all")
    if args.time is not None and not args.force:
        raise InvalidArgument(
            "cannot use --time without --force", hint="only what is forced is stopped first"
        )
    request = {"names": args.arguments, "all": args.all, "force": args.force, "timeout": args.time}
    codes = set()
    for one in ctx.call("Volume.Remove", request)["volumes"]:
        error = one.get("error")
        if not error:
            ctx.out(one["name"])
            continue
        if error["code"] == "NoSuchVolume" and args.force:
            continue
        ctx.fail(sentence(error))
        codes.add(error["code"])
    if "VolumeInUse" in codes:
        return 2
    return 1 if "NoSuchVolume" in codes else 125 if codes else 0


def prune(ctx: Context, args: Parsed) -> int:
    from pyman.cli.container import filters_of

    if args.force and args.dry_run:
        raise InvalidArgument("cannot use --force together with --dry-run")
    filters = filters_of(args.filter)
    every = filters.pop("all", [])
    if every and args.all:
        raise InvalidArgument("cannot use --all together with --filter all")
    if any(value.lower() not in ("true", "false") for value in every):
        raise InvalidArgument("option --filter cannot be all=…", hint="it must be all=true or all=false")
    request = {
        "all": args.all or "true" in [value.lower() for value in every],
        "filters": filters,
        "dry_run": True,
    }
    if not args.force:
        names = [one["name"] for one in ctx.call("Volume.Prune", request)["volumes"]]
        if args.dry_run:
            ctx.out("Volumes that would be pruned:")
            for name in names:
                ctx.out(name)
            return 0
        if not names:
            ctx.out("No dangling volumes found" if request["all"] else "No dangling anonymous volumes found")
            return 0
        if not ctx.confirm("\n".join([_ALL if request["all"] else _ANONYMOUS, *names])):
            return 0
    status = 0
    for one in ctx.call("Volume.Prune", {**request, "dry_run": False})["volumes"]:
        if one.get("error"):
            ctx.fail(sentence(one["error"]))
            status = 125
        else:
            ctx.out(one["name"])
    return status


def exists(ctx: Context, args: Parsed) -> int:
    return 0 if ctx.call("Volume.Exists", {"name": args.arguments[0]})["exists"] else 1


def export(ctx: Context, args: Parsed) -> int:
    request = {"name": args.arguments[0]}
    if not args.output:
        if args.given("output"):
            raise InvalidArgument("option --output cannot be empty")
        from pyman.cli.save import refuse_terminal

        refuse_terminal("export", "the files")
        ctx.call("Volume.Export", request, (1,))
        return 0
    from pyman.cli.output_file import OutputFile

    with OutputFile(args.output) as file:
        ctx.call("Volume.Export", request, (file.fileno(),))
        file.keep()
    return 0


def import_volume(ctx: Context, args: Parsed) -> int:
    from pyman.cli.archive_input import open_archive

    name, source = args.arguments
    if source == "-":
        if os.isatty(0):
            raise InvalidArgument("cannot import from a terminal", hint="redirect standard input")
        ctx.call("Volume.Import", {"name": name}, (0,))
        return 0
    descriptor = open_archive(source)
    try:
        ctx.call("Volume.Import", {"name": name}, (descriptor,))
    finally:
        os.close(descriptor)
    return 0


def reload(ctx: Context, _args: Parsed) -> int:
    reply = ctx.call("Volume.Reload")
    for word, key in (("Added", "added"), ("Removed", "removed")):
        if reply[key]:
            ctx.out(f"{word}:")
            for name in reply[key]:
                ctx.out(name)
    for error in reply["errors"]:
        ctx.fail(sentence(error))
    return 125 if reply["errors"] else 0


def mount(ctx: Context, args: Parsed) -> int:
    from pyman.cli.image import refuse_outside

    refuse_outside()
    ctx.out(ctx.call("Volume.Mount", {"name": args.arguments[0]})["path"])
    return 0


def unmount(ctx: Context, args: Parsed) -> int:
    ctx.call("Volume.Unmount", {"name": args.arguments[0], "force": args.force})
    ctx.out(args.arguments[0])
    return 0
