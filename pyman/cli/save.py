"""`pyman save`: write images into an archive or a directory."""

from __future__ import annotations

import os

from pyman.cli.options import FLAG, TEXT
from pyman.cli.registry_options import SIGNATURE_POLICY
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["SAVE_OPTIONS", "refuse_terminal", "save"]

SAVE_OPTIONS: tuple[Option, ...] = (
    ("compress", "", FLAG, "", "Compress the layers in a directory (docker-dir only)"),
    (
        "format",
        "",
        TEXT,
        "FORMAT",
        "docker-archive, oci-archive, docker-dir or oci-dir (default docker-archive)",
    ),
    (
        "multi-image-archive",
        "m",
        FLAG,
        "",
        "Every argument is an image; else the further ones are names of the first (default: as in containers.conf)",
    ),
    ("output", "o", TEXT, "FILE", "Write there (default: standard output)"),
    ("quiet", "q", FLAG, "", "Show no progress"),
    SIGNATURE_POLICY,
    ("uncompressed", "", FLAG, "", "Leave layers uncompressed in OCI formats"),
)
_ARCHIVES = ("docker-archive", "oci-archive")
_DIRECTORIES = ("docker-dir", "oci-dir")


def save(ctx: Context, args: Parsed) -> int:
    form = args.format or "docker-archive"
    if form not in (*_ARCHIVES, *_DIRECTORIES):
        raise InvalidArgument(
            f"option --format cannot be '{form}'", hint=f"it must be {', '.join((*_ARCHIVES, *_DIRECTORIES))}"
        )
    if args.compress and form != "docker-dir":
        raise InvalidArgument("cannot use --compress with this format", hint="it is for docker-dir alone")
    if args.multi_image_archive and form != "docker-archive":
        raise InvalidArgument(
            "cannot use --multi-image-archive with this format", hint="it is for docker-archive alone"
        )
    request: dict[str, Any] = {
        "names": args.arguments,
        "format": form,
        "compress": args.compress,
        "uncompressed": args.uncompressed,
        "multi_image_archive": args.multi_image_archive if args.given("multi_image_archive") else None,
    }
    if form in _DIRECTORIES:
        return _directory(ctx, args, request)
    return _archive(ctx, args, request)


def _directory(ctx: Context, args: Parsed, request: dict[str, Any]) -> int:
    from pyman.cli.transfer import follow
    from pyman.cli.values import absolute

    if not args.output:
        raise InvalidArgument("cannot save to a directory without its name", hint="use --output")
    follow(ctx, "Image.Save", {**request, "path": absolute(args.output)}, quiet=args.quiet)
    return 0


def _archive(ctx: Context, args: Parsed, request: dict[str, Any]) -> int:
    from pyman.cli.transfer import follow

    if not args.output:
        refuse_terminal("save", "the archive")
        follow(ctx, "Image.Save", request, (1,), quiet=True)
        return 0
    from pyman.cli.output_file import OutputFile
    from pyman.cli.values import absolute

    with OutputFile(args.output) as file:
        named = {**request, "path": absolute(args.output)}
        follow(ctx, "Image.Save", named, (file.fileno(),), quiet=args.quiet)
        file.keep()
    return 0


def refuse_terminal(verb: str, what: str) -> None:
    """An archive on a terminal helps nobody. Raises InvalidArgument."""
    if os.isatty(1):
        raise InvalidArgument(
            f"cannot {verb} {what} to a terminal", hint="redirect standard output, or use --output"
        )
