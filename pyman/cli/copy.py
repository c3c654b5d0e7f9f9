"""`pyman cp`: files into a container, out of it, or from one to another.

What is the client's own it opens itself, with its own rights, and hands over; whatever is in a container is found there.
"""

from __future__ import annotations

import os

from pyman.cli.options import FLAG, REFUSED, TRUE
from pyman.errors import InvalidArgument
from pyman.hostpaths import destination, means_contents, name_of, opened, opened_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyman.cli.context import Context
    from pyman.cli.options import Option, Parsed

__all__ = ["COPY_OPTIONS", "copy"]

COPY_OPTIONS: tuple[Option, ...] = (
    ("archive", "a", TRUE, "", "Copies belong to the container's user; else to whom the files belong"),
    ("extract", "", REFUSED, "", "an archive is unpacked where '-' stands for the source"),
    ("overwrite", "", FLAG, "", "A directory may replace something else, and the other way round"),
    ("pause", "", REFUSED, "", "nothing that the container does meanwhile leads out of it"),
)


def copy(ctx: Context, args: Parsed) -> int:
    (source, source_path), (target, target_path) = map(_parsed, args.arguments)
    options = {"archive": args.archive, "overwrite": args.overwrite}
    if source and target:
        request = {"source": source, "source_path": source_path, "target": target, "target_path": target_path}
        contents = means_contents(source_path)
        reply = ctx.call("Container.CopyAcross", {**request, "contents": contents, **options})
    elif source:
        reply = _out(ctx, {"name": source, "path": source_path, **options}, target_path)
    elif target:
        reply = _in(ctx, {"name": target, "path": target_path, **options}, source_path)
    else:
        raise InvalidArgument(
            "cannot copy from the host to the host: one of the two has to be in a container",
            hint="write CONTAINER:PATH",
        )
    if left_out := reply["left_out"]:
        what = "1 file was" if left_out == 1 else f"{left_out} files were"
        ctx.warn(f"{what} left out: sockets and devices are not copied, nor what may not be read")
    return 0


def _parsed(text: str) -> tuple[str, str]:
    """A container and a path; no container: the path is the host's. Raises InvalidArgument."""
    container, path = "", text
    if not text.startswith((".", "/")):
        before, colon, after = text.partition(":")
        if colon:
            container, path = before, after
            if not container:
                raise InvalidArgument(f"cannot use '{text}': there is no container before the colon")
    if not path:
        raise InvalidArgument(f"cannot use '{text}': there is no path in it")
    return container, path


def _in(ctx: Context, request: dict[str, Any], path: str) -> dict[str, Any]:
    if path == "-":
        if os.isatty(0):
            raise InvalidArgument(
                "cannot read an archive from the terminal", hint="redirect the standard input"
            )
        return ctx.call("Container.CopyIn", request, (0,))
    with opened(path) as descriptor:
        source, contents = name_of(path)
        request = {**request, "source": source, "contents": contents}
        return ctx.call("Container.CopyIn", request, (descriptor,))


def _out(ctx: Context, request: dict[str, Any], path: str) -> dict[str, Any]:
    request["contents"] = means_contents(request["path"])
    if path == "-":
        if os.isatty(1):
            raise InvalidArgument("cannot write an archive to the terminal", hint="redirect standard output")
        return ctx.call("Container.CopyOut", {**request, "as_archive": True}, (1,))
    directory, target, exists = destination(path)
    with opened_directory(directory, path) as descriptor:
        request = {**request, "target": target, "exists": exists}
        return ctx.call("Container.CopyOut", request, (descriptor,))
