"""`pyman inspect`, `container inspect` and `image inspect`: everything known of objects, as JSON or by a template.

What is no container may be an image, a volume or a network: `inspect` looks there, too, unless --type says otherwise.
"""

from __future__ import annotations

from pyman.cli.context import sentence
from pyman.cli.options import FLAG, TEXT
from pyman.cli.table import is_json
from pyman.errors import InvalidArgument, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = [
    "CONTAINER_INSPECT_OPTIONS",
    "IMAGE_INSPECT_OPTIONS",
    "INSPECT_OPTIONS",
    "container_inspect",
    "image_inspect",
    "inspect",
]

_FORMAT: Option = ("format", "f", TEXT, "TEMPLATE", "json, or a template (default json)")
CONTAINER_INSPECT_OPTIONS: tuple[Option, ...] = (
    _FORMAT,
    ("latest", "l", FLAG, "", "The container created last"),
    ("size", "s", FLAG, "", "Measure the sizes on disk, too"),
)
IMAGE_INSPECT_OPTIONS: tuple[Option, ...] = (_FORMAT,)
INSPECT_OPTIONS: tuple[Option, ...] = (
    *CONTAINER_INSPECT_OPTIONS,
    ("type", "t", TEXT, "TYPE", "The kind of object: container, image, network, volume or all (default all)"),
)


_MOMENTS = frozenset(("Created", "StartedAt", "FinishedAt", "CheckpointedAt", "RestoredAt"))


def _with_moments(fields: dict[str, Any]) -> dict[str, Any]:
    """For templates: times are printed as Go prints them."""
    from pyman.cli.template_functions import Moment, Struct

    if isinstance(fields, Struct):  # a network, which has them already
        return fields
    made = {key: Moment(item) if key in _MOMENTS else item for key, item in fields.items()}
    state = fields.get("State")
    return {**made, "State": _with_moments(state)} if state else made


def inspect(ctx: Context, args: Parsed) -> int:
    if args.type in ("pod", "artifact"):
        raise NotSupported(f"cannot inspect objects of the type '{args.type}'", hint="this version has none")
    if args.type not in ("", "all", "container", "image", "network", "volume"):
        raise InvalidArgument(
            f"option --type cannot be '{args.type}'",
            hint="it must be container, image, network, volume or all",
        )
    if args.type in ("image", "network", "volume"):
        for option in ("latest", "size"):
            if getattr(args, option):
                raise InvalidArgument(f"cannot use --{option} together with --type {args.type}")
        if args.type == "network":
            return _network_inspect(ctx, args)
        return image_inspect(ctx, args) if args.type == "image" else _volume_inspect(ctx, args)
    if args.type == "container" or args.latest:
        return container_inspect(ctx, args)
    return _any(ctx, args)


def container_inspect(ctx: Context, args: Parsed) -> int:
    if args.latest and args.arguments:
        raise InvalidArgument("cannot use --latest together with names")
    if not args.latest and not args.arguments:
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container", hint="give names or ids, or --latest"
        )
    found, errors = _containers(ctx, args)
    return _show(ctx, args, found, [sentence(error) for error in errors])


def image_inspect(ctx: Context, args: Parsed) -> int:
    if not args.arguments:
        raise InvalidArgument(f"'pyman {args.command}' needs an image", hint="give names or ids")
    reply = ctx.call("Image.Inspect", {"names": args.arguments})
    return _show(ctx, args, reply["images"], [sentence(error) for error in reply.get("errors") or ()])


def _volume_inspect(ctx: Context, args: Parsed) -> int:
    if not args.arguments:
        raise InvalidArgument(f"'pyman {args.command}' needs a volume", hint="give names")
    from pyman.cli.volume import shown

    reply = ctx.call("Volume.Inspect", {"names": args.arguments})
    failures = [sentence(error) for error in reply.get("errors") or ()]
    return _show(ctx, args, [shown(one) for one in reply["volumes"]], failures)


def _network_inspect(ctx: Context, args: Parsed) -> int:
    if not args.arguments:
        raise InvalidArgument(f"'pyman {args.command}' needs a network", hint="give names or ids")
    from pyman.cli.network import inspect as network_inspect

    return network_inspect(ctx, args)


def _any(ctx: Context, args: Parsed) -> int:
    """Containers first, then images, volumes and networks, in the order of the names."""
    if not args.arguments:
        raise InvalidArgument(
            f"'pyman {args.command}' needs a container or an image", hint="give names or ids, or --latest"
        )
    found, errors = _containers(ctx, args)
    unknown = {error["subject"] for error in errors if error["code"] == "NoSuchContainer"}
    failed = {error["subject"]: sentence(error) for error in errors}
    containers = iter(found)
    shown: list[dict[str, Any]] = []
    told: list[str] = []
    images = _images(ctx, [name for name in args.arguments if name in unknown])
    for name in args.arguments:
        if name not in failed:
            shown += [one for one in (next(containers, None),) if one is not None]
        elif name not in unknown:
            told.append(failed[name])
        else:
            image = next(images)
            if isinstance(image, str):
                told.append(image)
            else:
                shown.append(image)
    return _show(ctx, args, shown, told)


def _containers(ctx: Context, args: Parsed) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
    request = {"names": args.arguments, "latest": args.latest, "size": args.size}
    reply = ctx.call("Container.Inspect", request)
    found = reply["containers"]
    if not args.size:
        found = [{key: item for key, item in one.items() if not key.startswith("Size")} for one in found]
    return found, reply.get("errors") or []


def _images(ctx: Context, names: list[str]) -> Iterator[dict[str, Any] | str]:
    """For each name the image, else the volume or the network, or why there is none."""
    if not names:
        return
    reply = ctx.call("Image.Inspect", {"names": names})
    failed = {error["subject"]: error for error in reply.get("errors") or ()}
    found = iter(reply["images"])
    missing = [name for name, error in failed.items() if error["code"] == "NoSuchImage"]
    volumes = _volumes(ctx, missing)
    for name in names:
        error = failed.get(name)
        if error is None:
            yield next(found)
        elif error["code"] == "NoSuchImage":
            yield volumes.get(name) or _network(ctx, name)
        else:
            yield sentence(error)


def _volumes(ctx: Context, names: list[str]) -> dict[str, dict[str, Any]]:
    """Of these names those that are volumes'."""
    if not names:
        return {}
    from pyman.cli.volume import shown

    reply = ctx.call("Volume.List", {})["volumes"]
    return {one["Name"]: shown(one) for one in reply if one["Name"] in names}


def _network(ctx: Context, name: str) -> dict[str, Any] | str:
    """One network, or why there is none."""
    from pyman.cli.network import inspected

    reply = ctx.call("Network.Inspect", {"names": [name]})
    if reply["networks"]:
        return inspected(reply["networks"][0])
    (error,) = reply["errors"]
    if error["code"] != "NoSuchNetwork":
        return sentence(error)
    return f"cannot find '{name}': no container, image, volume or network has that name or id"


def _show(ctx: Context, args: Parsed, found: list[dict[str, Any]], failures: list[str]) -> int:
    if not args.format or is_json(args.format):
        from pyman.cli.jsontext import indented

        ctx.out(indented([getattr(one, "document", one) for one in found], "     "))
    else:
        from pyman.cli.table import render

        ctx.write(render(args.format, [_with_moments(one) for one in found]))
    for failure in failures:
        ctx.fail(failure)
    return 125 if failures else 0
