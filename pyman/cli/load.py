"""`pyman load` and `pyman import`: images out of archives, and images made of a tar archive of files."""

from __future__ import annotations

import os

from pyman.cli.archive_input import download, is_address, open_archive
from pyman.cli.options import CHANGE, FLAG, TEXT
from pyman.cli.registry_options import SIGNATURE_POLICY, platform_of
from pyman.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["IMPORT_OPTIONS", "LOAD_OPTIONS", "import_image", "load"]

LOAD_OPTIONS: tuple[Option, ...] = (
    ("input", "i", TEXT, "FILE", "The archive or directory to read, or an address (default: standard input)"),
    ("quiet", "q", FLAG, "", "Show no progress"),
    SIGNATURE_POLICY,
)
IMPORT_OPTIONS: tuple[Option, ...] = (
    ("arch", "", TEXT, "ARCH", "The architecture that the image is for"),
    CHANGE,
    ("message", "m", TEXT, "TEXT", "A comment for the image's history"),
    ("os", "", TEXT, "OS", "The operating system that the image is for"),
    ("quiet", "q", FLAG, "", "Show nothing but the id"),
    SIGNATURE_POLICY,
    ("variant", "", TEXT, "VARIANT", "The variant of the architecture"),
)


def load(ctx: Context, args: Parsed) -> int:
    result = _load(ctx, args)
    for name in result["names"] or result["ids"]:
        ctx.out(f"Loaded image: {name}")
    return 0


def _load(ctx: Context, args: Parsed) -> dict[str, Any]:
    if not args.given("input"):
        if os.isatty(0):
            raise InvalidArgument(
                "cannot load an image from a terminal", hint="redirect standard input, or use --input"
            )
        return _pass_on(ctx, "Image.Load", {}, 0, quiet=args.quiet)
    if os.path.isdir(args.input):
        from pyman.cli.transfer import follow
        from pyman.cli.values import absolute

        request = {"path": absolute(args.input), "quiet": args.quiet}
        return follow(ctx, "Image.Load", request, quiet=args.quiet)
    return _from(ctx, "Image.Load", {}, args.input, quiet=args.quiet)


def import_image(ctx: Context, args: Parsed) -> int:
    source = args.arguments[0]
    request = {
        "reference": args.arguments[1] if len(args.arguments) > 1 else "",
        "changes": args.change,
        "message": args.message,
        "platform": platform_of(args),
    }
    if source == "-":
        if os.isatty(0):
            raise InvalidArgument("cannot import from a terminal", hint="redirect standard input")
        result = _pass_on(ctx, "Image.Import", request, 0, quiet=args.quiet)
    else:
        result = _from(ctx, "Image.Import", request, source, quiet=args.quiet)
    for identity in result["ids"]:
        ctx.out(f"sha256:{identity}")
    return 0


def _from(ctx: Context, method: str, request: dict[str, Any], source: str, *, quiet: bool) -> dict[str, Any]:
    if is_address(source):
        with download(ctx, source, quiet=quiet) as file:
            return _pass_on(ctx, method, request, file.fileno(), quiet=quiet)
    descriptor = open_archive(source)
    try:
        return _pass_on(ctx, method, request, descriptor, quiet=quiet)
    finally:
        os.close(descriptor)


def _pass_on(
    ctx: Context, method: str, request: dict[str, Any], descriptor: int, *, quiet: bool
) -> dict[str, Any]:
    from pyman.cli.transfer import follow

    return follow(ctx, method, {**request, "quiet": quiet}, (descriptor,), quiet=quiet)
