"""What goes wrong in an archive program, as the daemon is to hear it.

The programs read what strangers have made, and say of it in one line what is wrong. Standard library only.
"""

from __future__ import annotations

import errno
import os

from pyman.errors import (
    ArchiveRefused,
    DigestMismatch,
    DiskFull,
    InvalidArgument,
    NotFound,
    NotSupported,
    StorageFailed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyman.errors import PymanError

__all__ = ["FULL", "KINDS", "Broken", "failed", "quoted"]

KINDS: dict[str, type[PymanError]] = {
    kind.__name__: kind
    for kind in (
        ArchiveRefused,
        DigestMismatch,
        DiskFull,
        InvalidArgument,
        NotFound,
        NotSupported,
        StorageFailed,
    )
}
"""What a program may report, by its code."""

_SHOWN = 200
"""Bytes of a name that a sentence quotes."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset(
    {
        errno.EEXIST,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.EMLINK,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EOVERFLOW,
        errno.EXDEV,
    }
)
"""What the kernel says of names and values that come from the archive."""


class Broken(Exception):
    """The archive is damaged, or is none. The text goes on after "cannot unpack it: "."""


def quoted(name: bytes) -> str:
    """A name out of an archive as a sentence can have it: printable, and not too long."""
    text = name[:_SHOWN].decode("utf-8", "backslashreplace")
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return f"'{shown}…'" if len(name) > _SHOWN else f"'{shown}'"


def failed(error: OSError, doing: str, name: bytes) -> PymanError:
    """The typed error for what the kernel has said of one member."""
    number = error.errno or errno.EIO
    sentence = f"cannot {doing} {quoted(name)}: {os.strerror(number)}"
    if number in FULL:
        return DiskFull(sentence, hint="make room, and try again")
    return (ArchiveRefused if number in _REFUSED else StorageFailed)(sentence)
