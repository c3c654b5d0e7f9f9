"""`pyman cp`: files into a container, out of it, or from one to another.

What is the client's own it opens itself, with its own rights, and hands over; whatever is in a container is found there.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from pyman.cli.options import FLAG, REFUSED, TRUE
from pyman.errors import InvalidArgument, NotFound, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
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
        contents = _is_contents(source_path)
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


def _is_contents(path: str) -> bool:
    """What is in the directory is meant."""
    return path == "." or path.endswith("/.")


def _in(ctx: Context, request: dict[str, Any], path: str) -> dict[str, Any]:
    if path == "-":
        if os.isatty(0):
            raise InvalidArgument(
                "cannot read an archive from the terminal", hint="redirect the standard input"
            )
        return ctx.call("Container.CopyIn", request, (0,))
    with _opened(path) as descriptor:
        name = os.path.basename(os.path.abspath(path))
        # The root directory has no name, and needs none.
        request = {**request, "source": name or "root", "contents": _is_contents(path) or not name}
        return ctx.call("Container.CopyIn", request, (descriptor,))


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """What a path on the host leads to."""
    try:
        mode = os.stat(path).st_mode
        # Nothing is read from others, and to open them may have consequences.
        readable = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        descriptor = os.open(path, (os.O_RDONLY if readable else os.O_PATH) | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"cannot find '{path}' on the host", subject=path) from error
    except OSError as error:
        raise StorageFailed(f"cannot read '{path}': {error.strerror}", subject=path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _out(ctx: Context, request: dict[str, Any], path: str) -> dict[str, Any]:
    request["contents"] = _is_contents(request["path"])
    if path == "-":
        if os.isatty(1):
            raise InvalidArgument("cannot write an archive to the terminal", hint="redirect standard output")
        return ctx.call("Container.CopyOut", {**request, "as_archive": True}, (1,))
    directory, target, exists = _destination(path)
    with _directory(directory, path) as descriptor:
        request = {**request, "target": target, "exists": exists}
        return ctx.call("Container.CopyOut", request, (descriptor,))


def _destination(path: str) -> tuple[str, str, bool]:
    """A directory, a name in it, and whether there is a file of that name. No name: the copy has one of its own."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if not os.path.basename(path) or _is_contents(path):
            raise NotFound(f"cannot find the directory '{path}' on the host", subject=path) from None
        return os.path.dirname(path) or ".", os.path.basename(path), False
    if stat.S_ISDIR(mode):
        return path, "", False
    if not stat.S_ISREG(mode):
        raise InvalidArgument(
            f"cannot copy to '{path}': it is neither a file nor a directory",
            subject=path,
            hint="'-' writes an archive to the standard output",
        )
    return os.path.dirname(path) or ".", os.path.basename(path), True


@contextmanager
def _directory(directory: str, path: str) -> Iterator[int]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(
            f"cannot copy to '{path}': cannot open the directory '{directory}': {error.strerror}",
            subject=path,
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
