"""Places that are named by a text (`oci:./image:1`, `docker-archive:a.tar`), as the supervisor can reach them.

Its paths are made absolute, and an archive that is read, or one that is no ordinary file, is opened here: it is the
caller's, who may see it where the supervisor does not.
"""

from __future__ import annotations

import os
import stat

from pyman.cli.values import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Descriptors", "placed", "to_read", "to_write"]

_ARCHIVES = ("docker-archive", "oci-archive")


def _split(text: str) -> tuple[str, str, str]:
    """Transport, path, and what follows the path; empty ones for a place without a path."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in (*_ARCHIVES, "oci", "dir"):
        return "", "", ""
    if transport == "dir":
        return transport, rest, ""
    path, colon, inside = rest.partition(":")
    return transport, path, colon + inside


def placed(text: str) -> str:
    """With an absolute path, if it has one. Raises InvalidArgument."""
    transport, path, inside = _split(text)
    return f"{transport}:{absolute(path)}{inside}" if path else text


class Descriptors:
    """As a context: none, or one that is closed at its end."""

    def __init__(self, *opened: int) -> None:
        self._opened = opened

    def __enter__(self) -> tuple[int, ...]:
        return self._opened

    def __exit__(self, *_: object) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    def __iter__(self) -> Iterator[int]:
        return iter(self._opened)


def to_read(text: str) -> Descriptors:
    """The archive of a place, if it is one. Raises InvalidArgument."""
    transport, path, _ = _split(text)
    if transport not in _ARCHIVES or not path:
        return Descriptors()
    from pyman.cli.archive_input import open_archive

    return Descriptors(open_archive(path))


def to_write(text: str) -> Descriptors:
    """The archive of a place, if that is a pipe or a device; a file is made by the supervisor, complete or not at
    all."""
    transport, path, _ = _split(text)
    if transport not in _ARCHIVES or not path:
        return Descriptors()
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return Descriptors()
        return Descriptors(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        return Descriptors()  # the supervisor says what is wrong
