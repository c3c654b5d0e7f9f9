"""Paths of the client's own that are copied into a container, or out of one to.

Whoever copies opens them, with the client's own rights; the supervisor is given descriptors and names. Standard library
only: the command line needs it, as the asynchronous client does.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from pyman.errors import InvalidArgument, NotFound, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["destination", "means_contents", "name_of", "opened", "opened_directory"]


def means_contents(path: str) -> bool:
    """What is in the directory is meant."""
    return path == "." or path.endswith("/.")


def name_of(path: str) -> tuple[str, bool]:
    """What a copy of it is called, and whether what is in it is meant. The root directory has no name, and needs none."""
    name = os.path.basename(os.path.abspath(path))
    return name or "root", means_contents(path) or not name


@contextmanager
def opened(path: str) -> Iterator[int]:
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


def destination(path: str) -> tuple[str, str, bool]:
    """A directory, a name in it, and whether there is a file of that name. No name: the copy has one of its own."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if not os.path.basename(path) or means_contents(path):
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
def opened_directory(directory: str, path: str) -> Iterator[int]:
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
